"""Receive with an asyncio handler, which decodes each data set or not: python -m bench.programs.handler PORT WHAT.

The work, WHAT, is "nothing" or "decode".
"""

from __future__ import annotations

import asyncio
import sys

import dicomport


async def _accept(_: dicomport.StoreRequest) -> int:
    return 0x0000


async def _decode(request: dicomport.StoreRequest) -> int:
    return 0x0000 if request.dataset().SOPInstanceUID == request.sop_instance_uid else 0x0110


async def _serve(port: int, what: str) -> None:
    handlers = {"nothing": _accept, "decode": _decode}
    async with dicomport.StorageSCP(handlers[what], port=port) as scp:
        await scp.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2]))

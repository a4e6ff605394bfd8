"""Receive into a plain folder: python -m bench.programs.folder PORT FOLDER."""

from __future__ import annotations

import asyncio
import sys

import dicomport


async def _serve(port: int, folder: str) -> None:
    storage = dicomport.FolderStorage(folder, dicomport.Durability.FLUSH)
    async with dicomport.StorageSCP(storage, port=port) as scp:
        await scp.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2]))

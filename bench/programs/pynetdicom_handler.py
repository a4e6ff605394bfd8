"""Receive with a handler of pynetdicom's, which decodes each data set or not: ... pynetdicom_handler PORT WHAT.

The work, WHAT, is "nothing" or "decode".
"""

from __future__ import annotations

import sys

from pynetdicom import AE, AllStoragePresentationContexts, evt


def _accept(_: evt.Event) -> int:
    return 0x0000


def _decode(event: evt.Event) -> int:
    return 0x0000 if event.dataset.SOPInstanceUID == event.file_meta.MediaStorageSOPInstanceUID else 0x0110


def _serve(port: int, what: str) -> None:
    entity = AE()
    entity.supported_contexts = AllStoragePresentationContexts
    entity.maximum_pdu_size = 131072
    handlers = {"nothing": _accept, "decode": _decode}
    entity.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, handlers[what])])


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2])

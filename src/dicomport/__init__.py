"""The DICOM Storage Service for Python (PS3.4 Annex B): send and receive instances by C-STORE, byte for byte.

StorageSCP      receive: calls a handler for each instance, or fills a folder
send            send files, folders and data sets, and learn the fate of each
associate       an association of one's own, for C-STORE and C-ECHO
commit          ask for storage commitment, and learn the fate of each instance
CommitmentSCP   give it, from an archive
blocking        `associate`, `send` and `commit` for programs without asyncio
sop_classes     the storage SOP Classes, by keyword or UID
Status          what a C-STORE is answered with
wire            PDUs, command sets and file meta as values: `wire.decode`, `wire.encode`
"""

import importlib
from typing import Any, Final

__version__ = "0.1.0"

_HOMES: Final = {
    words[3]: words[1]
    for line in __loader__.get_data(f"{__path__[0]}/__init__.pyi").decode().splitlines()
    if (words := line.split())[:1] == ["from"] and words[1].startswith("dicomport")
}
"""The module of each public name, read from the stub that type checkers read: `from MODULE import NAME as NAME`."""

__all__ = list(_HOMES)
__all__ += ["__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: a sender does not wait for the receiver, nor the reverse."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dicomport' has no attribute {name!r}")
    home = _HOMES[name]
    if home == __name__:
        return importlib.import_module(f"{home}.{name}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

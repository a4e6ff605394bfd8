"""The DICOM Storage Service for Python (PS3.4 Annex B): send and receive instances by C-STORE, byte for byte.

StorageSCP      receive instances: call a handler for each, or store them in a folder
send            send files, folders and data sets; the report has the result of each instance
associate       open an association for C-STORE and C-ECHO
commit          request storage commitment (PS3.4 Annex J); the report has the result of each instance
CommitmentSCP   serve storage commitment from an archive
blocking        `associate`, `send` and `commit` for programs without asyncio
sop_classes     the storage SOP Classes, by keyword or UID
Status          the status of a C-STORE response
wire            PDUs, command sets and file meta as values: `wire.decode`, `wire.encode`
"""

import importlib
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any

__version__ = "0.1.0"


def late_imports(spec: ModuleSpec) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__all__`, `__getattr__` and `__dir__` of a package that imports each public name when it is first used.

    So a sender does not wait for the receiver, nor a finder of files for the network. The names are read from the stub
    that type checkers read: `from MODULE import NAME as NAME, ...`.
    """
    stub: str = spec.loader.get_data(f"{spec.submodule_search_locations[0]}/__init__.pyi").decode()
    statements = (statement.partition(" import ") for statement in f"\n{stub}".split("\nfrom ")[1:])
    homes = {
        words[0]: home
        for home, _, names in statements
        for words in map(str.split, names.replace("(", "").split(","))
        if home.startswith("dicomport") and words[1:2] == ["as"]
    }

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {spec.name!r} has no attribute {name!r}")
        home = homes[name]
        if home == spec.name:
            return importlib.import_module(f"{home}.{name}")
        value = vars(sys.modules[spec.name])[name] = getattr(importlib.import_module(home), name)
        return value

    return list(homes), get, lambda: sorted({*vars(sys.modules[spec.name]), *homes})


__all__, __getattr__, __dir__ = late_imports(__spec__)
__all__ += ["__version__"]

"""The machine and the programs of a measurement."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Final

__all__ = ["describe_machine"]

_COMMANDS: Final = {"DCMTK": ("storescp", "--version"), "Orthanc": ("Orthanc", "--version")}


def describe_machine() -> dict[str, str]:
    """Describe the machine and the programs briefly."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {re.split('[-+]', platform.release())[0]}",
        "Python": f"{platform.python_version()}, {_build()}",
        "dicomport": _distribution("dicomport"),
        **{name: _command(*command) for name, command in _COMMANDS.items()},
        "pynetdicom": _distribution("pynetdicom"),
    }


def _processor() -> str:
    found = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return found[1] if found else platform.machine()


def _build() -> str:
    """Describe how this Python was built, as far as its configuration shows it."""
    arguments = str(sysconfig.get_config_var("CONFIG_ARGS"))
    flags = {"PGO": "--enable-optimizations", "LTO": "--with-lto"}
    named = [name for name, flag in flags.items() if flag in arguments]
    return (
        f"{platform.python_compiler()}, configured {'with ' + ' and '.join(named) if named else 'without PGO and LTO'}"
    )


def _distribution(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def _command(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return "-"
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+(\.\d+)+", shown)
    return found[0] if found else "-"

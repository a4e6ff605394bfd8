"""The measured programs: ours, DCMTK's, pynetdicom's, Orthanc, and a bare copy as a baseline of the machine."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

_PYTHON: Final = (sys.executable, "-m")
_OURS: Final = (*_PYTHON, "dicomport")
_PROGRAMS: Final = "bench.programs"
_DEBIAN: Final = "/usr/bin/python3"
"""Debian's Python, which is built with profile-guided and link-time optimization."""
_PACKAGES: Final = os.pathsep.join((sysconfig.get_path("purelib"), str(Path(__file__).parent.parent / "src")))

_HOW_TO_GET: Final = {
    "storescp": "DCMTK (Debian: apt install dcmtk)",
    "storescu": "DCMTK (Debian: apt install dcmtk)",
    "dcmsend": "DCMTK (Debian: apt install dcmtk)",
    "Orthanc": "Orthanc (Debian: apt install orthanc)",
    "pynetdicom": "pynetdicom (pip install pynetdicom)",
    _DEBIAN: "Debian's python3, in the version of this Python",
    "dicomport.testing.link": "a link with a delay (dicomport.testing.Link)",
}


@dataclass(frozen=True, slots=True)
class Program:
    """A receiver or a sender; in `arguments`, {port} and {folder} are filled in."""

    name: str
    arguments: tuple[str, ...]
    needs: str = ""
    """A required command or module, if it is not the first of `arguments`."""
    nodelay: bool = True
    """Whether to switch DCMTK's use of Nagle's algorithm off; by default it is on."""
    stores: bool = True
    """Whether a receiver stores each instance in a file; the responses show that another one has received it."""
    python_path: str = ""
    """Folders of modules, for another Python."""

    def command(self, port: int, folder: object = "") -> list[str]:
        """Return the command line."""
        return [argument.format(port=port, folder=folder) for argument in self.arguments]

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables added to the environment."""
        paths = {"PYTHONPATH": self.python_path} if self.python_path else {}
        return paths | ({"TCP_NODELAY": "1"} if self.nodelay else {})

    @property
    def missing(self) -> str:
        """The missing program, or ""."""
        if self.python_path:
            return "" if _runs(self.arguments[0], self.python_path) else _HOW_TO_GET[self.arguments[0]]
        needed = self.needs or self.arguments[0]
        if shutil.which(needed) is None and not _importable(needed):
            return _HOW_TO_GET[needed]
        if self.arguments[: len(_OURS)] == _OURS:
            command, *options = self.arguments[len(_OURS) :]
            unknown = [option for option in options if option.startswith("--") and option not in _help(command)]
            return f"{command} {unknown[0]}" if unknown else ""
        return ""


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@functools.cache
def _runs(python: str, path: str) -> bool:
    """Return whether another Python exists and can use the packages of this one."""
    command, environment = (python, "-c", "import dicomport.scp, pydicom, blake3"), {**os.environ, "PYTHONPATH": path}
    try:
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@functools.cache
def _help(command: str) -> frozenset[str]:
    """Return the words of a command's help text, options included."""
    shown = subprocess.run((*_OURS, command, "--help"), capture_output=True, text=True, check=True)
    return frozenset(shown.stdout.replace(",", " ").split())


def _ours(name: str, module: str, *arguments: str) -> Program:
    return Program(name, (*_PYTHON, f"{_PROGRAMS}.{module}", *arguments))


def _archive(name: str, durability: str, *options: str) -> Program:
    return Program(
        name,
        (*_OURS, "storescp", "-q", "--durability", durability, *options, "--archive", "{folder}", "{port}"),
    )


# Receivers.
FOLDER: Final = _ours("dicomport, plain folder", "folder", "{port}", "{folder}")
FOLDER_DEBIAN: Final = replace(
    FOLDER,
    name="dicomport, plain folder, Debian's Python",
    arguments=(_DEBIAN, *FOLDER.arguments[1:]),
    python_path=_PACKAGES,
)
HANDLER: Final = replace(_ours("dicomport, handler", "handler", "{port}", "nothing"), stores=False)
HANDLER_DECODING: Final = replace(_ours("dicomport, decoding handler", "handler", "{port}", "decode"), stores=False)
ARCHIVE: Final = _archive("dicomport storescp", "flush")
ARCHIVE_CROWDED: Final = _archive(
    "dicomport storescp", "flush", "--max-associations-per-address", "1000", "--max-associations-per-aet", "1000"
)
ARCHIVE_FSYNC: Final = _archive("dicomport storescp, fsync", "fsync")
ONE_WORKER: Final = _archive("dicomport storescp --workers 1", "flush", "--workers", "1")
TWO_WORKERS: Final = _archive("dicomport storescp --workers 2", "flush", "--workers", "2")
_STORESCP: Final = ("storescp", "+B", "-pdu", "131072", "-od", "{folder}", "{port}")
DCMTK: Final = Program("DCMTK storescp +B", _STORESCP)
DCMTK_NAGLE: Final = Program("DCMTK storescp +B, as installed", _STORESCP, nodelay=False)
PYNETDICOM: Final = Program(
    "pynetdicom storescp",
    (*_PYTHON, "pynetdicom", "storescp", "-q", "-pdu", "131072", "-od", "{folder}", "{port}"),
    needs="pynetdicom",
)
PYNETDICOM_HANDLER: Final = Program(
    "pynetdicom handler",
    (*_PYTHON, f"{_PROGRAMS}.pynetdicom_handler", "{port}", "nothing"),
    needs="pynetdicom",
    stores=False,
)
PYNETDICOM_DECODING: Final = replace(
    PYNETDICOM_HANDLER,
    name="pynetdicom decoding handler",
    arguments=(*PYNETDICOM_HANDLER.arguments[:-1], "decode"),
)
ORTHANC: Final = Program("Orthanc", (*_PYTHON, f"{_PROGRAMS}.orthanc", "{port}", "{folder}"), needs="Orthanc")
BARE_RECEIVER: Final = _ours("bare copy", "bare_receiver", "{port}", "{folder}")
BARE_SCP: Final = _ours("bare receiver", "bare_scp", "{port}", "{folder}")

# Senders.
OUR_STORESCU: Final = Program("dicomport storescu", (*_OURS, "storescu", "-q", "127.0.0.1", "{port}", "{folder}"))
OUR_STORESCU_4, OUR_STORESCU_16 = (
    replace(
        OUR_STORESCU,
        name=f"{OUR_STORESCU.name}, {number} associations",
        arguments=(*OUR_STORESCU.arguments, "--associations", str(number)),
    )
    for number in (4, 16)
)
STORESCU: Final = Program("DCMTK storescu", ("storescu", "+sd", "-R", "127.0.0.1", "{port}", "{folder}"))
STORESCU_NAGLE: Final = Program("DCMTK storescu, as installed", STORESCU.arguments, nodelay=False)
DCMSEND: Final = Program("DCMTK dcmsend", ("dcmsend", "+sd", "127.0.0.1", "{port}", "{folder}"))
PYNETDICOM_STORESCU: Final = Program(
    "pynetdicom storescu",
    (*_PYTHON, "pynetdicom", "storescu", "-q", "-cx", "127.0.0.1", "{port}", "{folder}"),
    needs="pynetdicom",
)
BARE_SENDER: Final = _ours("bare copy", "bare_sender", "{port}", "{folder}")

# Clients with other work than sending a folder; each interprets {folder} itself.
OUR_ECHO: Final = _ours("dicomport", "echo", "{port}", "{folder}")
PYNETDICOM_ECHO: Final = Program(
    "pynetdicom", (*_PYTHON, f"{_PROGRAMS}.pynetdicom_echo", "{port}", "{folder}"), needs="pynetdicom"
)
ONE_EACH: Final = _ours("one association for each", "one_each", "{port}", "{folder}")
IDLE: Final = _ours("idle associations", "idle", "{port}", "{folder}")
LINK: Final = Program("a link with a delay", (), needs="dicomport.testing.link")
"""Not run as a command: it is part of the test kit."""

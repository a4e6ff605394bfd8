"""One module has the calls on files, so that platforms differ in one place and a test can make any call fail."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from dicomport.files import system

PACKAGE: Final = Path(system.__file__).parents[1]
SYSTEM: Final = Path(system.__file__).relative_to(PACKAGE).as_posix()

ALLOWED: Final = {
    ("net/send_queue.py", "fcntl"),  # ioctl of a socket
    ("cli/receiver/workers.py", "os.close"),  # an end of a pipe
    # Files that belong to the user, and are read or written once.
    ("scp/access/passwords.py", "read_text()"),
    ("net/tls/files.py", "open()"),  # also of a descriptor
    ("cli/options/tls.py", "read_text()"),
    ("cli/receiver/config.py", "read_text()"),
    ("cli/sender/output.py", "open()"),
    ("scu/inputs/paths.py", "os.read"),  # standard input
    ("scu/sending/journal.py", "open()"),  # of a descriptor
    ("archive/export.py", "open()"),  # of a descriptor, and of an entry of a zip file
    # Files and folders without a promise, which disappear with the process.
    ("cli/demo.py", "tempfile.TemporaryDirectory"),
    ("files/spool.py", "tempfile.TemporaryDirectory"),
    ("files/spool.py", "tempfile.TemporaryFile"),
    ("net/tls/files.py", "os.memfd_create"),  # net does not import files
    ("net/tls/revocation.py", "tempfile.TemporaryDirectory"),
    ("net/tls/revocation.py", "write_bytes()"),
    # Standard streams that are missing, or whose reader has ended.
    ("cli/program.py", "open()"),
    ("cli/program.py", "os.open"),
    ("cli/program.py", "os.close"),
    ("cli/system_errors.py", "open()"),
}


def names_of(tree: ast.Module) -> frozenset[str]:
    """List the functions that the module takes from `os`, and their relatives."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "os"]
    imported = {alias.name for node in imports for alias in node.names}
    return frozenset(imported | {"fdatasync", "posix_fallocate", "pwrite", "pwritev", "readv", "rename", "writev"})


NAMES: Final = names_of(ast.parse(Path(system.__file__).read_text(encoding="utf-8")))
METHODS: Final = frozenset(
    {
        *("chmod", "hardlink_to", "lchmod", "mkdir", "read_bytes", "read_text", "rename"),
        *("rmdir", "symlink_to", "touch", "unlink", "write_bytes", "write_text"),
    }
)
"""Methods of `pathlib` that read or change files. Those that ask for names or their status promise nothing."""
HARMLESS: Final = frozenset({"get_terminal_size", "which"})
"""Functions of `shutil` that read and change no files."""


def uses(tree: ast.AST) -> Iterator[str]:
    """Find the calls on files: functions of `os`, `fcntl`, `shutil` and `tempfile`, and methods of `pathlib`."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="os" | "posix"), attr=name) if name in NAMES:
                yield f"os.{name}"
            case ast.Attribute(value=ast.Name(id="shutil" | "tempfile" as module), attr=name) if name not in HARMLESS:
                yield f"{module}.{name}"
            case ast.Attribute(value=ast.Name(id="system")):
                pass
            case ast.Attribute(attr=name) if name in METHODS:
                yield f"{name}()"
            case ast.Call(func=func) if _is_open(func):
                yield "open()"
            # `str.replace` needs two arguments.
            case ast.Call(func=ast.Attribute(value=value, attr="replace"), args=[_], keywords=[]) if not _is_class(
                value
            ):
                yield "replace()"  # `str.replace` needs two arguments
            case ast.ImportFrom(module="os" | "posix", names=names):
                yield from (f"os.{alias.name}" for alias in names if alias.name in NAMES)
            case ast.ImportFrom(module="shutil" | "tempfile" as module, names=names):
                yield from (f"{module}.{alias.name}" for alias in names if alias.name not in HARMLESS)
            case ast.ImportFrom(module="fcntl"):
                yield "fcntl"
            case ast.Import(names=names):
                yield from (alias.name for alias in names if alias.name in ("fcntl", "posix"))
                yield from (
                    f"{alias.name} as {alias.asname}"
                    for alias in names
                    if alias.name in ("os", "shutil", "tempfile") and alias.asname
                )


def _is_open(func: ast.expr) -> bool:
    """Return whether a call opens a file: the built-in function, or the method of a path."""
    match func:
        case ast.Name(id="open"):
            return True
        case ast.Attribute(value=value, attr="open"):
            return not _is_class(value)
    return False


def _is_class(value: ast.expr) -> bool:
    """Return whether an expression names a class, or a module whose name is not that of a path."""
    return isinstance(value, ast.Name) and (value.id[0].isupper() or value.id in ("cls", "os", "system", "tarfile"))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os\nos.open('a', 0)", ["os.open"]),
        ("import os\nfsync = os.fsync", ["os.fsync"]),
        ("from os import replace as give", ["os.replace"]),
        ("def lock():\n    import fcntl", ["fcntl"]),
        ("from fcntl import flock", ["fcntl"]),
        ("import os as system", ["os as system"]),
        ("path.unlink(missing_ok=True)", ["unlink()"]),
        ("(root / 'a').write_text('b')\nPath('a').mkdir()", ["write_text()", "mkdir()"]),
        ("with path.open('rb') as file:\n    pass\nopen('a')", ["open()", "open()"]),
        ("path.replace(other)\n'a'.replace('a', 'b')", ["replace()"]),
        ("import shutil\nshutil.copyfile('a', 'b')\nshutil.which('a')", ["shutil.copyfile"]),
        ("from shutil import rmtree, which", ["shutil.rmtree"]),
        ("import tempfile\nremove = system.unlink\nAssociation.open()\ntempfile.mkdtemp()", ["tempfile.mkdtemp"]),
        ("import shutil as files", ["shutil as files"]),
        ("import os\nos.path.join('a', 'b')\nos.cpu_count()\n'a'.replace('a', 'b')", []),
    ],
)
def test_each_way_to_a_call_is_found(source: str, found: list[str]) -> None:
    assert list(uses(ast.parse(source))) == found


def test_they_are_the_functions_themselves() -> None:
    for name in NAMES & set(system.__all__):
        assert getattr(system, name) is getattr(os, name)
    assert system.open_descriptor is os.open
    assert {"fsync", "link", "open", "replace", "rename", "statvfs", "unlink", "write"} <= NAMES


def test_no_other_module_calls_the_system_on_files() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), use)
        for path in PACKAGE.rglob("*.py")
        for use in uses(ast.parse(path.read_text(encoding="utf-8")))
        if path.relative_to(PACKAGE).as_posix() != SYSTEM
    }
    assert found == ALLOWED

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
}


def names_of(tree: ast.Module) -> frozenset[str]:
    """List the functions that the module takes from `os`, and their relatives."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "os"]
    imported = {alias.name for node in imports for alias in node.names}
    return frozenset(imported | {"fdatasync", "posix_fallocate", "pwrite", "pwritev", "readv", "rename", "writev"})


NAMES: Final = names_of(ast.parse(Path(system.__file__).read_text(encoding="utf-8")))


def uses(tree: ast.AST) -> Iterator[str]:
    """Find the calls on files: attributes of `os`, imports from it, and `fcntl` as a whole."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("os", "posix"):
            if node.attr in NAMES:
                yield f"os.{node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module in ("os", "posix"):
            yield from (f"os.{alias.name}" for alias in node.names if alias.name in NAMES)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in ("fcntl", "posix"))
            yield from (f"os as {alias.asname}" for alias in node.names if alias.name == "os" and alias.asname)
        elif isinstance(node, ast.ImportFrom) and node.module == "fcntl":
            yield "fcntl"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os\nos.open('a', 0)", ["os.open"]),
        ("import os\nfsync = os.fsync", ["os.fsync"]),
        ("from os import replace as give", ["os.replace"]),
        ("def lock():\n    import fcntl", ["fcntl"]),
        ("from fcntl import flock", ["fcntl"]),
        ("import os as system", ["os as system"]),
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

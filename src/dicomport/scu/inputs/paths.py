"""Paths below a folder, of a glob, and from a list, a few at a time.

`os.walk` lists one folder at a time here: on Python 3.11 it is recursive, and a folder thousands of levels deep exceeds
the recursion limit. `glob` is not used, because its `**` follows links, in circles too, and its order is not sorted.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

_BLOCK_BYTES: Final = 1 << 16
_MAX_PATH: Final = 1 << 16
"""More than any file system allows, bytes."""
_SEPARATOR: Final = re.compile(rb"[\n\0]")
_MAGIC: Final = re.compile(r"[*?[]")


def walk(folder: str) -> Iterator[str]:
    """Yield the files below a folder, sorted by name, files before folders, without hidden ones of either.

    Links to folders are not followed. Folders that cannot be listed come last: reading them reports the reason.
    """
    unlisted: list[str] = []
    for found in _folders(folder, lambda name: not _is_hidden(name), unlisted.append):
        prefix = os.path.join(found.path, "")
        for name in found.files:
            if not _is_hidden(name):
                yield prefix + name
    yield from unlisted


def _is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, such as the folder of an archive's index."""
    return name.startswith(".")


class _Folder(NamedTuple):
    """The content of a folder, sorted by name."""

    path: str
    folders: list[str]
    """Links to folders included."""
    files: list[str]


def _list(folder: str) -> _Folder | None:
    """List a folder, the working directory for an empty path; return None if it cannot be listed."""
    _, folders, files = next(os.walk(folder or os.curdir), (folder, None, []))
    return None if folders is None else _Folder(folder, sorted(folders), sorted(files))


def _folders(folder: str, enters: Callable[[str], bool], on_error: Callable[[str], object]) -> Iterator[_Folder]:
    """Yield a folder and all below it whose names `enters` accepts, without links."""
    waiting = [folder]
    while waiting:
        found = _list(path := waiting.pop())
        if found is None:
            on_error(path)
            continue
        yield found
        below = (os.path.join(path, name) for name in reversed(found.folders) if enters(name))
        waiting += (path for path in below if not os.path.islink(path))


def is_glob(path: str) -> bool:
    """Return whether a path contains a wildcard."""
    return _MAGIC.search(path) is not None


def expand_glob(pattern: str) -> Iterator[str]:
    """Yield the files and folders that match a glob, sorted by name.

    As in a shell, wildcards match a name that begins with a dot only if the pattern begins with one too, and `**`
    matches any number of folders, without hidden ones and links.
    """
    parts = [part for part in pattern.split(os.sep) if part]
    return _below(os.sep if pattern.startswith(os.sep) else "", parts)


def _below(folder: str, parts: list[str]) -> Iterator[str]:
    if not parts:
        yield folder or os.curdir
        return
    part, *rest = parts
    if part == "**" and rest:
        # A folder that matches the last part is yielded as a whole, not entered.
        last = rest[0] if len(rest) == 1 else ""
        for found in _folders(folder, lambda name: not (_is_hidden(name) or _matches(name, last)), lambda _: None):
            yield from _below(found.path, rest)
    elif part == "**":
        yield folder or os.curdir
    elif is_glob(part):
        found_here = _list(folder)
        if found_here is not None:
            for name in sorted((*found_here.folders, *(() if rest else found_here.files))):
                if _matches(name, part):
                    yield from _below(os.path.join(folder, name), rest)
    elif os.path.lexists(path := os.path.join(folder, part)):
        yield from _below(path, rest)


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) and (not _is_hidden(name) or _is_hidden(pattern))


def read_list(descriptor: int) -> Iterator[list[str]]:
    """Read the paths of a list, as many as have arrived at a time: one a line, or each followed by a NUL.

    The first of the two separators decides. The list is read from the file descriptor, because a thread that waits in
    Python's own stream keeps the process from ending. Raises `OSError`, and `ValueError` if it is not a list of paths.
    """
    rest = separator = b""
    while True:
        block = os.read(descriptor, _BLOCK_BYTES)
        rest += block
        if not separator and (first := _SEPARATOR.search(rest)):
            separator = first[0]
        *paths, rest = rest.split(separator) if separator else (rest,)
        if len(rest) > _MAX_PATH:
            raise ValueError(f"not a list of paths: {len(rest)} bytes without a line end")
        if not block:
            paths.append(rest)
        # Lists from Windows end their lines with CR LF.
        yield [os.fsdecode(path.removesuffix(b"\r") if separator == b"\n" else path) for path in paths if path.strip()]
        if not block:
            return

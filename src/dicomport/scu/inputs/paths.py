"""Paths: below a folder, of a glob, from a list; a few at a time, however many there are."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

__all__ = ["is_glob", "listed", "matches", "walk"]

_BLOCK_BYTES: Final = 1 << 16
_MAX_PATH: Final = 1 << 16
"""More than any file system takes, bytes."""
_SEPARATOR: Final = re.compile(rb"[\n\0]")
_MAGIC: Final = re.compile(r"[*?[]")


def walk(folder: str) -> Iterator[str]:
    """Give all files below a folder in the order of their names, files first; links to folders are not followed.

    Folders that can't be listed come last: reading them will say why.
    """
    unlisted: list[str] = []
    for at in _folders(folder, lambda _: True, unlisted.append):
        prefix = os.path.join(at.path, "")
        for name in at.files:
            yield prefix + name
    yield from unlisted


class _Folder(NamedTuple):
    """What is in a folder, in the order of names."""

    path: str
    files: list[str]
    folders: list[str]
    links: list[str]
    """To folders."""


def _list(folder: str) -> _Folder:
    """List a folder; an empty path is the working directory. Raises `OSError`."""
    found = _Folder(folder, [], [], [])
    with os.scandir(folder or os.curdir) as entries:
        for entry in entries:
            names = found.files if not _is_folder(entry) else found.links if entry.is_symlink() else found.folders
            names.append(entry.name)
    for names in (found.files, found.folders, found.links):
        names.sort()
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; reading it will say so
        return False


def _folders(folder: str, into: Callable[[str], bool], unlisted: Callable[[str], object]) -> Iterator[_Folder]:
    """Give a folder and all below it, but for those into whose name one is not to go."""
    waiting = [folder]
    while waiting:
        at = waiting.pop()
        try:
            found = _list(at)
        except OSError:
            unlisted(at)
            continue
        yield found
        waiting += [os.path.join(at, name) for name in reversed(found.folders) if into(name)]


def is_glob(path: str) -> bool:
    """Whether a path has something in it that stands for other characters."""
    return _MAGIC.search(path) is not None


def matches(pattern: str) -> Iterator[str]:
    """Give the files and folders that match a glob, in the order of names.

    As in a shell, a name that begins with a dot is matched only by a pattern that does, and `**` stands for any number
    of folders, none of which is hidden or a link.
    """
    parts = [part for part in pattern.split(os.sep) if part]
    return _below(os.sep if pattern.startswith(os.sep) else "", parts)


def _below(folder: str, parts: list[str]) -> Iterator[str]:
    if not parts:
        yield folder or os.curdir
        return
    part, *rest = parts
    if part == "**" and rest:
        # A folder that matches is given as a whole.
        given = rest[0] if len(rest) == 1 else ""
        for at in _folders(folder, lambda name: not (name[0] == "." or _matches(name, given)), lambda _: None):
            yield from _below(at.path, rest)
    elif part == "**":
        yield folder or os.curdir
    elif is_glob(part):
        yield from _matching(folder, part, rest)
    elif os.path.lexists(path := os.path.join(folder, part)):
        yield from _below(path, rest)


def _matching(folder: str, part: str, rest: list[str]) -> Iterator[str]:
    try:
        found = _list(folder)
    except OSError:
        return
    for name in sorted((*found.folders, *found.links) if rest else (*found.files, *found.folders, *found.links)):
        if _matches(name, part):
            yield from _below(os.path.join(folder, name), rest)


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) and (name[0] != "." or pattern[0] == ".")


def listed(descriptor: int) -> Iterator[list[str]]:
    """Read the paths of a list, as many as have come at a time: one a line, or each followed by a NUL.

    Which of the two it is, the first of either says. It is read where the operating system has it, since a thread
    that waits in Python's own stream keeps a process from its end. Raises `OSError`, and `ValueError` for what is no
    list of paths.
    """
    rest = separator = b""
    while True:
        block = os.read(descriptor, _BLOCK_BYTES)
        rest += block
        if not separator and (first := _SEPARATOR.search(rest)):
            separator = first[0]
        *paths, rest = rest.split(separator) if separator else (rest,)
        if len(rest) > _MAX_PATH:
            raise ValueError(f"it is no list of paths: {len(rest)} bytes without a line's end")
        if not block:
            paths.append(rest)
        # Lists made on another system end their lines in another way.
        yield [os.fsdecode(path.removesuffix(b"\r") if separator == b"\n" else path) for path in paths if path.strip()]
        if not block:
            return

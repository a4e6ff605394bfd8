"""Folders below a root that are held open, so that no symbolic link leads out of the root.

Theory of operation
-------------------
A folder is opened one part of its path after the other, each relative to the folder above it, and no symbolic link is
followed. The descriptors of the folders that were used last stay open. A file gets its name relative to the descriptor:
it cannot be created in another folder, even if the path is changed meanwhile.

Each use begins with a comparison: each part of the path must still lead to the folder that was opened. After a folder
was removed, renamed, or replaced by a link or by another file system, it is opened again, and created if it is missing.
The root itself is never created.

A folder that was not held may be new, or another process may have created it and not synced it. So, with fsync, the
names of the folder and of those above it are synced before the first use. If that fails, the folder is not held, and
the next use syncs them again.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from typing import Final, NamedTuple

from dicomport.files import system
from dicomport.files.permissions import Owner, create_folder

_MAX_HELD: Final = 32
"""Limit of descriptors between two batches."""


class _Part(NamedTuple):
    """A part of a folder's path, and the folder to which it leads."""

    path: str
    device: int
    inode: int


class HeldFolder:
    """A folder with an open descriptor. `Folders` closes it."""

    __slots__ = ("_parts", "descriptor")

    def __init__(self, descriptor: int, parts: tuple[_Part, ...]) -> None:
        self.descriptor = descriptor
        self._parts = parts

    def is_unchanged(self) -> bool:
        """Return whether the path still leads to this folder, without a link. Raises `OSError`."""
        try:
            for path, device, inode in self._parts:
                status = os.lstat(path)
                if status.st_ino != inode or status.st_dev != device:
                    return False
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def sync(self) -> None:
        """Write the names in the folder to stable storage. Raises `OSError`."""
        system.fsync(self.descriptor)


class Folders:
    """The held folders below a root. One thread at a time uses them."""

    def __init__(self, root: str, *, syncs: bool, owner: Owner | None = None, max_held: int = _MAX_HELD) -> None:
        """`root` has no symbolic links. New folders belong to `owner`, by default to the user of the process."""
        self._root = root
        self._syncs = syncs
        self._owner = owner
        self._max_held = max_held
        self._held: dict[str, HeldFolder] = {}
        """The folders by path, in the order of their last use."""

    def hold(self, place: str) -> HeldFolder:
        """Return a folder by its path below the root, and create it if it is missing; it is valid until `trim`.

        Call this once for each folder between two calls of `trim`. Raises `OSError`.
        """
        held = self._held.pop(place, None)
        if held is not None and not self._is_valid(held):
            held = None
        if held is None:
            held = self._open(place)
        self._held[place] = held
        return held

    def forget(self, place: str) -> None:
        """Close a folder: its names could not be synced."""
        held = self._held.pop(place, None)
        if held is not None:
            system.close(held.descriptor)

    def trim(self) -> None:
        """Close the folders that were not used for the longest time, above the limit."""
        while len(self._held) > self._max_held:
            self.forget(next(iter(self._held)))

    def close(self) -> None:
        """Close all folders."""
        for place in list(self._held):
            self.forget(place)

    def _is_valid(self, held: HeldFolder) -> bool:
        """Return whether a held folder can be used; close it otherwise."""
        valid = False
        try:
            valid = held.is_unchanged()
        finally:
            if not valid:
                system.close(held.descriptor)
        return valid

    def _open(self, place: str) -> HeldFolder:
        names = place.split("/") if place else []
        paths = [self._root, *(f"{self._root}/{path}" for path in itertools.accumulate(names, "{}/{}".format))]
        descriptors: list[int] = []
        created: list[tuple[str, int]] = []
        try:
            descriptors.append(_enter(self._root, None))
            for name in names:
                descriptors.append(self._enter_or_create(name, descriptors[-1], created))
            if self._syncs:
                for descriptor in reversed(descriptors[:-1]):
                    system.fsync(descriptor)
            parts = [
                _Part(path, status.st_dev, status.st_ino)
                for path, status in zip(paths, map(system.fstat, descriptors), strict=True)
            ]
        except BaseException:
            for name, parent in reversed(created):
                with contextlib.suppress(OSError):
                    system.rmdir(name, dir_fd=parent)
            _close(descriptors)
            raise
        _close(descriptors[:-1])
        # The root without its own check: it has no link, and a part below it would differ too.
        return HeldFolder(descriptors[-1], tuple(parts[1:] or parts))

    def _enter_or_create(self, name: str, parent: int, created: list[tuple[str, int]]) -> int:
        with contextlib.suppress(FileNotFoundError):
            return _enter(name, parent)
        with contextlib.suppress(FileExistsError):
            create_folder(name, parent)
            created.append((name, parent))
            if self._owner is not None:
                self._owner.give(name, parent)
        return _enter(name, parent)


def _enter(name: str, parent: int | None) -> int:
    """Open a folder. Raises `OSError`, also if it is a symbolic link."""
    try:
        return system.open_descriptor(name, system.FOLDER | system.NOFOLLOW, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        if stat.S_ISLNK(os.lstat(name, dir_fd=parent).st_mode):
            text = "a symbolic link in the place of a folder: replace it by the folder, for example by a mount"
            raise OSError(errno.ELOOP, text, name) from None
        raise


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        system.close(descriptor)

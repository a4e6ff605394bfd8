"""Small files that are read, written or copied whole, and the removal of files and folders, on top of `system`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from dicomport.files import system
from dicomport.files.permissions import open_as_owner, open_file
from dicomport.wire import Buffer

_BLOCK_BYTES: Final = 1 << 16


def read_text(path: str | Path, *, errors: str = "strict") -> str:
    """Read a file in UTF-8; `errors` is that of `bytes.decode`. Raises `OSError` and `UnicodeDecodeError`."""
    blocks: list[bytes] = []
    descriptor = system.open_descriptor(path, system.READ)
    try:
        while block := system.read(descriptor, _BLOCK_BYTES):
            blocks.append(block)
    finally:
        system.close(descriptor)
    return b"".join(blocks).decode("utf-8", errors)


def write_text(path: str | Path, text: str, *, syncs: bool) -> None:
    """Create a file in UTF-8 as `open_as_owner` does, and sync it if `syncs` is true.

    Raises `FileExistsError` if the name is taken, and `OSError` after removing the file.
    """
    descriptor = open_as_owner(path, system.CREATE_NEW)
    try:
        try:
            write_all(descriptor, text.encode())
            if syncs:
                system.fsync(descriptor)
        finally:
            system.close(descriptor)
    except BaseException:
        remove(path)
        raise


def copy_file(source: str | Path, target: str | Path) -> None:
    """Copy the bytes of a file to a new file. Raises `FileExistsError` if the name is taken, and `OSError`."""
    reading = system.open_descriptor(source, system.READ)
    try:
        writing = open_file(target, system.CREATE_NEW)
        try:
            while block := system.read(reading, _BLOCK_BYTES):
                write_all(writing, block)
        finally:
            system.close(writing)
    finally:
        system.close(reading)


def write_all(descriptor: int, data: Buffer) -> None:
    """Write all bytes. Raises `OSError`."""
    view = memoryview(data)
    while view:
        view = view[system.write(descriptor, view) :]


def remove(path: str | Path) -> None:
    """Remove a file, unless it is missing. Raises `OSError`."""
    with contextlib.suppress(FileNotFoundError):
        system.unlink(path)


def remove_folder(folder: str | Path) -> None:
    """Remove a folder and all that is in it, unless it is missing. Raises `OSError`."""
    with contextlib.suppress(FileNotFoundError):
        remove_content(folder)
        system.rmdir(folder)


def remove_content(folder: str | Path, *, except_for: str = "") -> None:
    """Remove all that is in a folder, except for one name. Raises `OSError`."""
    with system.scandir(folder) as found:
        entries = [entry for entry in found if entry.name != except_for]
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            remove_folder(entry.path)
        else:
            remove(entry.path)

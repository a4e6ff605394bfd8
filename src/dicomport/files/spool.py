"""Temporary files without a name, and temporary folders."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

from dicomport.files import system
from dicomport.files.reading import read_range
from dicomport.files.small import write_all
from dicomport.files.writing import Durability, make_folder
from dicomport.wire import Buffer


class Spool:
    """A temporary file without a name: it disappears when it is closed, unreferenced, or the process ends."""

    def __init__(self, folder: Path | None = None) -> None:
        """Create the file in `folder`, which is created too if it is missing, or in TMPDIR. Raises `OSError`."""
        if folder is not None:
            make_folder(folder, Durability.FLUSH)
        file = tempfile.TemporaryFile(buffering=0, prefix="dicomport-", dir=folder)  # noqa: SIM115  # see the last line
        self.size = 0
        """Number of bytes in the file."""
        self._descriptor = file.fileno()
        self.close = weakref.finalize(self, file.close)
        """Close the file."""

    def append(self, data: Buffer) -> None:
        """Append bytes. Raises `OSError`."""
        self.size += len(data)
        write_all(self._descriptor, data)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Read bytes at an offset, and return their number. Raises `OSError`."""
        return system.preadv(self._descriptor, [buffer], offset)

    def chunks(self, offset: int, size: int, chunk_bytes: int) -> Iterator[memoryview]:
        """Read a part of the file in chunks; each chunk is valid until the next one is read."""
        yield from read_range(self._descriptor, offset, size, chunk_bytes)


class TemporaryFolder:
    """A folder for this user in TMPDIR: it is removed when it is unreferenced or the process ends."""

    def __init__(self) -> None:
        """Create the folder. Raises `OSError`."""
        folder = tempfile.TemporaryDirectory(prefix="dicomport-", ignore_cleanup_errors=True)
        self.path = Path(folder.name)
        weakref.finalize(self, folder.cleanup)

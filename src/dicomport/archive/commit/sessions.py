"""What one process has under way in an archive: its temporary files and its journal, in a folder of its own.

A session's folder is locked for as long as its process lives. The next one to open the archive finds the folders of
processes that died: it puts what their journals say into the index, and removes them with all that was never
finished.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from dicomport.archive.records import Record
from dicomport.files import Durability, lock_folder, sync

__all__ = ["Session", "abandoned", "unindexed"]

_JOURNAL: Final = "journal-{:08}.jsonl"
_SEGMENT_BYTES: Final = 1 << 20
"""A journal's segment is closed at this length, bytes, and removed once the index has all of it."""


class Session:
    """The folder of this process. Its journal takes records before their files become visible."""

    def __init__(self, sessions: Path, durability: Durability) -> None:
        """Make the folder and lock it. Raises `OSError`."""
        self._syncs = durability is Durability.FSYNC
        with _gate(sessions):
            self.folder = Path(tempfile.mkdtemp(prefix="session-", dir=sessions))
            self._lock = lock_folder(self.folder, wait=False)
        self.indexed = 0
        """How many of the records, from the first one on, the index has. Another thread may set it."""
        self._closed: dict[Path, int] = {}
        """Segments that are full, and how many records had been written at their end."""
        self.written = 0
        """How many records have been written."""
        self._number = 0
        self._descriptor = self._open_segment()
        self._segment_bytes = 0
        if self._syncs:
            sync(sessions)

    def append(self, records: Sequence[Record]) -> None:
        """Write records and, if the durability asks for it, wait until they are on the disk. Raises `OSError`."""
        if self._segment_bytes >= _SEGMENT_BYTES:
            self._next_segment()
        data = "".join([f"{record.to_json()}\n" for record in records]).encode()
        rest = data
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            if self._syncs:
                os.fdatasync(self._descriptor)
        except OSError:
            # The last line may be torn; the next ones go into a segment of their own.
            self._segment_bytes = _SEGMENT_BYTES
            raise
        self.written += len(records)
        self._segment_bytes += len(data)

    def _next_segment(self) -> None:
        self._closed[self._segment()] = self.written
        os.close(self._descriptor)
        self._number += 1
        self._descriptor = self._open_segment()
        self._segment_bytes = 0
        for path, last in list(self._closed.items()):
            if last <= self.indexed:
                path.unlink()
                del self._closed[path]

    def close(self) -> None:
        """Remove the folder: the index has everything."""
        os.close(self._descriptor)
        # What can't be removed, whatever the reason, is swept by the next one to open the archive.
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def abandon(self) -> None:
        """Leave the folder to the next one to open the archive: the index does not have everything."""
        os.close(self._descriptor)
        os.close(self._lock)

    def _segment(self) -> Path:
        return self.folder / _JOURNAL.format(self._number)

    def _open_segment(self) -> int:
        descriptor = os.open(self._segment(), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._syncs:
            sync(self.folder)
        return descriptor


def abandoned(sessions: Path) -> Iterator[tuple[Path, list[Record]]]:
    """Give the folders of processes that died, and the records of their journals; each is removed after its turn."""
    with _gate(sessions):
        for folder in sorted(sessions.glob("session-*")):
            try:
                lock = lock_folder(folder, wait=False)
            except BlockingIOError:
                continue  # Its process lives.
            try:
                journals = sorted(folder.glob("journal-*.jsonl"))
                yield folder, [record for journal in journals for record in _records(journal)]
                shutil.rmtree(folder)
            finally:
                os.close(lock)


def unindexed(sessions: Path) -> Iterator[Record]:
    """Give the records of all journals, also those of processes that run: what the index may not have yet."""
    for journal in sorted(sessions.glob("session-*/journal-*.jsonl")):
        # One that is gone by now is in the index.
        with contextlib.suppress(FileNotFoundError):
            yield from _records(journal)


def _records(path: Path) -> Iterator[Record]:
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            yield Record.from_json(line)
        except ValueError:
            # The line that was being written when the process died: its file was not visible yet.
            continue


@contextlib.contextmanager
def _gate(sessions: Path) -> Iterator[None]:
    """Let one process at a time make or remove sessions: a folder that is just being made must not look abandoned."""
    lock = lock_folder(sessions, wait=True)
    try:
        yield
    finally:
        os.close(lock)

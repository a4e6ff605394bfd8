"""The session of one process in an archive: its temporary files and its journal, in a folder of the process.

The folder is locked until the process ends (see `dicomport.files.locking`). The next process that opens the archive
recovers the sessions of processes that died: it adds the records of their journals to the index and removes the
folders with the temporary files.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from dicomport.archive.records import Record, records_in
from dicomport.files import (
    TEMPORARY_SUFFIX,
    UNKNOWN_FILE_SYSTEM,
    Durability,
    FileSystem,
    TemporaryFile,
    create_folder,
    created_folder,
    give_to_owner_of,
    open_as_owner,
    probe,
    read_text,
    remove,
    sync,
    system,
    write_all,
)
from dicomport.files.locking import LOCK, ProcessFolder, abandoned_folders, is_abandoned, locked
from dicomport.logs import get_logger

log = get_logger("archive")

_PREFIX: Final = "session-"
_JOURNAL: Final = "journal-{:08}.jsonl"
_SEGMENT_BYTES: Final = 1 << 20
"""Size at which a new segment of the journal begins. A segment is removed when all its records are in the index."""


def try_file_system(sessions: Path, durability: Durability) -> FileSystem:
    """Create the folder of the sessions, and try the calls of its file system, one process at a time.

    A temporary file there is therefore that of a killed process, and is removed. Raises `OSError`, whose text names the
    call and the remedy.
    """
    with created_folder(sessions, durability), contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(sessions))
        except TimeoutError:
            raise
        except OSError:
            pass  # `probe` names the call that fails.
        else:
            for path in sessions.glob(f".*{TEMPORARY_SUFFIX}"):
                remove(path)
        try:
            return probe(sessions, durability)
        except OSError:
            with contextlib.suppress(OSError):
                remove(sessions / LOCK)
            raise


class Session:
    """The session of this process. The journal contains each record before its file becomes visible."""

    def __init__(self, sessions: Path, durability: Durability, file_system: FileSystem = UNKNOWN_FILE_SYSTEM) -> None:
        """Create the session's folder and lock it. Raises `OSError`."""
        self._sessions = sessions
        self._syncs = durability is Durability.FSYNC
        self._file_system = file_system
        self.hard_links = file_system.hard_links
        self._owned = ProcessFolder(sessions, _PREFIX)
        self.folder = self._owned.path
        self._changing = threading.Lock()
        """Held while the journal is written, and while the folder is created again."""
        self.indexed = 0
        """Number of records in the index, on stable storage if `durability` is FSYNC. Another thread may set it."""
        self._closed: dict[Path, int] = {}
        """Full segments, with the number of records written up to their ends."""
        self.written = 0
        """Number of records written."""
        self._number = 0
        self._descriptor = self._open_segment()
        self._segment_bytes = 0
        if self._syncs:
            sync(sessions)

    def append(self, records: Sequence[Record]) -> None:
        """Write records, and wait until they are on stable storage if the durability is FSYNC. Raises `OSError`."""
        with self._changing:
            if not system.fstat(self._descriptor).st_nlink:
                self._recreate()
            elif self._segment_bytes >= _SEGMENT_BYTES:
                self._next_segment()
            self._append(records)

    def temporary_file(self, header: bytes) -> TemporaryFile:
        """Create a temporary file in the session's folder, as `TemporaryFile` does. Call this from any thread."""
        try:
            return TemporaryFile(self.folder, header, self._file_system)
        except FileNotFoundError:
            with self._changing:
                if not self.folder.is_dir():
                    self._recreate()
            return TemporaryFile(self.folder, header, self._file_system)

    def _recreate(self) -> None:
        """Create the session's folder and journal again after they were removed. Raises `OSError`.

        The records of the earlier journal are on their way to the index. Without the archive's own folder there is
        nothing to continue in: it may be another disk's mount point.
        """
        for folder in (self._sessions.parent, self._sessions):
            with contextlib.suppress(FileExistsError):
                create_folder(folder)
                give_to_owner_of(folder.parent, folder)
                if self._syncs:
                    sync(folder.parent)
        owned = ProcessFolder(self._sessions, _PREFIX)
        log.warning("session_recreated", path=str(self.folder))
        self._owned.release()
        self._owned, self.folder = owned, owned.path
        self._closed.clear()
        system.close(self._descriptor)
        self._descriptor = self._open_segment()
        self._segment_bytes = 0
        if self._syncs:
            sync(self._sessions)

    def _append(self, records: Sequence[Record]) -> None:
        data = "".join([f"{record.to_json()}\n" for record in records]).encode()
        try:
            write_all(self._descriptor, data)
            if self._syncs:
                system.fdatasync(self._descriptor)
        except OSError:
            # The last line may be incomplete, so the next record begins a new segment.
            self._segment_bytes = _SEGMENT_BYTES
            raise
        self.written += len(records)
        self._segment_bytes += len(data)

    def _next_segment(self) -> None:
        self._closed[self._segment()] = self.written
        system.close(self._descriptor)
        self._number += 1
        self._descriptor = self._open_segment()
        self._segment_bytes = 0
        for path, last in list(self._closed.items()):
            if last <= self.indexed:
                remove(path)
                del self._closed[path]

    def records(self) -> Iterator[Record]:
        """Yield the records of the segments that are not removed. Another thread may call this."""
        for journal in sorted(self.folder.glob("journal-*.jsonl")):
            # The index contains the records of a segment that has just been removed.
            with contextlib.suppress(FileNotFoundError):
                yield from _records(journal)

    def close(self) -> None:
        """Remove the folder: the index contains all records."""
        system.close(self._descriptor)
        self._owned.remove()

    def abandon(self) -> None:
        """Leave the folder to the next process that opens the archive: the index does not contain all records."""
        system.close(self._descriptor)
        self._owned.release()

    def _segment(self) -> Path:
        return self.folder / _JOURNAL.format(self._number)

    def _open_segment(self) -> int:
        descriptor = open_as_owner(self._segment(), system.CREATE_NEW | system.APPEND)
        if self._syncs:
            sync(self.folder)
        return descriptor


def has_abandoned(sessions: Path) -> bool:
    """Return whether a process died and left its session. Raises `BlockingIOError` during a recovery, and `OSError`."""
    return bool(_abandoned(sessions))


def abandoned_sessions(sessions: Path) -> set[Path]:
    """Return the folders of processes that died, as far as that is known. No permission to write is needed."""
    try:
        return _abandoned(sessions)
    except OSError:
        return set()  # A recovery runs, or a new receiver has its session created.


def _abandoned(sessions: Path) -> set[Path]:
    with locked(sessions, wait=False):
        return set(filter(is_abandoned, sessions.glob(f"{_PREFIX}*")))


def abandoned(sessions: Path, kept: Container[Path] = ()) -> Iterator[tuple[Path, list[Record]]]:
    """Yield the folder and the records of each process that died; remove the folder after its turn.

    A folder that is in `kept` after its turn stays.
    """
    for folder in abandoned_folders(sessions, _PREFIX, kept):
        yield folder, [record for journal in sorted(folder.glob("journal-*.jsonl")) for record in _records(journal)]


class JournalRecord(NamedTuple):
    """A record in a journal."""

    record: Record
    session: Path
    """Folder of the session."""


def unindexed(sessions: Path) -> Iterator[JournalRecord]:
    """Yield the records of all journals, including those of running processes: the index may lack some of them."""
    for journal in sorted(sessions.glob(f"{_PREFIX}*/journal-*.jsonl")):
        # If its process has just removed the journal, the index contains its records.
        with contextlib.suppress(FileNotFoundError):
            yield from (JournalRecord(record, journal.parent) for record in _records(journal))


def _records(path: Path) -> Iterator[Record]:
    # The process may have died while it wrote the last line: the file of that record was not visible yet.
    yield from records_in(read_text(path, errors="replace").split("\n"))

"""The archive as a storage: it takes instances, and keeps what it has acknowledged."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from blake3 import blake3
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from dicomport.archive.checks import Checks, completed
from dicomport.archive.commit.committer import Committer, Duplicates, PendingInstance
from dicomport.archive.commit.sessions import Session, abandoned
from dicomport.archive.index import Index
from dicomport.archive.integrity import Integrity, Reference
from dicomport.archive.notifications import Hooks
from dicomport.archive.path_template import Layout
from dicomport.archive.paths import Paths
from dicomport.archive.quarantine import Quarantine, QuarantineEntry
from dicomport.archive.records import Record, received_at
from dicomport.archive.scan.scanner import Scanner
from dicomport.encoding.templates import SeriesTemplate, SeriesTemplates
from dicomport.files import BlockWriter, Disk, Durability, MemoryBudget, TemporaryFile, in_thread, make_folder
from dicomport.logs import get_logger
from dicomport.standard import OUT_OF_RESOURCES, Status
from dicomport.wire import Buffer, FileMeta

__all__ = ["Archive", "ArchiveOptions", "recover"]

log = get_logger("archive")

_MAX_WAITING: Final = 10_000
"""Records that wait for the index; beyond that, committing waits too."""

_GATHERING_SECONDS: Final = 0.05
"""How long what has been committed waits for more, to be indexed with it."""

_AGAIN_AFTER: Final = 1.0
"""Seconds until the index is tried again."""

_ROOM_FOR_SECONDS: Final = 1.0


class Sender(Protocol):
    """Who sends, as a storage is told."""

    @property
    def calling_ae_title(self) -> str: ...
    @property
    def host(self) -> str: ...
    def __hash__(self) -> int: ...


class Operation(Protocol):
    """A C-STORE request, as a storage is told of it before its data set comes."""

    @property
    def association(self) -> Sender: ...
    @property
    def sop_class_uid(self) -> str: ...
    @property
    def sop_instance_uid(self) -> str: ...
    @property
    def transfer_syntax_uid(self) -> str: ...
    @property
    def file_meta(self) -> FileMeta: ...
    @property
    def memory(self) -> MemoryBudget: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveOptions:
    """How an archive is kept."""

    layout: Layout = field(default_factory=Layout)
    checks: Checks = field(default_factory=Checks)
    duplicates: Duplicates = Duplicates.KEEP_BOTH
    durability: Durability = Durability.FSYNC
    min_free_bytes: int = 256 << 20
    """Room that is left to others: with less, instances are refused before their data sets have come."""
    quarantine_bytes: int = 10 << 30
    """Length of everything in quarantine; above it, the oldest goes."""
    quarantine_days: float = 90.0
    """How long something stays in quarantine."""


class Archive:
    """Instances in a folder, each in a file of its own, and an index of them; docs/archive.md tells the whole of it.

    Several processes may have one archive open at once.
    """

    def __init__(self, root: str | Path, options: ArchiveOptions | None = None, *, hooks: Hooks | None = None) -> None:
        """Open an archive, and make it where there is none. What a process that died left behind is put right first.

        `hooks` are told of each instance that is stored; to close them is up to whoever made them.

        Raises `OSError`, and `SchemaError` for one of a later version.
        """
        self._options = options or ArchiveOptions()
        self._hooks = hooks
        durability = self._options.durability
        self.paths = Paths(Path(root).resolve())
        make_folder(self.paths.sessions, durability)
        self.index = Index(self.paths.index)
        self.recovered = recover(self.paths, self.index)
        """How many instances the index had not known before."""
        self.quarantine = Quarantine(
            self.paths.quarantine,
            durability,
            max_bytes=self._options.quarantine_bytes,
            max_days=self._options.quarantine_days,
        )
        self._disk = Disk()
        self._session = Session(self.paths.sessions, durability)
        self._indexer = _Indexer(self.index, self._session)
        self._committer = Committer(
            self.paths.root,
            session=self._session,
            layout=self._options.layout,
            duplicates=self._options.duplicates,
            durability=durability,
            disk=self._disk,
            committed=self._indexer.put,
            busy=self._indexer.busy,
        )
        self._custody = Integrity(self.paths, self.index, durability)
        self._is_closed = False
        self._models = SeriesTemplates()
        self._room = _Room(self.paths.root, self._options.min_free_bytes)

    async def begin(self, operation: Operation) -> ArchiveSink | Status:
        """Take an instance, unless there is no room for it."""
        if not await self._room.is_left():
            return Status(OUT_OF_RESOURCES.code, "less room is left than is to be kept free")
        kind = operation.association.calling_ae_title, operation.sop_class_uid, operation.transfer_syntax_uid
        return ArchiveSink(
            operation,
            self._options,
            self._session.folder,
            self._committer,
            self.quarantine,
            disk=self._disk,
            model=self._models.of(kind),
            hooks=self._hooks,
        )

    async def look_up(self, references: Sequence[Reference]) -> list[Status]:
        """Say of each instance whether it is in safe keeping: storage commitment asks that (PS3.4 J.3).

        0x0000 says that its file is there, with the bytes that were received, and on stable storage; 0x0112 that there
        is none, 0x0119 that it is of another SOP Class, 0x0110 that its file is damaged or can't be read. Of instances
        in conflict, each has to be whole.
        """
        return await self._custody.look_up(references)

    def close(self) -> None:
        """Wait until everything is in the index. No instance may be under way any more."""
        if self._is_closed:
            return
        self._is_closed = True
        self._custody.close()
        self._indexer.hurry()
        self._committer.close()
        if self._indexer.close():
            self._session.close()
        else:
            self._session.abandon()
        self.index.close()


def recover(paths: Paths, index: Index) -> int:
    """Put into the index what processes that died had made visible, and remove what they had not; give the number."""
    number = 0
    for _, records in abandoned(paths.sessions):
        there = [record for record in records if _is_there(paths.root / record.path, record)]
        index.add(there)
        number += len(there)
    return number


def _is_there(path: Path, record: Record) -> bool:
    """Tell whether a file is the one that a record was written for; the number alone may have been given to another."""
    try:
        entry = path.stat(follow_symlinks=False)
    except OSError:
        return False
    return entry.st_ino == record.inode and received_at(entry) == record.received


class ArchiveSink:
    """Takes one instance: hashes and scans it as it comes, and has it judged and committed once it is whole."""

    def __init__(
        self,
        operation: Operation,
        options: ArchiveOptions,
        folder: Path,
        committer: Committer,
        quarantine: Quarantine,
        *,
        disk: Disk,
        model: SeriesTemplate,
        hooks: Hooks | None,
    ) -> None:
        self._operation = operation
        self._options = options
        self._folder = folder
        self._committer = committer
        self._quarantine = quarantine
        self._hooks = hooks
        self._scanner = Scanner(operation.transfer_syntax_uid, model=model)
        self._digest = blake3()
        self._size = 0
        self.study_instance_uid: str | None = None
        """Known once the data set is complete, if it has one."""
        self._disk = disk
        self._writer = BlockWriter(disk=disk, memory=operation.memory)
        self._file: TemporaryFile | None = None

    async def write(self, data: Buffer) -> None:
        """Take bytes; a small instance stays in memory until it is complete."""
        self._size += len(data)
        self._digest.update(data)
        self._scanner.feed(data)
        await self._writer.write(data, self._append)

    async def commit(self) -> Status:
        """Judge the data set; store it, or put it into quarantine."""
        scan = self._scanner.finish()
        self.study_instance_uid = scan.facts.study_instance_uid or None
        operation = self._operation
        status, reason = self._options.checks.judge(scan, operation.sop_class_uid, operation.sop_instance_uid)
        if status is not None and not status.accepted:
            await in_thread(self._refuse, status, reason)
            return status
        is_written = self._file is not None and not self._writer.pending
        file = self._finished() if is_written else await self._disk.run(self._finished)
        answer, stored = await self._committer.commit(
            PendingInstance(
                file=file,
                facts=scan.facts
                if status is None
                else completed(scan.facts, operation.sop_class_uid, operation.sop_instance_uid),
                digest=self._digest.hexdigest(),
                size=self._size,
                transfer_syntax_uid=operation.transfer_syntax_uid,
                calling_ae_title=operation.association.calling_ae_title,
                address=operation.association.host,
                suspect=status is not None,
            )
        )
        if stored is not None and self._hooks is not None:
            self._hooks.instance(stored, operation.association)
        return status if status is not None and answer.accepted else answer

    async def discard(self) -> None:
        """Leave nothing behind."""
        self._writer.take()
        if self._file is not None:
            file, self._file = self._file, None
            await self._disk.run(file.discard)

    def _append(self, block: Buffer) -> None:
        if self._file is None:
            self._file = TemporaryFile(self._folder, self._operation.file_meta)
        self._file.write(block)

    def _finished(self) -> TemporaryFile:
        """Write what is left and hand the file over."""
        if self._writer.pending or self._file is None:
            self._append(self._writer.take())
        file, self._file = self._file, None
        if file is None:
            raise AssertionError  # _append has made it
        return file

    def _refuse(self, status: Status, reason: str) -> None:
        operation = self._operation
        file = self._finished()
        try:
            entry = QuarantineEntry(
                file="",
                reason=reason,
                status=status.code,
                sop_class_uid=operation.sop_class_uid,
                sop_instance_uid=operation.sop_instance_uid,
                transfer_syntax_uid=operation.transfer_syntax_uid,
                size=self._size,
                calling_ae_title=operation.association.calling_ae_title,
                address=operation.association.host,
                received=datetime.now(UTC).isoformat(timespec="microseconds"),
            )
            self._quarantine.keep(file, entry)
        finally:
            file.discard()


class _Indexer:
    """The thread that puts what has been committed into the index, in batches as large as they come."""

    def __init__(self, index: Index, session: Session) -> None:
        self._index = index
        self._session = session
        self._complete = True
        self._closing = threading.Event()
        self._changed = threading.Condition()
        """Guards what follows. It is notified when something waits, when nothing does, and at the end."""
        self._waiting: list[Record] = []
        self._written = 0
        """How many records the journal had with the last one that waits."""
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="dicomport-indexer", daemon=True)
        self._thread.start()

    def put(self, records: Sequence[Record]) -> None:
        """Have records indexed; waits while too many wait already."""
        if not records:
            return
        with self._changed:
            while self.busy():
                self._changed.wait()
            if not self._waiting:
                self._changed.notify_all()
            self._waiting += records
            self._written = self._session.written

    def busy(self) -> bool:
        """Tell whether too many wait."""
        return len(self._waiting) >= _MAX_WAITING

    def hurry(self) -> None:
        """GatherList and wait no more: what the database does not take at once is left to the journal."""
        self._closing.set()

    def close(self) -> bool:
        """Index what still waits, and end the thread; give whether the index has everything.

        What the database does not take now is left to the journal.
        """
        self.hurry()
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join()
        return self._complete

    def _run(self) -> None:
        while self._await_some():
            # One transaction for many costs little more than for one; what waits is in the journal.
            self._closing.wait(_GATHERING_SECONDS)
            self._add(*self._take())

    def _await_some(self) -> bool:
        """Wait until something waits; give whether it does, or the end has come."""
        with self._changed:
            while not self._waiting and not self._ending:
                self._changed.wait()
            return bool(self._waiting)

    def _take(self) -> tuple[Sequence[Record], int]:
        """Take all that waits, and how many records the journal had with it."""
        with self._changed:
            waiting, self._waiting = self._waiting, []
            self._changed.notify_all()
            return waiting, self._written

    def _add(self, records: Sequence[Record], written: int) -> None:
        """Index records. While the database has trouble, such as a full disk, they wait; the journal has them too."""
        while True:
            try:
                self._index.add(records)
            except SQLAlchemyError as error:
                log.warning("index_failed", reason=_told(error), retry_after_s=_AGAIN_AFTER)
                if self._closing.wait(_AGAIN_AFTER):
                    self._complete = False
                    return
            else:
                # Some records of the journal have no instance, as its file could not be given its name.
                self._session.indexed = written
                return


def _told(error: SQLAlchemyError) -> str:
    # What the database says. SQLAlchemy's own text has the values of the statement.
    return str(error.orig) if isinstance(error, DBAPIError) else type(error).__name__


class _Room:
    """Whether there is room for more, asked of the file system once a second at most."""

    def __init__(self, root: Path, min_free_bytes: int) -> None:
        self._root = root
        self._min_free_bytes = min_free_bytes
        self._asked = -math.inf
        self._left = True

    async def is_left(self) -> bool:
        now = time.monotonic()
        if now - self._asked >= _ROOM_FOR_SECONDS:
            self._asked = now
            self._left = await asyncio.to_thread(self._ask)
        return self._left

    def _ask(self) -> bool:
        status = os.statvfs(self._root)
        return status.f_bavail * status.f_frsize >= self._min_free_bytes

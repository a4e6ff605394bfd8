"""The archive: it stores instances and keeps those that it has acknowledged."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dicomport.archive.commit.committer import Committer
from dicomport.archive.commit.duplicates import IndexedFile
from dicomport.archive.commit.indexer import Indexer
from dicomport.archive.commit.recovery import recover
from dicomport.archive.commit.sessions import Session, try_file_system
from dicomport.archive.commit.sink import ArchiveOptions, ArchiveSink, Operation
from dicomport.archive.database.sqlite import IndexDatabaseError
from dicomport.archive.entries import may_have_instances
from dicomport.archive.index import Index
from dicomport.archive.integrity import Integrity, Reference
from dicomport.archive.notifications import Hooks
from dicomport.archive.paths import Paths
from dicomport.archive.quarantine import Quarantine
from dicomport.encoding.templates import SeriesTemplates
from dicomport.files import Disk, Durability, free_bytes, give_own_folder
from dicomport.logs import get_logger, reason_of
from dicomport.standard import OUT_OF_RESOURCES, Status

log = get_logger("archive")

_FREE_SPACE_SECONDS: Final = 1.0
"""The file system is asked for its free space at most once in this time."""


class Archive:
    """A folder with one file for each instance, and an index of them. docs/archive.md describes both.

    Several processes may have the same archive open at the same time.
    """

    def __init__(self, root: str | Path, options: ArchiveOptions | None = None, *, hooks: Hooks | None = None) -> None:
        """Open an archive, create it if it is missing, and recover the sessions of processes that died.

        `hooks` are notified of each stored instance; the caller closes them.

        Raises `OSError`; `DamagedIndexError` if the index is damaged or missing; `SchemaError` if another version of
        dicomport created it; `IndexDatabaseError` if it cannot be used now.
        """
        self._options = options or ArchiveOptions()
        self._hooks = hooks
        self.durability = durability = self._options.durability
        """The condition for acknowledging an instance."""
        self.paths = Paths(Path(root).resolve())
        file_system = try_file_system(self.paths.sessions, durability)
        give_own_folder(self.paths.sessions)
        if file_system.missing:
            log.warning("file_system_limited", path=str(self.paths.root), calls=list(file_system.missing))
        syncs = durability is Durability.FSYNC
        self.index = Index(self.paths.index, creates=lambda: not may_have_instances(self.paths), syncs=syncs)
        self.recovered = self._recover(syncs=syncs)
        """Number of instances of processes that died that were not in the index yet."""
        self.quarantine = Quarantine(
            self.paths.quarantine,
            durability,
            max_bytes=self._options.quarantine_bytes,
            max_entries=self._options.quarantine_entries,
            max_days=self._options.quarantine_days,
        )
        self._disk = Disk()
        self._session = Session(self.paths.sessions, durability, file_system)
        self._indexer = Indexer(self.index, self._session, self.paths.root, syncs=syncs)
        self._committer = Committer(
            self.paths.root,
            session=self._session,
            layout=self._options.layout,
            duplicates=self._options.duplicates,
            durability=durability,
            disk=self._disk,
            committed=self._indexer.put,
            busy=self._indexer.busy,
            find=self._find,
        )
        self._integrity = Integrity(self.paths, self.index)
        self._is_closed = False
        self._templates = SeriesTemplates()
        self._free_space = _FreeSpace(self.paths.root, self._options.min_free_bytes)
        self._free_space.warn()

    def _find(self, sop_instance_uid: str) -> dict[str, IndexedFile]:
        """Return the files of an instance in the index; none if the index cannot be read now."""
        try:
            rows = self.index.find(sop_instance_uid)
        except (IndexDatabaseError, OSError):
            return {}
        return {row["path"]: IndexedFile(row["digest"], row["received"]) for row in rows}

    def _recover(self, *, syncs: bool) -> int:
        try:
            recovery = recover(self.paths, self.index, syncs=syncs)
        except BaseException:
            self.index.close()
            raise
        for folder, error in recovery.failures.items():
            log.error("recovery_failed", path=str(folder), reason=reason_of(error))
        return recovery.added

    async def begin(self, operation: Operation) -> ArchiveSink | Status:
        """Return a sink for an instance, or the failure status if the archive cannot store it now.

        Free space is below `min_free_bytes`, or the index cannot be written and too many instances are not in it.
        """
        if self._free_space.is_due:
            await self._free_space.measure()
        return self._begin(operation)

    def begin_now(self, operation: Operation) -> ArchiveSink | Status | None:
        """Return the result of `begin`; None if the free space has to be measured first."""
        return None if self._free_space.is_due else self._begin(operation)

    def _begin(self, operation: Operation) -> ArchiveSink | Status:
        if self._indexer.is_exhausted:
            return Status(OUT_OF_RESOURCES.code, "the index of the archive cannot be written")
        if not self._free_space.suffices:
            return Status(OUT_OF_RESOURCES.code, self._free_space.shortage)
        kind = operation.association.calling_ae_title, operation.sop_class_uid, operation.transfer_syntax_uid
        return ArchiveSink(
            operation,
            self._options,
            self._session,
            self._committer,
            self.quarantine,
            disk=self._disk,
            template=self._templates.of(kind),
            hooks=self._hooks,
        )

    async def look_up(self, references: Sequence[Reference]) -> list[Status]:
        """Return for each instance whether the archive can commit to its storage (PS3.4 J.3).

        0x0000: the file exists, contains the received bytes, and is on stable storage. 0x0112: there is no such
        instance. 0x0119: the instance has another SOP Class. 0x0110: the file is damaged or cannot be read. If several
        instances are in conflict, all of them must be intact.
        """
        return await self._integrity.look_up(references)

    def close(self) -> None:
        """Wait until all instances are in the index, and close it. Call this after all sinks have ended.

        Instances that the index cannot accept now stay in the journal: the next process that opens the archive adds
        them.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._integrity.close()
        self._indexer.hurry()
        self._committer.close()
        if self._indexer.close():
            self._session.close()
        else:
            self._session.abandon()
        self.index.close()


class _FreeSpace:
    """The free space of a file system, compared with a limit."""

    def __init__(self, root: Path, min_bytes: int) -> None:
        self._root = root
        self._min_bytes = min_bytes
        self._measured_at = -math.inf
        self._free_bytes = free_bytes(root)

    def warn(self) -> None:
        """Log that not enough space is free."""
        if not self.suffices:
            log.warning("free_space_low", free_bytes=self._free_bytes, min_free_bytes=self._min_bytes)

    @property
    def shortage(self) -> str:
        """The last measurement and the limit, in at most 64 characters (PS3.7 C, Error Comment)."""
        return f"free space is below --min-free ({_amount(self._free_bytes)} free, {_amount(self._min_bytes)} required)"

    @property
    def suffices(self) -> bool:
        """Whether enough space was free at the last measurement."""
        return self._free_bytes >= self._min_bytes

    @property
    def is_due(self) -> bool:
        """Whether the last measurement is too old."""
        return time.monotonic() - self._measured_at >= _FREE_SPACE_SECONDS

    async def measure(self) -> None:
        """Measure the free space in a thread."""
        self._measured_at = time.monotonic()
        self._free_bytes = await asyncio.to_thread(free_bytes, self._root)


def _amount(size: int) -> str:
    """Format a number of bytes in at most 8 characters, up to 100 TB."""
    return f"{size / 1e9:.0f} GB" if size >= 10_000_000_000 else f"{size / 1e6:.0f} MB"

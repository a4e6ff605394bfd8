"""The sink of one C-STORE request, and the options of an archive."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import field
from datetime import UTC, datetime
from typing import Protocol

from blake3 import blake3

from dicomport.archive.checks import Checks, with_request_uids
from dicomport.archive.commit.committer import Committed, Committer, PendingInstance
from dicomport.archive.commit.duplicates import Duplicates
from dicomport.archive.commit.sessions import Session
from dicomport.archive.notifications import Hooks
from dicomport.archive.path_template import Layout
from dicomport.archive.quarantine import Quarantine, QuarantineEntry
from dicomport.archive.scan.scanner import Scan, Scanner
from dicomport.encoding.templates import SeriesTemplate
from dicomport.files import BlockWriter, Disk, Durability, MemoryBudget, TemporaryFile, in_thread
from dicomport.standard import SUCCESS, Status
from dicomport.values import frozen
from dicomport.wire import Buffer


class RequestingPeer(Protocol):
    """The association of a request."""

    @property
    def calling_ae_title(self) -> str:
        """Calling AE title of the association."""

    @property
    def host(self) -> str:
        """Address of the peer, without the port."""

    def __hash__(self) -> int: ...


class Operation(Protocol):
    """A C-STORE request before its data set arrives."""

    @property
    def association(self) -> RequestingPeer:
        """The association of the request."""

    @property
    def sop_class_uid(self) -> str:
        """Affected SOP Class UID."""

    @property
    def sop_instance_uid(self) -> str:
        """Affected SOP Instance UID."""

    @property
    def transfer_syntax_uid(self) -> str:
        """Transfer syntax of the data set."""

    @property
    def file_header(self) -> bytes:
        """The bytes before the data set in the instance's file: preamble and File Meta Information."""

    @property
    def memory(self) -> MemoryBudget:
        """Memory budget of the receiver."""


@frozen(kw_only=True)
class ArchiveOptions:
    """Options of an archive."""

    layout: Layout = field(default_factory=Layout)
    checks: Checks = field(default_factory=Checks)
    duplicates: Duplicates = Duplicates.KEEP_BOTH
    durability: Durability = Durability.FSYNC
    min_free_bytes: int = 256 << 20
    """Free space to leave on the file system; below it, instances are refused before their data sets arrive."""
    quarantine_bytes: int = 10 << 30
    """Limit of the quarantine's size on disk; above it, the oldest instance is removed."""
    quarantine_entries: int = 10_000
    """Limit of instances in the quarantine, each of which has two files; above it, the oldest is removed."""
    quarantine_days: float = 90.0
    """Days after which an instance is removed from the quarantine."""


class ArchiveSink:
    """Receives one instance: hashes and scans the data set as it arrives, then checks and commits it."""

    def __init__(
        self,
        operation: Operation,
        options: ArchiveOptions,
        session: Session,
        committer: Committer,
        quarantine: Quarantine,
        *,
        disk: Disk,
        template: SeriesTemplate,
        hooks: Hooks | None,
    ) -> None:
        self._operation = operation
        self._options = options
        self._session = session
        self._committer = committer
        self._quarantine = quarantine
        self._hooks = hooks
        self._scanner = Scanner(operation.transfer_syntax_uid, template=template)
        self._digest = blake3()
        self._size = 0
        self.study_instance_uid: str | None = None
        """Set by `commit`, if the data set has one."""
        self.deviations: Collection[str] = ()
        """Set by `commit`: the names of the data set's tolerated deviations from the standard."""
        self.quarantine_path: str | None = None
        """Set by `commit`: the file in the quarantine, if the instance was refused for its content."""
        self._disk = disk
        self._writer = BlockWriter(disk=disk, memory=operation.memory)
        self._file: TemporaryFile | None = None
        # The result of the checks, and of the commit.
        self._scan: Scan | None = None
        self._status = SUCCESS
        self._reason = ""
        self._committed: Committed | None = None

    def write_now(self, data: Buffer) -> bool:
        """Receive bytes if the disk is fast; return whether it is."""
        if not self._writer.write_now(data, self._append):
            return False
        self._read(data)
        return True

    async def write(self, data: Buffer) -> None:
        """Receive bytes; on a slow disk, a small instance stays in memory until it is complete."""
        self._read(data)
        await self._writer.write(data, self._append)

    def commit_now(self) -> Status | None:
        """Check and commit the data set as `commit` does; return None if the rest of that has to wait."""
        if self._committed is None and self._check().accepted and self._is_written:
            self._committed = self._commit(self._finished())
        return self._answer(self._committed) if self._committed is not None and self._committed.done() else None

    async def commit(self) -> Status:
        """Check the data set, and commit it to the archive or move it into the quarantine."""
        status = self.commit_now()
        if status is not None:
            return status
        if not self._check().accepted:
            return await in_thread(self._refuse)
        if self._committed is None:
            self._committed = self._commit(await self._disk.run(self._finished))
        await self._committed
        return self._answer(self._committed)

    async def discard(self) -> None:
        """Remove the temporary file and the bytes in memory."""
        self._writer.take()
        if self._file is not None:
            file, self._file = self._file, None
            await self._disk.run(file.discard)

    def _read(self, data: Buffer) -> None:
        self._size += len(data)
        self._digest.update(data)
        self._scanner.feed(data)

    @property
    def _is_written(self) -> bool:
        return self._file is not None and not self._writer.pending

    def _check(self) -> Status:
        """Return the status of the data set; the end of the scan and the checks run once."""
        if self._scan is None:
            operation = self._operation
            self._scan = scan = self._scanner.finish()
            self.study_instance_uid = scan.attributes.study_instance_uid or None
            self.deviations = scan.deviations
            status, self._reason = self._options.checks.check(scan, operation.sop_class_uid, operation.sop_instance_uid)
            self._status = SUCCESS if status is None else status
        return self._status

    def _commit(self, file: TemporaryFile) -> Committed:
        operation = self._operation
        if self._scan is None:
            raise AssertionError  # _check has set it
        return self._committer.commit(
            PendingInstance(
                file=file,
                attributes=with_request_uids(
                    self._scan.attributes, operation.sop_class_uid, operation.sop_instance_uid
                ),
                digest=self._digest.hexdigest(),
                size=self._size,
                transfer_syntax_uid=operation.transfer_syntax_uid,
                calling_ae_title=operation.association.calling_ae_title,
                address=operation.association.host,
                suspect=self._status is not SUCCESS,
            )
        )

    def _answer(self, committed: Committed) -> Status:
        """Return the status of the response."""
        status, stored = committed.result()
        if stored is not None and self._hooks is not None:
            self._hooks.instance(stored, self._operation.association)
        return self._status if status.accepted and self._status is not SUCCESS else status

    def _append(self, block: Buffer) -> None:
        if self._file is None:
            self._file = self._session.temporary_file(self._operation.file_header)
        self._file.write(block)

    def _finished(self) -> TemporaryFile:
        """Write the remaining bytes, and return the file to its next owner."""
        if self._writer.pending or self._file is None:
            self._append(self._writer.take())
        file, self._file = self._file, None
        if file is None:
            raise AssertionError  # _append has created it
        return file

    def _refuse(self) -> Status:
        operation, status = self._operation, self._status
        file = self._finished()
        try:
            entry = QuarantineEntry(
                file="",
                reason=self._reason,
                status=status.code,
                sop_class_uid=operation.sop_class_uid,
                sop_instance_uid=operation.sop_instance_uid,
                transfer_syntax_uid=operation.transfer_syntax_uid,
                size=self._size,
                calling_ae_title=operation.association.calling_ae_title,
                address=operation.association.host,
                received=datetime.now(UTC).isoformat(timespec="microseconds"),
            )
            self.quarantine_path = str(self._quarantine.keep(file, entry))
        finally:
            file.discard()
        return status

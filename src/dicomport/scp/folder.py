"""A storage that writes Part 10 files into one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from dicomport.files import (
    BLOCK_BYTES,
    BlockWriter,
    Disk,
    Durability,
    FileSystem,
    PartialFile,
    SharedSync,
    Threads,
    prepare,
    sync,
)
from dicomport.logs import get_logger
from dicomport.scp.requests import StoreOperation
from dicomport.standard import SUCCESS, TOO_MANY_DUPLICATES, Status
from dicomport.wire import Buffer

log = get_logger("scp")


_THREADS: Final = 16
"""Limit of instances that are completed in threads at once. While one waits for an fsync, others can join it."""


class _Target(NamedTuple):
    """The folder of a storage, for its sinks."""

    folder: str
    durability: Durability
    file_system: FileSystem
    sync: SharedSync
    """Syncs the names in the folder."""
    disk: Disk
    threads: Threads


class FolderSink:
    """Writes one instance. The file gets its name when it is complete and, by default, on stable storage."""

    def __init__(self, target: _Target, operation: StoreOperation) -> None:
        self._target = target
        self._operation = operation
        self._size = 0
        self._writer = BlockWriter(disk=target.disk, memory=operation.memory)
        self._partial: PartialFile | None = None

    def write_now(self, data: Buffer) -> bool:
        """Append bytes if the disk is fast; return whether it is."""
        if not self._writer.write_now(data, self._append):
            return False
        self._size += len(data)
        return True

    async def write(self, data: Buffer) -> None:
        """Append bytes. A small instance stays in memory until it is complete."""
        self._size += len(data)
        await self._writer.write(data, self._append)

    def commit_now(self) -> Status | None:
        """Complete the file and link it to its name; return None, with nothing done, if that could take long."""
        # If the name is taken, the other file is compared, which is slow for a long one.
        target = self._target
        if target.durability is Durability.FSYNC or self._size > BLOCK_BYTES or not target.disk.is_fast:
            return None
        return target.disk.run_now(self._finish)

    async def commit(self) -> Status:
        """Complete the file and link it to its name."""
        status = self.commit_now()
        return await self._target.threads.run(self._finish) if status is None else status

    async def discard(self) -> None:
        """Remove the bytes that were written."""
        self._writer.take()
        if self._partial is not None:
            partial, self._partial = self._partial, None
            await self._target.disk.run(partial.discard)

    def _append(self, block: Buffer) -> None:
        if self._partial is None:
            target = self._target
            self._partial = PartialFile(
                target.folder,
                self._operation.file_header,
                target.durability,
                target.file_system,
                sync_folder=target.sync,
            )
        self._partial.write(block)

    def _finish(self) -> Status:
        if self._writer.pending or self._partial is None:
            self._append(self._writer.take())
        partial, self._partial = self._partial, None
        if partial is not None:
            try:
                partial.commit(self._operation.sop_instance_uid)
            except FileExistsError:
                return TOO_MANY_DUPLICATES
        return SUCCESS


class FolderStorage:
    """A folder of Part 10 files, named by SOP Instance UID, as `StorageSCP(FolderStorage("received"))`.

    A file is never overwritten. A duplicate with the same data set is accepted without a second file; with a different
    data set, it is stored as "UID~2.dcm", up to 100 files of one UID, and then refused with 0x0111. `durability` is the
    condition for a success (PS3.4 B.2.3): by default, the instance is on stable storage. An `OSError` becomes status
    0xA700 if space is missing, otherwise 0x0110.
    """

    def __init__(self, folder: str | Path, durability: Durability = Durability.FSYNC) -> None:
        """Create the folder if it is missing, and try the calls of its file system.

        Raises `OSError`, which names the call, if the file system lacks a call that is required.
        """
        path = Path(folder)
        file_system = prepare(path, durability)
        if file_system.missing:
            log.warning("file_system_limited", path=str(path), calls=list(file_system.missing))
        shared = SharedSync(lambda: sync(path))
        self._target = _Target(
            str(path), durability, file_system, shared, Disk(), Threads(_THREADS, "dicomport-folder")
        )

    def begin_now(self, operation: StoreOperation) -> FolderSink:
        """Accept any instance."""
        return FolderSink(self._target, operation)

    async def begin(self, operation: StoreOperation) -> FolderSink:
        """Accept any instance."""
        return self.begin_now(operation)

"""A storage that writes Part 10 files into one folder."""

from __future__ import annotations

from pathlib import Path

from dicomport.files import BLOCK_BYTES, BlockWriter, Disk, Durability, PartialFile, in_thread
from dicomport.scp.requests import StoreOperation
from dicomport.scp.sinks import Sink
from dicomport.standard import SUCCESS, Status
from dicomport.wire import Buffer


class FolderSink:
    """Writes one instance. The file gets its name when it is complete and, by default, on stable storage."""

    def __init__(self, folder: Path, operation: StoreOperation, durability: Durability, disk: Disk) -> None:
        self._folder = folder
        self._operation = operation
        self._durability = durability
        self._disk = disk
        self._size = 0
        self._writer = BlockWriter(disk=disk, memory=operation.memory)
        self._partial: PartialFile | None = None

    async def write(self, data: Buffer) -> None:
        """Append bytes. A small instance stays in memory until it is complete."""
        self._size += len(data)
        await self._writer.write(data, self._append)

    async def commit(self) -> Status:
        """Complete the file and link it to its name."""
        # If the name is taken, the other file is compared, which is slow for a long one.
        if self._durability is Durability.FSYNC or self._size > BLOCK_BYTES:
            await in_thread(self._finish)
        else:
            await self._disk.run(self._finish)
        return SUCCESS

    async def discard(self) -> None:
        """Remove the bytes that were written."""
        self._writer.take()
        if self._partial is not None:
            partial, self._partial = self._partial, None
            await self._disk.run(partial.discard)

    def _append(self, block: Buffer) -> None:
        if self._partial is None:
            self._partial = PartialFile(self._folder, self._operation.file_meta, self._durability)
        self._partial.write(block)

    def _finish(self) -> None:
        if self._writer.pending or self._partial is None:
            self._append(self._writer.take())
        partial, self._partial = self._partial, None
        if partial is not None:
            partial.commit(self._operation.sop_instance_uid)


class FolderStorage:
    """A folder of Part 10 files, named by SOP Instance UID, as `StorageSCP(FolderStorage("received"))`.

    A file is never overwritten. A duplicate with the same data set is accepted without a second file; with a different
    data set, it is stored as "UID~2.dcm". `durability` is the condition for a success (PS3.4 B.2.3): by default, the
    instance is on stable storage. An `OSError` becomes status 0xA700 if space is missing, otherwise 0x0110.
    """

    def __init__(self, folder: str | Path, durability: Durability = Durability.FSYNC) -> None:
        self._folder = Path(folder)
        self._durability = durability
        self._disk = Disk()

    async def begin(self, operation: StoreOperation) -> Sink:
        """Accept any instance."""
        return FolderSink(self._folder, operation, self._durability, self._disk)

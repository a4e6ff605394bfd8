"""The thread that makes instances durable and visible, in batches.

Theory of operation
-------------------
Each sink writes its instance to a temporary file in the session's folder and calls `commit` on the event loop, which
queues the instance and returns a future. The committer's thread takes up to 64 queued instances and does for the whole
batch, in this order:

1. for each instance: choose its path, set its modification time to the time of receipt, fsync its file, create missing
   folders and fsync their parents; if root runs the receiver, file and folders get the owner of the archive's folder;
2. append the records of all instances to the session's journal, with one fdatasync;
3. link each temporary file to its path (or rename it, to replace a duplicate): the instance is visible now;
4. fsync each folder once;
5. pass the records to the indexer;
6. remove the temporary names and resolve the futures: the sinks respond with 0x0000.

This order keeps three promises at any moment, even if the process is killed: a visible instance has a record in the
journal, so recovery can index it; an acknowledged instance is on stable storage, with its name and its folders; a
temporary file belongs to an instance that was not acknowledged. Associations that store at the same time share the
fsyncs of journal and folders.

The thread reads no stored file: an instance whose name is taken is passed to the thread of `duplicates`.

Without fsync (`Durability.FLUSH`) these steps need microseconds. Then a small instance is committed on the event loop
if the disk is fast and the thread is idle; the lock `_turn` admits one thread at a time to the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import itertools
import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from dicomport.archive.commit.duplicates import Comparisons, Duplicates, IndexedFile
from dicomport.archive.commit.sessions import Session
from dicomport.archive.path_template import Layout
from dicomport.archive.records import Record, received_at
from dicomport.archive.scan.attributes import InstanceAttributes
from dicomport.files import (
    BLOCK_BYTES,
    Disk,
    Durability,
    TemporaryFile,
    is_reserved,
    make_folder,
    numbered_name,
    other_owner_of,
    sync,
)
from dicomport.standard import SUCCESS, Status

_MAX_BATCH: Final = 64
"""Limit of instances that share one fdatasync of the journal."""


class PendingInstance(NamedTuple):
    """A complete instance in a temporary file, and its attributes."""

    file: TemporaryFile
    attributes: InstanceAttributes
    digest: str
    size: int
    transfer_syntax_uid: str
    calling_ae_title: str
    address: str
    suspect: bool


Committed: TypeAlias = "asyncio.Future[tuple[Status, Record | None]]"


class Committer:
    """The queue of instances to commit, and the thread that commits them. Each process has one."""

    def __init__(
        self,
        root: Path,
        *,
        session: Session,
        layout: Layout,
        duplicates: Duplicates,
        durability: Durability,
        disk: Disk,
        committed: Callable[[Sequence[Record]], None],
        busy: Callable[[], bool],
        find: Callable[[str], Mapping[str, IndexedFile]],
    ) -> None:
        """Start the thread. `committed` is called with the records of visible instances, in the order of the journal.

        `busy` returns whether `committed` would block. `find` returns the files of a SOP Instance UID in the index, by
        their paths.
        """
        self._root = str(root)
        self._owner = other_owner_of(root)
        self._session = session
        self._layout = layout
        self._durability = durability
        self._syncs = durability is Durability.FSYNC
        self._disk = disk
        self._committed = committed
        self._busy = busy
        self._comparisons = Comparisons(self._root, duplicates, syncs=self._syncs, find=find, is_free=self._is_free)
        self._turn = threading.Lock()
        self._queue: queue.SimpleQueue[_Queued | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="dicomport-committer", daemon=True)
        self._thread.start()

    def commit(self, instance: PendingInstance) -> Committed:
        """Make an instance durable and visible, at once if that does not block; call this in an event loop.

        The future has the status, and the record if the instance was stored: there is none if an identical instance
        exists. It raises `OSError` after the instance is removed.
        """
        queued = _Queued(instance)
        if self._syncs or not self._commit_now(queued):
            self._queue.put(queued)
        return queued.result

    def _commit_now(self, queued: _Queued) -> bool:
        """Commit an instance in this thread if that does not block; return whether it was attempted."""
        # The system may write a large instance to the disk when it gets its name.
        if queued.instance.size > BLOCK_BYTES or not self._disk.is_fast or self._busy():
            return False
        if not self._turn.acquire(blocking=False):
            return False
        try:
            self._disk.run_now(self._commit, [queued])
        finally:
            self._turn.release()
        return True

    def close(self) -> None:
        """Commit the queued instances and end the threads."""
        self._comparisons.close()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        ending = False
        while not ending or not self._queue.empty():
            batch: list[_Queued] = []
            item = self._queue.get()
            while True:
                if item is None:
                    ending = True
                else:
                    batch.append(item)
                if self._queue.empty() or len(batch) == _MAX_BATCH:
                    break
                item = self._queue.get()
            with self._turn:
                self._commit(batch)

    def _commit(self, batch: Sequence[_Queued]) -> None:
        placed: dict[str, _Placed] = {}
        for queued in batch:
            try:
                self._place(queued, placed)
            except Exception as error:  # noqa: BLE001  # the sink that awaits the result raises it
                queued.resolve(_with_remedy(error))
        try:
            self._session.append([one.record for one in placed.values()])
        except Exception as error:  # noqa: BLE001  # see above
            for one in placed.values():
                one.queued.resolve(error)
            return
        linked = [one for one in placed.values() if self._link(one)]
        failure: Exception | None = None
        if self._syncs:
            try:
                for folder in {one.folder for one in linked}:
                    sync(folder)
            except Exception as error:  # noqa: BLE001  # see above
                failure = error
        # Visible instances belong to the index, even if the fsync failed and their senders receive a failure.
        self._committed([one.record for one in linked])
        for one in linked:
            one.queued.resolve(failure or (SUCCESS, one.record))

    def _place(self, queued: _Queued, placed: dict[str, _Placed]) -> None:
        """Sync the file, choose its path and create its record; or resolve the instance if it is not to be stored."""
        instance = queued.instance
        place, stem = self._layout.place(instance.attributes, instance.calling_ae_title)
        folder_exists = self._folder_exists(place)
        folder = f"{self._root}/{place}"
        name = numbered_name(stem, queued.number)
        relative, path = f"{place}/{name}", f"{folder}/{name}"
        if relative in placed:
            self._queue.put(queued)  # The next batch can compare it with the file.
            return
        if not (queued.overwrites or self._is_free(path)):
            self._comparisons.put(queued, place, stem, lambda: self._queue.put(queued))
            return
        # In whole microseconds, because `reindex` reads the time of receipt from the modification time.
        instance.file.set_mtime(time.time_ns() // 1000)
        if self._owner is not None:
            instance.file.give_to(self._owner)
        if self._syncs:
            instance.file.sync()
        # A file system may round the time, or set its own.
        status = instance.file.status()
        if not folder_exists:
            make_folder(Path(folder), self._durability, self._owner)
            self._folder_exists(place)
        record = Record(
            path=relative,
            inode=status.st_ino,
            attributes=instance.attributes,
            digest=instance.digest,
            size=instance.size,
            header_crc32=instance.file.header_crc32,
            transfer_syntax_uid=instance.transfer_syntax_uid,
            calling_ae_title=instance.calling_ae_title,
            address=instance.address,
            received=received_at(status),
            suspect=instance.suspect,
        )
        placed[relative] = _Placed(queued, record, folder, path)

    def _is_free(self, path: str) -> bool:
        """Return whether a name is free: no file has it, or a process that was killed has reserved it."""
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return True
        return not self._session.hard_links and is_reserved(status)

    def _folder_exists(self, folder: str) -> bool:
        """Return whether a folder exists.

        Raises `OSError` if it is outside the archive: names cannot lead out of the archive, but a planted link can.
        """
        for path in _folder_and_parents(self._root, folder):
            try:
                entry = os.lstat(path)
            except FileNotFoundError:
                return False
            if stat.S_ISLNK(entry.st_mode) and not Path(path).resolve().is_relative_to(self._root):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        return True

    def _link(self, placed: _Placed) -> bool:
        """Make a file visible; return whether it is."""
        queued = placed.queued
        try:
            if queued.overwrites:
                queued.instance.file.overwrite(placed.path)
            else:
                queued.instance.file.link(placed.path)
        except FileExistsError:
            # Another process has created the path; the next batch compares the two files.
            self._queue.put(queued)
            return False
        except OSError as error:
            queued.resolve(_with_remedy(error))
            return False
        return True


def _with_remedy(error: Exception) -> Exception:
    """Name the place and the remedy if permission is missing, without the path: some layouts identify a patient."""
    if not isinstance(error, PermissionError) or error.errno is None:
        return error
    reason = f"{os.strerror(error.errno)} in the folder of a study or series"
    return PermissionError(error.errno, f"{reason}: check the owner and the mode of the archive's folders")


@functools.lru_cache(maxsize=64)
def _folder_and_parents(root: str, folder: str) -> tuple[str, ...]:
    """Return the paths of a folder and of its parents below the root, from the top."""
    return tuple(f"{root}/{path}" for path in itertools.accumulate(folder.split("/"), "{}/{}".format))


_Result: TypeAlias = tuple[Status, Record | None] | Exception


class _Queued:
    """An instance in the queue, and the future that its sink awaits."""

    def __init__(self, instance: PendingInstance) -> None:
        self.instance = instance
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.result: Committed = self._loop.create_future()
        self.number = 1
        """Number of its name among those of duplicates."""
        self.overwrites = False
        """Whether it replaces the file that has its name."""
        self.address = instance.address
        self.sop_instance_uid = instance.attributes.sop_instance_uid
        self.size = instance.size
        self.digest = instance.digest

    def end(self, result: Status | Exception) -> None:
        """Resolve the future without a record: the instance is not stored."""
        self.resolve(result if isinstance(result, Exception) else (result, None))

    def resolve(self, result: _Result) -> None:
        """Remove the temporary name and resolve the future. Call this once, from any thread."""
        # On a disk that has become read-only, the temporary file stays until another process recovers the session.
        with contextlib.suppress(OSError):
            self.instance.file.discard()
        if threading.get_ident() == self._thread:
            self._set(result)
        else:
            with contextlib.suppress(RuntimeError):  # The event loop is closed, and no sink awaits the result.
                self._loop.call_soon_threadsafe(self._set, result)

    def _set(self, result: _Result) -> None:
        if self.result.done():
            return
        if isinstance(result, Exception):
            self.result.set_exception(result)
        else:
            self.result.set_result(result)


class _Placed(NamedTuple):
    """An instance with its path and record."""

    queued: _Queued
    record: Record
    folder: str
    path: str

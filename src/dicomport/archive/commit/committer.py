"""The thread that makes instances durable and visible, in batches.

Theory of operation
-------------------
Each sink writes its instance to a temporary file in the session's folder and calls `commit` on the event loop, which
queues the instance and returns a future. The committer's thread takes up to 64 queued instances and does for the whole
batch, in this order:

1. choose the path of each instance, and set its modification time to the time of receipt;
2. fsync the files, several at once: the file system combines the waits;
3. open the folders (`dicomport.files.folders`), create those that are missing, and fsync the folders above them; if
   root runs the receiver, files and new folders get the owner of the archive's folder;
4. append the records of all instances to the session's journal, with one fdatasync;
5. link each temporary file to its path (or rename it, to replace a duplicate): the instance is visible now;
6. fsync each folder once, several at once;
7. pass the records to the indexer;
8. remove the temporary names and resolve the futures: the sinks respond with 0x0000.

This order keeps three promises at any moment, even if the process is killed: a visible instance has a record in the
journal, so recovery can index it; an acknowledged instance is on stable storage, with its name and its folders; a
temporary file belongs to an instance that was not acknowledged. Associations that store at the same time share all
these waits. An error concerns the instances that depend on the step: one file, those in one folder, or the batch.

The thread reads no stored file: an instance whose name is taken is passed to the thread of `duplicates`.

Without fsync (`Durability.FLUSH`) these steps need microseconds. Then a small instance is committed on the event loop
if the disk is fast and the thread is idle; the lock `_turn` admits one thread at a time to the journal and the folders.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from dicomport.archive.commit.duplicates import Comparisons, Duplicates, IndexedFile
from dicomport.archive.commit.sessions import Session
from dicomport.archive.path_template import Layout, path_in
from dicomport.archive.records import Record, received_at
from dicomport.archive.scan.attributes import InstanceAttributes
from dicomport.files import (
    BLOCK_BYTES,
    Disk,
    Durability,
    Folders,
    HeldFolder,
    SyncThreads,
    TemporaryFile,
    is_reserved,
    numbered_name,
    other_owner_of,
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
        self._syncs = durability is Durability.FSYNC
        self._threads = SyncThreads()
        self._folders = Folders(str(root), syncs=self._syncs, owner=self._owner)
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
        self._threads.close()
        self._folders.close()

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
        self._folders.trim()
        placed = self._prepare(self._sync_files(self._choose(batch)))
        if not placed:
            return
        try:
            self._session.append([one.record for one in placed])
        except Exception as error:  # noqa: BLE001  # the sinks that await the results raise it
            for one in placed:
                one.chosen.queued.resolve(error)
            return
        linked = [one for one in placed if self._link(one)]
        failures = self._sync_folders(linked) if self._syncs else {}
        # Visible instances belong to the index, even if the fsync failed and their senders receive a failure.
        self._committed([one.record for one in linked])
        _resolve_all([(one.chosen.queued, failures.get(one.chosen.place) or (SUCCESS, one.record)) for one in linked])

    def _choose(self, batch: Sequence[_Queued]) -> list[_Chosen]:
        """Choose the paths of instances, and set the times of receipt; omit instances that are not to be stored now."""
        chosen: dict[str, _Chosen] = {}
        for queued in batch:
            try:
                one = self._chosen(queued)
                if one.path in chosen:
                    self._queue.put(queued)  # The next batch can compare it with the file.
                elif self._syncs and not queued.overwrites and not self._is_free(f"{self._root}/{one.path}"):
                    self._compare(one)  # Without fsync, `_link` does this.
                else:
                    # In whole microseconds, because `reindex` reads the time of receipt from the modification time.
                    queued.instance.file.set_mtime(time.time_ns() // 1000)
                    if self._owner is not None:
                        queued.instance.file.give_to(self._owner)
                    chosen[one.path] = one
            except Exception as error:  # noqa: BLE001  # see above
                queued.resolve(_with_remedy(error))
        return list(chosen.values())

    def _chosen(self, queued: _Queued) -> _Chosen:
        place, stem = self._layout.place(queued.instance.attributes, queued.instance.calling_ae_title)
        name = numbered_name(stem, queued.number)
        return _Chosen(queued, place, stem, name, path_in(place, name))

    def _sync_files(self, chosen: list[_Chosen]) -> list[_Chosen]:
        """Sync the files of instances, if the durability requires that; return the instances without an error."""
        if not self._syncs:
            return chosen
        synced = []
        errors = self._threads.run([one.queued.instance.file.sync for one in chosen])
        for one, error in zip(chosen, errors, strict=True):
            if error is None:
                synced.append(one)
            else:
                one.queued.resolve(error)
        return synced

    def _prepare(self, chosen: Sequence[_Chosen]) -> list[_Placed]:
        """Open the folders of instances, and create their records; return the instances without an error."""
        folders: dict[str, HeldFolder | Exception] = {}
        placed = []
        for one in chosen:
            if one.place not in folders:
                folders[one.place] = self._open_folder(one.place)
            folder = folders[one.place]
            if isinstance(folder, Exception):
                one.queued.resolve(folder)
                continue
            try:
                placed.append(_Placed(one, one.record(), folder))
            except Exception as error:  # noqa: BLE001  # see above
                one.queued.resolve(error)
        return placed

    def _open_folder(self, place: str) -> HeldFolder | Exception:
        try:
            return self._folders.hold(place)
        except Exception as error:  # noqa: BLE001  # see above
            return _with_remedy(error)

    def _sync_folders(self, linked: Sequence[_Placed]) -> dict[str, Exception]:
        """Sync each folder once; return the errors by folder."""
        folders = {one.chosen.place: one.folder for one in linked}
        errors = zip(folders, self._threads.run([folder.sync for folder in folders.values()]), strict=True)
        failures = {place: error for place, error in errors if error is not None}
        for place in failures:
            self._folders.forget(place)
        return failures

    def _compare(self, chosen: _Chosen) -> None:
        """Pass an instance whose name is taken to the thread that compares it with the file."""
        queued = chosen.queued
        self._comparisons.put(queued, chosen.place, chosen.stem, lambda: self._queue.put(queued))

    def _is_free(self, path: str) -> bool:
        """Return whether a name is free: no file has it, or a process that was killed has reserved it."""
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return True
        return not self._session.hard_links and is_reserved(status)

    def _link(self, placed: _Placed) -> bool:
        """Make a file visible; return whether it is."""
        queued, name, folder = placed.chosen.queued, placed.chosen.name, placed.folder.descriptor
        try:
            if queued.overwrites:
                queued.instance.file.overwrite(name, folder)
            else:
                queued.instance.file.link(name, folder)
        except FileExistsError:
            self._compare(placed.chosen)
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


_Result: TypeAlias = tuple[Status, Record | None] | Exception


class _Queued:
    """An instance in the queue, and the future that its sink awaits."""

    def __init__(self, instance: PendingInstance) -> None:
        self.instance = instance
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self.result: Committed = self.loop.create_future()
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
        _resolve_all([(self, result)])

    def discard(self) -> None:
        """Remove the temporary name."""
        # On a disk that has become read-only, the temporary file stays until another process recovers the session.
        with contextlib.suppress(OSError):
            self.instance.file.discard()

    def set(self, result: _Result) -> None:
        """Resolve the future. Call this in its event loop."""
        if self.result.done():
            return
        if isinstance(result, Exception):
            self.result.set_exception(result)
        else:
            self.result.set_result(result)


def _resolve_all(results: Sequence[tuple[_Queued, _Result]]) -> None:
    """Remove the temporary names of instances and resolve their futures; wake each event loop once."""
    elsewhere: dict[asyncio.AbstractEventLoop, list[tuple[_Queued, _Result]]] = {}
    thread = threading.get_ident()
    for queued, result in results:
        queued.discard()
        if queued.thread == thread:
            queued.set(result)
        else:
            elsewhere.setdefault(queued.loop, []).append((queued, result))
    for loop, some in elsewhere.items():
        with contextlib.suppress(RuntimeError):  # The event loop is closed, and no sink awaits the results.
            loop.call_soon_threadsafe(_set_all, some)


def _set_all(results: Sequence[tuple[_Queued, _Result]]) -> None:
    for queued, result in results:
        queued.set(result)


class _Chosen(NamedTuple):
    """An instance with its path."""

    queued: _Queued
    place: str
    """The folder, relative to that of the archive."""
    stem: str
    """The name of the file without the number of a duplicate and the suffix."""
    name: str
    path: str
    """The path, relative to the folder of the archive."""

    def record(self) -> Record:
        """Create the record, after the file is complete and its time is set."""
        instance = self.queued.instance
        # A file system may round the time, or set its own.
        status = instance.file.status()
        return Record(
            path=self.path,
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


class _Placed(NamedTuple):
    """An instance with its record and its folder."""

    chosen: _Chosen
    record: Record
    folder: HeldFolder

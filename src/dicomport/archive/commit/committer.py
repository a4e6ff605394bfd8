"""The last steps of many instances at once: the thread that makes files durable, visible and known.

For each batch of instances that wait: fsync of each file; their records in the journal, one fsync; their names; one
fsync for each folder. Only then are they answered for. So what is visible is in the journal, what is acknowledged is on
stable storage, and associations that store at the same time share the waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import functools
import itertools
import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from blake3 import blake3

from dicomport.archive.commit.sessions import Session
from dicomport.archive.path_template import Layout
from dicomport.archive.records import Record, iso_time
from dicomport.archive.scan.scanner import InstanceFacts
from dicomport.files import BLOCK_BYTES, Disk, Durability, TemporaryFile, make_folder, read_part10, sync
from dicomport.standard import SUCCESS, Status
from dicomport.wire import FileMetaError

__all__ = ["Committer", "Duplicates", "PendingInstance", "data_set_digest"]

_BATCH: Final = 64
"""Instances that share one fsync of the journal at most."""

_CHUNK_BYTES: Final = 1 << 20

DUPLICATE_REFUSED: Final = Status(0x0111, "another instance with this UID is stored already")


class Duplicates(enum.StrEnum):
    """What becomes of an instance whose name is taken by one with other bytes; with the same bytes, it is there."""

    KEEP_BOTH = "keep-both"
    """It is stored beside the first, as a conflict."""
    REPLACE = "replace"
    """It takes the first one's place."""
    REJECT = "reject"
    """It is refused with 0x0111."""


class PendingInstance(NamedTuple):
    """A complete instance in a temporary file, and what is known of it."""

    file: TemporaryFile
    facts: InstanceFacts
    digest: str
    size: int
    transfer_syntax_uid: str
    calling_ae_title: str
    address: str
    suspect: bool


class Committer:
    """One for one process: it owns the session's journal. A thread of its own takes the instances in batches.

    Where nothing is to be synced and the disk is quick, an instance that comes alone does not go through the thread.
    """

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
    ) -> None:
        """Start the thread. `committed` is called with what has become visible, in the order of the journal.

        While `busy` says so, `committed` may have to wait.
        """
        self._root = str(root)
        self._session = session
        self._layout = layout
        self._duplicates = duplicates
        self._replaces = duplicates is Duplicates.REPLACE
        self._durability = durability
        self._syncs = durability is Durability.FSYNC
        self._disk = disk
        self._committed = committed
        self._busy = busy
        self._turn = threading.Lock()
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="dicomport-committer", daemon=True)
        self._thread.start()

    async def commit(self, commission: PendingInstance) -> tuple[Status, Record | None]:
        """Make an instance durable and visible; give the answer, and the record of what was stored, if anything was.

        Nothing is where the instance was there already. Raises `OSError`; then nothing of it is left.
        """
        waiting = _Waiting(commission)
        if self._syncs or not self._commit_at_once(waiting):
            self._waiting.put(waiting)
        return await waiting.answer

    def _commit_at_once(self, waiting: _Waiting) -> bool:
        """Commit an instance here and now, if nobody has to wait for that; give whether it was tried."""
        # What is there already has to be read, and a long instance takes long.
        if waiting.commission.size > BLOCK_BYTES or not self._disk.is_fast or self._busy():
            return False
        if not self._turn.acquire(blocking=False):
            return False
        try:
            self._disk.at_once(self._commit, [waiting])
        finally:
            self._turn.release()
        return True

    def close(self) -> None:
        """Do what still waits, and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        ending = False
        while not ending or not self._waiting.empty():
            batch: list[_Waiting] = []
            item = self._waiting.get()
            while True:
                if item is None:
                    ending = True
                else:
                    batch.append(item)
                if self._waiting.empty() or len(batch) == _BATCH:
                    break
                item = self._waiting.get()
            with self._turn:
                self._commit(batch)

    def _commit(self, batch: Sequence[_Waiting]) -> None:
        placed: dict[str, _Placed] = {}
        for waiting in batch:
            try:
                self._place(waiting, placed)
            except Exception as error:  # noqa: BLE001  # whoever waits raises it again
                waiting.settle(error)
        try:
            self._session.append([one.record for one in placed.values()])
        except Exception as error:  # noqa: BLE001  # see above
            for one in placed.values():
                one.waiting.settle(error)
            return
        linked = [one for one in placed.values() if self._link(one)]
        outcome: Exception | None = None
        if self._syncs:
            try:
                for folder in {one.folder for one in linked}:
                    sync(folder)
            except Exception as error:  # noqa: BLE001  # see above
                outcome = error
        # What is visible is in the archive, even if its sender must be told that the disk is in trouble.
        self._committed([one.record for one in linked])
        for one in linked:
            one.waiting.settle(outcome or (SUCCESS, one.record))

    def _place(self, waiting: _Waiting, placed: dict[str, _Placed]) -> None:
        """Write the file to the end, find its place and make its record; or settle it, if it needs none."""
        commission = waiting.commission
        place, stem = self._layout.place(commission.facts, commission.calling_ae_title)
        there = self._is_there(place)
        folder = f"{self._root}/{place}"
        name = f"{stem}.dcm"
        number = 1
        while True:
            relative, path = f"{place}/{name}", f"{folder}/{name}"
            if relative in placed:
                self._waiting.put(waiting)  # After this batch it can be told what there is.
                return
            if not os.path.lexists(path):
                break
            if not os.path.islink(path) and data_set_digest(path) == commission.digest:
                if self._syncs:
                    # Whoever wrote it may not have come that far yet.
                    sync(path)
                    sync(folder)
                waiting.settle((SUCCESS, None))
                return
            if self._duplicates is Duplicates.REJECT:
                waiting.settle((DUPLICATE_REFUSED, None))
                return
            if self._replaces:
                break
            number += 1
            name = f"{stem}~{number}.dcm"
        # In whole microseconds, as the time of the file's last change has to say the same when the index is made anew.
        received = time.time_ns() // 1000
        commission.file.stamp(received)
        if self._syncs:
            commission.file.sync()
        if not there:
            make_folder(Path(folder), self._durability)
            self._is_there(place)
        record = Record(
            path=relative,
            inode=commission.file.inode,
            facts=commission.facts,
            digest=commission.digest,
            size=commission.size,
            transfer_syntax_uid=commission.transfer_syntax_uid,
            calling_ae_title=commission.calling_ae_title,
            address=commission.address,
            received=iso_time(received),
            suspect=commission.suspect,
        )
        placed[relative] = _Placed(waiting, record, folder, path)

    def _is_there(self, folder: str) -> bool:
        """Tell whether a folder is there.

        Raises `OSError` where it is not in the archive: names can't lead out of it, but a planted link can.
        """
        for path in _ways(self._root, folder):
            try:
                entry = os.lstat(path)
            except FileNotFoundError:
                return False
            if stat.S_ISLNK(entry.st_mode) and not Path(path).resolve().is_relative_to(self._root):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        return True

    def _link(self, placed: _Placed) -> bool:
        """Make a file visible; give whether it is."""
        waiting = placed.waiting
        try:
            if self._replaces:
                waiting.commission.file.replace(placed.path)
            else:
                waiting.commission.file.link(placed.path)
        except FileExistsError:
            # Another process was faster; in the next batch this one looks again.
            self._waiting.put(waiting)
            return False
        except OSError as error:
            waiting.settle(error)
            return False
        return True


@functools.lru_cache(maxsize=64)
def _ways(root: str, folder: str) -> tuple[str, ...]:
    """Give the paths of a folder and of those that it is in, from the top."""
    return tuple(f"{root}/{way}" for way in itertools.accumulate(folder.split("/"), "{}/{}".format))


_Outcome: TypeAlias = tuple[Status, Record | None] | Exception


class _Waiting:
    """A commission that somebody waits for."""

    def __init__(self, commission: PendingInstance) -> None:
        self.commission = commission
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.answer: asyncio.Future[tuple[Status, Record | None]] = self._loop.create_future()

    def settle(self, outcome: _Outcome) -> None:
        """Remove the temporary name, and tell whoever waits. To be called once."""
        # On a disk that can only be read by now, the temporary file stays; it is swept once this process has ended.
        with contextlib.suppress(OSError):
            self.commission.file.discard()
        if threading.get_ident() == self._thread:
            self._tell(outcome)
        else:
            with contextlib.suppress(RuntimeError):  # The event loop has ended, and whoever waited with it.
                self._loop.call_soon_threadsafe(self._tell, outcome)

    def _tell(self, outcome: _Outcome) -> None:
        if self.answer.done():
            return
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


class _Placed(NamedTuple):
    """A commission that has its place."""

    waiting: _Waiting
    record: Record
    folder: str
    path: str


def data_set_digest(path: str | Path) -> str:
    """Give the digest of a stored data set; "" for a file that has none. Raises `OSError`."""
    try:
        file = read_part10(path)
        digest = blake3()
        for chunk in file.chunks(_CHUNK_BYTES):
            digest.update(chunk)
    except FileMetaError:
        return ""
    return digest.hexdigest()

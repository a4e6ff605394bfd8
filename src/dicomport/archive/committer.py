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
import os
import queue
import stat
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from blake3 import blake3

from dicomport.archive.layout import Layout
from dicomport.archive.records import Record
from dicomport.archive.scanner import InstanceFacts
from dicomport.archive.sessions import Session
from dicomport.files import BLOCK_BYTES, Disk, Durability, TemporaryFile, make_folder, read_part10, sync
from dicomport.standard import SUCCESS, Status
from dicomport.wire import FileMetaError

__all__ = ["Commission", "Committer", "Duplicates", "data_set_digest"]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Commission:
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

    async def commit(self, commission: Commission) -> tuple[Status, Record | None]:
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
        if waiting.commission.size > BLOCK_BYTES or not self._disk.quick or self._busy():
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
        placed: dict[str, _Waiting] = {}
        for waiting in batch:
            with _Failing([waiting]):
                self._place(waiting, placed)
        with _Failing(placed.values()):
            self._session.append([waiting.record for waiting in placed.values() if waiting.record is not None])
        linked = [waiting for waiting in placed.values() if self._link(waiting)]
        with _Failing(linked):
            if self._syncs:
                for folder in {waiting.folder for waiting in linked}:
                    sync(folder)
        # What is visible is in the archive, even if its sender must be told that the disk is in trouble.
        self._committed([waiting.record for waiting in linked if waiting.record is not None])
        for waiting in linked:
            waiting.finish(SUCCESS, waiting.record)

    def _place(self, waiting: _Waiting, placed: dict[str, _Waiting]) -> None:
        """Write the file to the end, find its place and make its record; or finish it, if it needs none."""
        commission = waiting.commission
        folder, stem = self._layout.place(commission.facts, commission.calling_ae_title)
        there = self._is_there(folder)
        waiting.folder = f"{self._root}/{folder}"
        number = 1
        while True:
            relative = f"{folder}/{stem}.dcm" if number == 1 else f"{folder}/{stem}~{number}.dcm"
            waiting.path = f"{self._root}/{relative}"
            if relative in placed:
                self._waiting.put(waiting)  # After this batch it can be told what there is.
                return
            if not os.path.lexists(waiting.path):
                break
            if not os.path.islink(waiting.path) and data_set_digest(waiting.path) == commission.digest:
                if self._syncs:
                    # Whoever wrote it may not have come that far yet.
                    sync(waiting.path)
                    sync(waiting.folder)
                waiting.finish(SUCCESS)
                return
            if self._duplicates is Duplicates.REJECT:
                waiting.finish(DUPLICATE_REFUSED)
                return
            if self._replaces:
                break
            number += 1
        # In whole microseconds, as the time of the file's last change has to say the same when the index is made anew.
        received = datetime.now(UTC)
        commission.file.stamp(round(received.timestamp() * 1_000_000))
        if self._syncs:
            commission.file.sync()
        if not there:
            make_folder(Path(waiting.folder), self._durability)
            self._is_there(folder)
        waiting.record = Record(
            path=relative,
            inode=commission.file.inode,
            facts=commission.facts,
            digest=commission.digest,
            size=commission.size,
            transfer_syntax_uid=commission.transfer_syntax_uid,
            calling_ae_title=commission.calling_ae_title,
            address=commission.address,
            received=received.isoformat(timespec="microseconds"),
            suspect=commission.suspect,
        )
        placed[relative] = waiting

    def _is_there(self, folder: str) -> bool:
        """Tell whether a folder is there.

        Raises `OSError` where it is not in the archive: names can't lead out of it, but a planted link can.
        """
        path = self._root
        for name in folder.split("/"):
            path = f"{path}/{name}"
            try:
                entry = os.lstat(path)
            except FileNotFoundError:
                return False
            if stat.S_ISLNK(entry.st_mode) and not Path(path).resolve().is_relative_to(self._root):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        return True

    def _link(self, waiting: _Waiting) -> bool:
        """Make a file visible; give whether it is."""
        if waiting.settled:
            return False
        try:
            if self._replaces:
                waiting.commission.file.replace(waiting.path)
            else:
                waiting.commission.file.claim(waiting.path)
        except FileExistsError:
            # Another process was faster; in the next batch this one looks again.
            self._waiting.put(waiting)
            return False
        except OSError as error:
            waiting.fail(error)
            return False
        return True


class _Waiting:
    """A commission that somebody waits for."""

    def __init__(self, commission: Commission) -> None:
        self.commission = commission
        self.settled = False
        """Whether there is an answer, even if its way into the event loop is still to go."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.answer: asyncio.Future[tuple[Status, Record | None]] = self._loop.create_future()
        self.folder = ""
        self.path = ""
        self.record: Record | None = None

    def finish(self, status: Status, stored: Record | None = None) -> None:
        if not self.settled:
            self._settle(lambda: self.answer.set_result((status, stored)))

    def fail(self, error: Exception) -> None:
        if not self.settled:
            self._settle(lambda: self.answer.set_exception(error))

    def _settle(self, tell: Callable[[], None]) -> None:
        self.settled = True
        # On a disk that can only be read by now, the temporary file stays; it is swept once this process has ended.
        with contextlib.suppress(OSError):
            self.commission.file.discard()

        def tell_whoever_waits() -> None:
            if not self.answer.done():
                tell()

        if threading.get_ident() == self._thread:
            tell_whoever_waits()
        else:
            with contextlib.suppress(RuntimeError):  # The event loop has ended, and whoever waited with it.
                self._loop.call_soon_threadsafe(tell_whoever_waits)


class _Failing:
    """Hands an error on to all who wait for what it happened to: there it is raised again."""

    def __init__(self, waiting: Iterable[_Waiting]) -> None:
        self._waiting = waiting

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        for one in self._waiting:
            one.fail(error)
        return True


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

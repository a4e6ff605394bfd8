"""The thread that compares instances with stored files whose names they would get.

Theory of operation
-------------------
Nearly every instance gets a name that is free, and the committer stores it without reading anything. If the name is
taken, the committer passes the instance to the thread of this module, so that reading a large file delays only
duplicates. The thread inspects the files with the names "UID.dcm", "UID~2.dcm" and so on:

- a file of another size differs;
- a file differs if its digest in the index differs, and the index describes the present file;
- any other file is read. Its size is the size that the sender has sent, so that a sender cannot cause more reading than
  it has sent bytes, for each of a limited number of files.

The decision is a result, such as that the instance is stored already; or the number of a name that is free, with which
the instance returns to the committer. If another process takes that name meanwhile, the instance is compared again. The
thread works for the peers' addresses in turns, a block at a time: many or large duplicates of one peer delay a
duplicate of another peer by one block for each address.
"""

from __future__ import annotations

import enum
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple, Protocol

from dicomport.archive.digests import compare
from dicomport.archive.path_template import path_in
from dicomport.archive.records import received_at
from dicomport.files import MAX_COPIES, numbered_name, read_part10, sync
from dicomport.standard import SUCCESS, TOO_MANY_DUPLICATES, Status
from dicomport.turns import Turns
from dicomport.wire import FileMetaError

DUPLICATE_REFUSED: Final = Status(0x0111, "another instance with this UID is already stored")


class Duplicates(enum.StrEnum):
    """The way to handle a known SOP Instance UID with different content. Identical content is accepted, not stored."""

    KEEP_BOTH = "keep-both"
    """Store the instance beside the first, as a conflict."""
    REPLACE = "replace"
    """Replace the first."""
    REJECT = "reject"
    """Refuse the instance with 0x0111."""


class IndexedFile(NamedTuple):
    """The description of a file in the index."""

    digest: str
    received: str


class Duplicate(Protocol):
    """An instance whose name is taken. Its methods are called by the thread of `Comparisons`."""

    number: int
    """Number of the first name to inspect."""
    overwrites: bool
    """Whether the instance replaces the file that has the name."""

    @property
    def address(self) -> str:
        """Address of the peer."""

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID."""

    @property
    def size(self) -> int:
        """Size of the data set, bytes."""

    @property
    def digest(self) -> str:
        """Digest of the data set."""

    def end(self, result: Status | Exception) -> None:
        """Respond with a status, or with that of an error; the instance is not stored."""


class Comparisons:
    """The queues of duplicates, one for each address, and the thread that empties them in turns."""

    def __init__(
        self,
        root: str,
        duplicates: Duplicates,
        *,
        syncs: bool,
        find: Callable[[str], Mapping[str, IndexedFile]],
        is_free: Callable[[str], bool],
    ) -> None:
        """Start the thread.

        `find` returns the files of a SOP Instance UID in the index, by their paths in the archive; `is_free` whether a
        name is free.
        """
        self._root = root
        self._duplicates = duplicates
        self._syncs = syncs
        self._find = find
        self._is_free = is_free
        self._changed = threading.Condition()
        """Protects the fields below."""
        self._waiting: Turns[tuple[Duplicate, Iterator[None]]] = Turns()
        """The instances by address."""
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="dicomport-duplicates", daemon=True)
        self._thread.start()

    def put(self, duplicate: Duplicate, place: str, stem: str, store: Callable[[], None]) -> None:
        """Queue an instance that would be stored in the folder `place`; after `close`, compare it in this thread.

        `store` is called if the instance is to be stored.
        """
        steps = self._steps(duplicate, place, stem, store)
        with self._changed:
            if not self._ending:
                self._waiting.put(duplicate.address, (duplicate, steps))
                self._changed.notify()
                return
        while _advance(duplicate, steps):
            pass

    def close(self) -> None:
        """Compare the queued instances and end the thread."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._ending:
                    self._changed.wait()
                if not self._waiting:
                    return
                address, (duplicate, steps) = next(self._waiting.heads())
            finished = not _advance(duplicate, steps)
            with self._changed:
                self._waiting.end_turn(address, finished=finished)

    def _steps(self, duplicate: Duplicate, place: str, stem: str, store: Callable[[], None]) -> Iterator[None]:
        """Compare an instance with the stored files, and decide; stop after each block."""
        indexed: Mapping[str, IndexedFile] | None = None
        for number in range(duplicate.number, MAX_COPIES + 1):
            relative = path_in(place, numbered_name(stem, number))
            path = f"{self._root}/{relative}"
            if self._is_free(path):
                duplicate.number = number
                store()
                return
            status = os.lstat(path)
            if _has_size(path, status, duplicate.size):
                if indexed is None:
                    indexed = self._find(duplicate.sop_instance_uid)
                    yield
                known = indexed.get(relative)
                differs = (
                    known is not None and known.received == received_at(status) and known.digest != duplicate.digest
                )
                if not differs and (yield from compare(path, duplicate.digest)):
                    self._sync(path)
                    duplicate.end(SUCCESS)
                    return
            if self._duplicates is Duplicates.REJECT:
                duplicate.end(DUPLICATE_REFUSED)
                return
            if self._duplicates is Duplicates.REPLACE:
                duplicate.overwrites = True
                store()
                return
            yield
        duplicate.end(TOO_MANY_DUPLICATES)

    def _sync(self, path: str) -> None:
        """Sync a file and its name: the process that wrote it may not have synced it yet."""
        if self._syncs:
            sync(path)
            sync(path.rpartition("/")[0])


def _advance(duplicate: Duplicate, steps: Iterator[None]) -> bool:
    """Compare one block; return whether more are left."""
    try:
        next(steps)
    except StopIteration:
        return False
    except Exception as error:  # noqa: BLE001  # the sink that awaits the result raises it
        duplicate.end(error)
        return False
    return True


def _has_size(path: str, status: os.stat_result, size: int) -> bool:
    """Return whether a path is a Part 10 file with a data set of this size. Raises `OSError`."""
    if not stat.S_ISREG(status.st_mode) or status.st_size < size:
        return False
    try:
        return read_part10(path).size == size
    except FileMetaError:
        return False

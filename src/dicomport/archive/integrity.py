"""Integrity of stored instances: each exists, is complete, and has the bytes that were received."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Protocol

from dicomport.archive.checks import is_same_class
from dicomport.archive.commit.sessions import unindexed
from dicomport.archive.database.queries import batched
from dicomport.archive.digests import has_digest
from dicomport.archive.index import Index
from dicomport.archive.paths import Paths
from dicomport.archive.records import Record, has_inode
from dicomport.files import sync
from dicomport.logs import get_logger, reason_of
from dicomport.standard import (
    CLASS_INSTANCE_CONFLICT,
    NO_SUCH_SOP_INSTANCE,
    PROCESSING_FAILURE,
    SUCCESS,
    Status,
)
from dicomport.values import frozen, slotted

log = get_logger("archive")


class Reference(Protocol):
    """A SOP Instance by its UIDs."""

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID."""

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID."""


@frozen
class _Stored:
    """The expected properties of a stored file."""

    sop_class_uid: str
    digest: str


@slotted
class _LookUp:
    """The results of one lookup that its later references share."""

    checked: dict[tuple[Path, str], Status] = field(default_factory=dict)
    """Results by file and expected digest: each file is read once, however many references name its instance."""
    synced: set[Path] = field(default_factory=set)
    """Folders whose names are on stable storage."""


class Integrity:
    """Looks up instances in the index and reads their files.

    Theory of operation
    -------------------
    One thread reads all files, so that requests cannot occupy the threads that write instances. Each file is a separate
    call of that thread, and the calls of concurrent lookups are queued in the order of their arrival: so these lookups
    take turns, file by file, and a long one delays another by one file at a time.

    A file is synced before its instance is reported as safe, regardless of the durability at its reception: a
    commitment promises more than the response to a C-STORE request. To sync a file that is on stable storage already
    costs little, while a record of its durability, or a comparison of clocks, could be wrong.
    """

    def __init__(self, paths: Paths, index: Index) -> None:
        self._paths = paths
        self._index = index
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "dicomport-integrity")
        self._closing = threading.Event()

    async def look_up(self, references: Sequence[Reference]) -> list[Status]:
        """Return a status for each instance; see `Archive.look_up`."""
        run = functools.partial(asyncio.get_running_loop().run_in_executor, self._thread)
        lookup = _LookUp()
        statuses: list[Status] = []
        for some in batched(references):
            stored = await run(self._find_stored, {reference.sop_instance_uid for reference in some})
            for reference in some:
                files = stored.get(reference.sop_instance_uid)
                statuses.append(await run(self._check, reference, files, lookup) if files else NO_SUCH_SOP_INSTANCE)
        return statuses

    def close(self) -> None:
        """Cancel the current lookups and end the thread, also while it reads a long file."""
        self._closing.set()
        self._thread.shutdown()

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise RuntimeError("the archive is closing")

    def _find_stored(self, uids: Collection[str]) -> dict[str, dict[str, _Stored]]:
        """Return the stored files of instances, by UID and path."""
        self._check_open()
        stored: dict[str, dict[str, _Stored]] = {}
        # The journals first: records that leave them meanwhile are in the index.
        for record, _ in unindexed(self._paths.sessions):
            attributes = record.attributes
            if attributes.sop_instance_uid in uids and _may_exist(self._paths.root, record):
                by_path = stored.setdefault(attributes.sop_instance_uid, {})
                by_path[record.path] = _Stored(attributes.sop_class_uid, record.digest)
        for row in self._index.find(*uids):
            by_path = stored.setdefault(row["sop_instance_uid"], {})
            by_path.setdefault(row["path"], _Stored(row["sop_class_uid"], row["digest"]))
        return stored

    def _check(self, reference: Reference, stored: Mapping[str, _Stored], lookup: _LookUp) -> Status:
        self._check_open()
        wanted = reference.sop_class_uid
        matching = {path: one for path, one in stored.items() if is_same_class(one.sop_class_uid, wanted)}
        if not matching:
            return CLASS_INSTANCE_CONFLICT
        for name, one in matching.items():
            path = self._paths.root / name
            status = lookup.checked.get((path, one.digest))
            if status is None:
                status = lookup.checked[path, one.digest] = self._check_file(path, one.digest, reference, lookup.synced)
            if status is not SUCCESS:
                return status
        return SUCCESS

    def _check_file(self, path: Path, digest: str, reference: Reference, synced: set[Path]) -> Status:
        """Return whether a file has the received bytes, and ensure that it is on stable storage."""
        try:
            if has_digest(path, digest, self._check_open):
                self._sync(path, synced)
                return SUCCESS
            status, problem = PROCESSING_FAILURE, "the data set differs from the received data set"
        except OSError as error:
            status = NO_SUCH_SOP_INSTANCE if isinstance(error, FileNotFoundError) else PROCESSING_FAILURE
            problem = reason_of(error)
        log.error("instance_lost", sop_instance_uid=reference.sop_instance_uid, reason=problem)
        return status

    def _sync(self, path: Path, synced: set[Path]) -> None:
        """Sync a file, and the folders down to it: their names may not be on stable storage either."""
        sync(path)
        root = self._paths.root
        for folder in (path.parent, *path.parent.parents):
            if folder not in synced:
                sync(folder)
                synced.add(folder)
            if folder == root:
                return


def _may_exist(root: Path, record: Record) -> bool:
    """Return whether a record's file exists or cannot be examined; reading it fails then."""
    try:
        return has_inode(root, record)
    except OSError:
        return True

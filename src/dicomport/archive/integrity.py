"""Integrity of stored instances: each exists, is complete, and has the bytes that were received."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from dicomport.archive.checks import is_same_class
from dicomport.archive.commit.sessions import unindexed
from dicomport.archive.digests import has_digest
from dicomport.archive.index import Index
from dicomport.archive.paths import Paths
from dicomport.archive.records import status_of_file
from dicomport.files import Durability, sync
from dicomport.logs import get_logger, reason_of
from dicomport.standard import (
    CLASS_INSTANCE_CONFLICT,
    NO_SUCH_SOP_INSTANCE,
    PROCESSING_FAILURE,
    SUCCESS,
    Status,
)

_MAX_QUERIED: Final = 500
"""Limit of instances in one query of the index."""

_NEVER: Final = "9999"

log = get_logger("archive")


class Reference(Protocol):
    """A SOP Instance by its UIDs."""

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID."""

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """The expected properties of a stored file."""

    sop_class_uid: str
    digest: str
    received: str


class Integrity:
    """Looks up instances in the index and reads their files.

    One thread does all lookups, so that a peer's requests can't occupy the threads that write instances.
    """

    def __init__(self, paths: Paths, index: Index, durability: Durability) -> None:
        self._paths = paths
        self._index = index
        opened = datetime.now(UTC).isoformat(timespec="microseconds")
        self._durable_since = opened if durability is Durability.FSYNC else _NEVER
        """Instances received since then were synced before they were acknowledged; earlier ones may not have been."""
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "dicomport-integrity")
        self._closing = threading.Event()

    async def look_up(self, references: Sequence[Reference]) -> list[Status]:
        """Return a status for each instance; see `Archive.look_up`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._look_up, references)

    def close(self) -> None:
        """Cancel the current lookup and end the thread."""
        self._closing.set()
        self._thread.shutdown()

    def _look_up(self, references: Sequence[Reference]) -> list[Status]:
        statuses: list[Status] = []
        for start in range(0, len(references), _MAX_QUERIED):
            some = references[start : start + _MAX_QUERIED]
            stored = self._find_stored({reference.sop_instance_uid for reference in some})
            # All these files are visible now, so one fsync of each folder suffices.
            synced: set[Path] = set()
            for reference in some:
                if self._closing.is_set():
                    raise RuntimeError("the archive is closing")
                statuses.append(self._check(reference, stored.get(reference.sop_instance_uid, {}), synced))
        return statuses

    def _find_stored(self, uids: Collection[str]) -> dict[str, dict[str, _Stored]]:
        """Return the stored files of instances, by UID and path."""
        stored: dict[str, dict[str, _Stored]] = {}
        # The journals first: records that leave them meanwhile are in the index.
        for record in unindexed(self._paths.sessions):
            facts = record.facts
            if facts.sop_instance_uid in uids and status_of_file(self._paths.root, record) is not None:
                by_path = stored.setdefault(facts.sop_instance_uid, {})
                by_path[record.path] = _Stored(facts.sop_class_uid, record.digest, record.received)
        for row in self._index.find(*uids):
            by_path = stored.setdefault(row["sop_instance_uid"], {})
            by_path.setdefault(row["path"], _Stored(row["sop_class_uid"], row["digest"], row["received"]))
        return stored

    def _check(self, reference: Reference, stored: Mapping[str, _Stored], synced: set[Path]) -> Status:
        if not stored:
            return NO_SUCH_SOP_INSTANCE
        wanted = reference.sop_class_uid
        matching = {path: one for path, one in stored.items() if is_same_class(one.sop_class_uid, wanted)}
        if not matching:
            return CLASS_INSTANCE_CONFLICT
        for path, one in matching.items():
            try:
                if self._is_intact(self._paths.root / path, one, synced):
                    continue
                status, problem = PROCESSING_FAILURE, "the data set differs from the received data set"
            except OSError as error:
                status = NO_SUCH_SOP_INSTANCE if isinstance(error, FileNotFoundError) else PROCESSING_FAILURE
                problem = reason_of(error)
            log.error("instance_lost", sop_instance_uid=reference.sop_instance_uid, reason=problem)
            return status
        return SUCCESS

    def _is_intact(self, path: Path, stored: _Stored, synced: set[Path]) -> bool:
        """Return whether a file has the received bytes, and ensure that it is on stable storage. Raises `OSError`."""
        if not has_digest(path, stored.digest):
            return False
        if stored.received < self._durable_since:
            # A commitment promises more than the response to the C-STORE request did.
            sync(path)
            if path.parent not in synced:
                sync(path.parent)
                synced.add(path.parent)
        return True

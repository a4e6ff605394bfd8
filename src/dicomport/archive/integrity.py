"""What the archive can answer for: instances that are there, whole, and as they came."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from dicomport.archive.commit.committer import data_set_digest
from dicomport.archive.commit.sessions import unindexed
from dicomport.archive.index import Index
from dicomport.archive.paths import Paths
from dicomport.archive.records import Record
from dicomport.files import Durability, sync
from dicomport.logs import get_logger, reason_of
from dicomport.standard import (
    CLASS_INSTANCE_CONFLICT,
    NO_SUCH_SOP_INSTANCE,
    PROCESSING_FAILURE,
    SUCCESS,
    Status,
    sop_classes,
)

__all__ = ["Integrity"]

_AT_ONCE: Final = 500
"""Instances that the index is asked for in one query."""

_NEVER: Final = "9999"

log = get_logger("archive")


class Reference(Protocol):
    """One SOP Instance by its UIDs."""

    @property
    def sop_class_uid(self) -> str: ...
    @property
    def sop_instance_uid(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of one stored file."""

    sop_class_uid: str
    digest: str
    received: str


class Integrity:
    """Looks instances up: index, file, and every byte of it.

    It has one thread: reading whatever a peer asks for must not keep the instances of others from the disk.
    """

    def __init__(self, paths: Paths, index: Index, durability: Durability) -> None:
        self._paths = paths
        self._index = index
        opened = datetime.now(UTC).isoformat(timespec="microseconds")
        self._durable_since = opened if durability is Durability.FSYNC else _NEVER
        """What has come since was on stable storage before it was acknowledged. Of what came before nobody knows."""
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "dicomport-custody")
        self._closing = threading.Event()

    async def look_up(self, references: Sequence[Reference]) -> list[Status]:
        """Say of each instance whether it is in safe keeping, as `Archive.look_up` has it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._look_up, references)

    def close(self) -> None:
        """Break off what is being looked up."""
        self._closing.set()
        self._thread.shutdown()

    def _look_up(self, references: Sequence[Reference]) -> list[Status]:
        statuses: list[Status] = []
        for start in range(0, len(references), _AT_ONCE):
            some = references[start : start + _AT_ONCE]
            known = self._known({reference.sop_instance_uid for reference in some})
            # All that is known is visible by now: a folder is synced once.
            synced: set[Path] = set()
            for reference in some:
                if self._closing.is_set():
                    raise RuntimeError("the archive is being closed")
                statuses.append(self._judge(reference, known.get(reference.sop_instance_uid, {}), synced))
        return statuses

    def _known(self, uids: Collection[str]) -> dict[str, dict[str, _Known]]:
        """Give what is known of instances, by UID and path."""
        known: dict[str, dict[str, _Known]] = {}
        # The journals come first: what has left them by now, the index has.
        for record in unindexed(self._paths.sessions):
            facts = record.facts
            if facts.sop_instance_uid in uids and _is_there(self._paths.root / record.path, record):
                by_path = known.setdefault(facts.sop_instance_uid, {})
                by_path[record.path] = _Known(facts.sop_class_uid, record.digest, record.received)
        for row in self._index.find_all(uids):
            by_path = known.setdefault(row["sop_instance_uid"], {})
            by_path.setdefault(row["path"], _Known(row["sop_class_uid"], row["digest"], row["received"]))
        return known

    def _judge(self, reference: Reference, known: Mapping[str, _Known], synced: set[Path]) -> Status:
        if not known:
            return NO_SUCH_SOP_INSTANCE
        meant = {path: one for path, one in known.items() if _is_same(one.sop_class_uid, reference.sop_class_uid)}
        if not meant:
            return CLASS_INSTANCE_CONFLICT
        for path, one in meant.items():
            try:
                if self._is_whole(self._paths.root / path, one, synced):
                    continue
                status, problem = PROCESSING_FAILURE, "the data set is not the one that was received"
            except OSError as error:
                status = NO_SUCH_SOP_INSTANCE if isinstance(error, FileNotFoundError) else PROCESSING_FAILURE
                problem = reason_of(error)
            log.error("instance_lost", sop_instance_uid=reference.sop_instance_uid, reason=problem)
            return status
        return SUCCESS

    def _is_whole(self, path: Path, known: _Known, synced: set[Path]) -> bool:
        """Read a file, and see that it is what was received, and on stable storage. Raises `OSError`."""
        if data_set_digest(path) != known.digest:
            return False
        if known.received < self._durable_since:
            # A promise to keep something is more than what the answer to its C-STORE was.
            sync(path)
            if path.parent not in synced:
                sync(path.parent)
                synced.add(path.parent)
        return True


def _is_there(path: Path, record: Record) -> bool:
    """Tell whether a record's file has become visible, and no other has taken its place."""
    try:
        return path.stat(follow_symlinks=False).st_ino == record.inode
    except OSError:
        return False


def _is_same(one: str, other: str) -> bool:
    """Tell whether two UIDs are of one SOP Class: there are misprinted ones."""
    known = sop_classes.find(one)
    return one == other or (known is not None and known is sop_classes.find(other))

"""Instances that were refused because of their content, kept unchanged: a modality may be unable to send them again.

Theory of operation
-------------------
Each instance has two files, its bytes and a description, whose names begin with a number that only grows: the order
does not depend on the clock. The processes that share the folder count bytes, entries and numbers in the file
`quarantine.json` beside it, under its lock. An instance is counted before its files are written, and an old one is
subtracted after its files are removed. So a process that is killed leaves a count that is too large, and the next start
counts again. Each process knows the names that it has listed or written; it removes the first of them while a limit is
exceeded, and lists the folder again when it knows no more. So a refusal takes the same time regardless of the number of
entries, apart from the entries that it displaces.

Entries expire by the system's clock, but at most by a day for each hour that the process has run, and by a week at a
start: a clock that jumps does not empty the quarantine.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from dicomport.files import (
    Durability,
    TemporaryFile,
    file_name,
    give_to_owner_of,
    make_own_folder,
    open_as_owner,
    read_text,
    remove,
    sync,
    system,
    write_all,
    write_text,
)
from dicomport.files.lock_waiting import wait_for_lock
from dicomport.values import frozen, slotted

_DAY: Final = 86400.0

_MAX_CATCH_UP: Final = 24.0
"""Days by which entries may age in a day of the process, if the clock is ahead."""

_MAX_JUMP: Final = 7 * _DAY
"""Time by which entries may age between two processes, seconds: a receiver that was off for longer catches up later."""

_ORPHANED_SECONDS: Final = 3600.0
"""Age at which a description without an instance is removed."""

_BLOCK_BYTES: Final = 4096
"""Files occupy whole blocks of a disk."""

_USAGE_BYTES: Final = 256
"""Length of the file with the counts: it is written at once."""


@frozen(kw_only=True)
class QuarantineEntry:
    """A refused instance."""

    file: str
    """Name in the quarantine folder of a Part 10 file with the received bytes."""
    reason: str
    """The failed checks."""
    status: int
    sop_class_uid: str
    """From the request, like the other UID."""
    sop_instance_uid: str
    transfer_syntax_uid: str
    size: int
    calling_ae_title: str
    address: str
    received: str


@slotted
class _Usage:
    """The counts that the processes share."""

    bytes: int = 0
    entries: int = 0
    number: int = 0
    """Number of the newest entry."""
    time: float = 0.0
    """Latest time by which entries expired, seconds since 1970."""


class Quarantine:
    """A folder with limits on its size on disk, its entries and their age; the oldest entry is removed first."""

    def __init__(
        self, folder: Path, durability: Durability, *, max_bytes: int, max_entries: int, max_days: float
    ) -> None:
        """Open the folder and create it if it is missing; count its entries, and remove those above the limits.

        Raises `OSError`.
        """
        self._folder = folder
        self._durability = durability
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._max_seconds = max_days * _DAY
        make_own_folder(folder, durability)
        self._changing = threading.Lock()
        """Protects the names."""
        self._names: deque[str] = deque()
        """Names without suffix of known entries, the oldest first."""
        self._opened = time.monotonic()
        with self._usage() as usage:
            self._remove_orphans()
            self._count(usage)
            now = time.time()
            self._time = min(now, usage.time + _MAX_JUMP) if usage.time else now
            self._prune(usage)

    def keep(self, file: TemporaryFile, entry: QuarantineEntry) -> Path:
        """Move a file into the folder, and return its path. Raises `OSError`."""
        size = _on_disk(file.status().st_size) + _BLOCK_BYTES
        with self._usage() as usage:
            usage.number += 1
            usage.entries += 1
            usage.bytes += size
            stem = f"{usage.number:012}-{file_name(entry.sop_instance_uid)}"
        path = self._folder / f"{stem}.dcm"
        description = path.with_suffix(".json")
        try:
            syncs = self._durability is Durability.FSYNC
            write_text(description, json.dumps(asdict(entry) | {"file": path.name}), syncs=syncs)
            if syncs:
                file.sync()
            file.link(path)
            give_to_owner_of(self._folder, path)
        except OSError:
            remove(description)
            with self._usage() as usage:
                usage.entries -= 1
                usage.bytes -= size
            raise
        if self._durability is Durability.FSYNC:
            sync(self._folder)
        with self._usage() as usage:
            self._names.append(stem)
            self._prune(usage)
        return path

    @contextlib.contextmanager
    def _usage(self) -> Iterator[_Usage]:
        """Lock and read the counts, and write them at the end."""
        with self._changing:
            path = self._folder.with_name(f"{self._folder.name}.json")
            descriptor = open_as_owner(path, system.CREATE)
            wait_for_lock(descriptor, path)
            try:
                usage = _decoded(system.pread(descriptor, _USAGE_BYTES, 0))
                yield usage
                write_all(descriptor, json.dumps(asdict(usage)).ljust(_USAGE_BYTES).encode())
            finally:
                system.close(descriptor)

    def _count(self, usage: _Usage) -> None:
        """List and count the entries."""
        self._list()
        usage.entries = len(self._names)
        usage.bytes = sum(map(self._size_of, self._names))
        usage.number = max([usage.number, *(int(name.partition("-")[0]) for name in self._names)])

    def _list(self) -> None:
        with system.scandir(self._folder) as found:
            names = [entry.name.removesuffix(".dcm") for entry in found if entry.name.endswith(".dcm")]
        self._names = deque(sorted(filter(_is_numbered, names)))

    def _prune(self, usage: _Usage) -> None:
        """Remove the oldest entries while a limit is exceeded."""
        now = min(time.time(), self._time + (time.monotonic() - self._opened) * _MAX_CATCH_UP)
        usage.time = max(usage.time, now)
        is_counted = False
        # The newest stays, regardless of its size, because the log reports it as quarantined.
        while usage.entries > 1:
            is_full = usage.bytes > self._max_bytes or usage.entries > self._max_entries
            if len(self._names) <= 1 and is_full and not is_counted:
                # Other processes have written the entries, or were killed before they did.
                self._count(usage)
                is_counted = True
            elif len(self._names) > 1 and (is_full or self._is_expired(self._names[0], now)):
                self._remove(self._names.popleft(), usage)
            else:
                return

    def _is_expired(self, name: str, now: float) -> bool:
        try:
            return now - (self._folder / f"{name}.dcm").stat().st_mtime > self._max_seconds
        except FileNotFoundError:
            return True  # Another process has removed it.

    def _remove(self, name: str, usage: _Usage) -> None:
        size = self._size_of(name)
        for suffix in (".dcm", ".json"):
            remove(self._folder / f"{name}{suffix}")
        if size:
            usage.entries = max(usage.entries - 1, 0)
            usage.bytes = max(usage.bytes - size, 0)

    def _size_of(self, name: str) -> int:
        """Return the size of an entry on disk, bytes; 0 if another process has removed it."""
        try:
            return _on_disk((self._folder / f"{name}.dcm").stat().st_size) + _BLOCK_BYTES
        except FileNotFoundError:
            return 0

    def _remove_orphans(self) -> None:
        """Remove descriptions without instances: their processes died before they wrote the second file."""
        for description in self._folder.glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                # A process may still write the second file of a recent one.
                is_old = time.time() - description.stat().st_mtime > _ORPHANED_SECONDS
                if is_old and not description.with_suffix(".dcm").exists():
                    remove(description)


def quarantined(folder: Path) -> Iterator[QuarantineEntry]:
    """Yield the entries of a quarantine folder, the oldest first."""
    for description in sorted(folder.glob("*.json")):
        # A process may remove an entry at any time, and a power failure may leave an empty description.
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
            if description.with_suffix(".dcm").exists():
                yield QuarantineEntry(**json.loads(read_text(description)))


def _decoded(data: bytes) -> _Usage:
    try:
        return _Usage(**json.loads(data))
    except (ValueError, TypeError):
        return _Usage()  # It is new, or was damaged by a power failure: the next start counts.


def _on_disk(size: int) -> int:
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES


def _is_numbered(name: str) -> bool:
    """Return whether a file is an entry; a person may have put other files into the folder."""
    number = name.partition("-")[0]
    return number.isascii() and number.isdecimal()

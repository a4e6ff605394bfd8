"""Instances that were refused because of their content, kept unchanged: a modality may be unable to send them again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from dicomport.files import (
    Durability,
    TemporaryFile,
    file_name,
    make_folder,
    numbered_names,
    read_text,
    remove,
    sync,
    write_text,
)

_DAY: Final = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
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


class Quarantine:
    """A folder with limits on its size and on the age of its instances; the oldest is removed first."""

    def __init__(self, folder: Path, durability: Durability, *, max_bytes: int, max_days: float) -> None:
        """Open the folder and create it if it is missing. Raises `OSError`."""
        self._folder = folder
        self._durability = durability
        self._max_bytes = max_bytes
        self._max_seconds = max_days * _DAY
        make_folder(folder, durability)
        for description in folder.glob("*.json"):
            # Its process died before it wrote the second file; for a recent file, a process may still write it.
            if not description.with_suffix(".dcm").exists() and time.time() - description.stat().st_mtime > _DAY:
                remove(description)

    def keep(self, file: TemporaryFile, entry: QuarantineEntry) -> None:
        """Move a file into the folder, named by its time of receipt and SOP Instance UID. Raises `OSError`."""
        stem = f"{entry.received.replace(':', '')}-{file_name(entry.sop_instance_uid)}"
        path = next(path for name in numbered_names(stem) if not (path := self._folder / name).exists())
        description = path.with_suffix(".json")
        try:
            syncs = self._durability is Durability.FSYNC
            write_text(description, json.dumps(asdict(entry) | {"file": path.name}), syncs=syncs)
            if syncs:
                file.sync()
            file.link(path)
        except OSError:
            remove(description)
            raise
        if self._durability is Durability.FSYNC:
            sync(self._folder)
        self._prune()

    def _prune(self) -> None:
        newest_first = sorted(self._folder.glob("*.dcm"), reverse=True)
        size = 0
        for number, path in enumerate(newest_first):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # Another association or process has removed it.
            size += status.st_size
            too_old = time.time() - status.st_mtime > self._max_seconds
            # The newest stays, regardless of its size, because the log reports it as quarantined.
            if number and (size > self._max_bytes or too_old):
                remove(path)
                remove(path.with_suffix(".json"))


def quarantined(folder: Path) -> Iterator[QuarantineEntry]:
    """Yield the entries of a quarantine folder, the oldest first."""
    for description in sorted(folder.glob("*.json")):
        if description.with_suffix(".dcm").exists():
            yield QuarantineEntry(**json.loads(read_text(description)))

"""What was refused for its content, kept bit for bit: a modality may not be able to send it twice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from dicomport.files import Durability, TemporaryFile, file_name, sync

__all__ = ["Quarantine", "QuarantineEntry", "quarantined"]

_DAY: Final = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineEntry:
    """One refused instance."""

    file: str
    """The file's name in the quarantine folder: a Part 10 file with the bytes as they came."""
    reason: str
    """The checks that it failed."""
    status: int
    sop_class_uid: str
    """As the request had it, like the other UID."""
    sop_instance_uid: str
    transfer_syntax_uid: str
    size: int
    calling_ae_title: str
    address: str
    received: str


class Quarantine:
    """A folder that is bounded in size and in age: what is oldest goes first."""

    def __init__(self, folder: Path, durability: Durability, *, max_bytes: int, max_days: float) -> None:
        """Take the folder, and make it where it is missing. Raises `OSError`."""
        self._folder = folder
        self._durability = durability
        self._max_bytes = max_bytes
        self._max_seconds = max_days * _DAY
        folder.mkdir(exist_ok=True)
        for described in folder.glob("*.json"):
            # Of a process that died between the two files; a younger one may be about to write the second.
            if not described.with_suffix(".dcm").exists() and time.time() - described.stat().st_mtime > _DAY:
                described.unlink(missing_ok=True)

    def keep(self, file: TemporaryFile, entry: QuarantineEntry) -> None:
        """Move a file in, under a name that tells when it came and what it said it was. Raises `OSError`."""
        stem = f"{entry.received.replace(':', '')}-{file_name(entry.sop_instance_uid)}"
        path = self._folder / f"{stem}.dcm"
        number = 1
        while path.exists():
            number += 1
            path = self._folder / f"{stem}~{number}.dcm"
        described = path.with_suffix(".json")
        try:
            described.write_text(json.dumps(asdict(entry) | {"file": path.name}), encoding="utf-8")
            if self._durability is Durability.FSYNC:
                file.sync()
                sync(described)
            file.link(path)
        except OSError:
            described.unlink(missing_ok=True)
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
                continue  # Another association or process was faster.
            size += status.st_size
            too_old = time.time() - status.st_mtime > self._max_seconds
            # The one that has just come stays, whatever its size: it was promised to.
            if number and (size > self._max_bytes or too_old):
                path.unlink(missing_ok=True)
                path.with_suffix(".json").unlink(missing_ok=True)


def quarantined(folder: Path) -> Iterator[QuarantineEntry]:
    """List what is in a quarantine folder, the oldest first."""
    for described in sorted(folder.glob("*.json")):
        if described.with_suffix(".dcm").exists():
            yield QuarantineEntry(**json.loads(described.read_text(encoding="utf-8")))

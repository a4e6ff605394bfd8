"""Transactions that were accepted and are not reported on yet, on disk: they outlive the process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicomport.files import TEMPORARY_SUFFIX, Durability, lock_folder, make_folder, sync
from dicomport.wire.commitment import SOPReference

__all__ = ["Transaction", "Transactions"]

_SUFFIX: Final = ".json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """A request for storage commitment, and who made it."""

    uid: str
    """Transaction UID."""
    ae_title: str
    """The requestor's."""
    references: tuple[SOPReference, ...]
    requested: float
    """When it was accepted, seconds since 1970."""
    duplicate: bool
    """Whether its UID was in use for another one."""

    def to_json(self) -> str:
        """Write it as text."""
        references = [(reference.sop_class_uid, reference.sop_instance_uid) for reference in self.references]
        return json.dumps(
            {
                "transaction_uid": self.uid,
                "ae_title": self.ae_title,
                "requested": self.requested,
                "duplicate": self.duplicate,
                "references": references,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Transaction:
        """Read it. Raises `ValueError` for what is none."""
        try:
            values = json.loads(text)
            return cls(
                uid=str(values["transaction_uid"]),
                ae_title=str(values["ae_title"]),
                references=tuple(SOPReference(str(one), str(two)) for one, two in values["references"]),
                requested=float(values["requested"]),
                duplicate=bool(values["duplicate"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"no transaction: {error}") from error


class Transactions:
    """A folder of transactions, each in a file, that is shared by processes: each has a folder of its own in it.

    That is locked as long as its process lives; what one that is gone has left goes over to the next that opens the
    folder. All of it blocks, and raises `OSError`.
    """

    def __init__(self, folder: Path) -> None:
        """Open the folder; it is made where it is missing."""
        make_folder(folder, Durability.FSYNC)
        with _gate(folder):
            self._folder = Path(tempfile.mkdtemp(prefix="process-", dir=folder))
            self._lock = lock_folder(self._folder, wait=False)
            for left in folder.glob("process-*"):
                if left != self._folder:
                    self._take_over(left)
        sync(folder)

    def _take_over(self, left: Path) -> None:
        try:
            lock = lock_folder(left, wait=False)
        except (BlockingIOError, FileNotFoundError):
            return  # Its process lives, or has just put it away.
        try:
            for path in left.glob(f"*{_SUFFIX}"):
                path.replace(self._folder / path.name)
            sync(self._folder)
            shutil.rmtree(left)
        finally:
            os.close(lock)

    def paths(self) -> list[Path]:
        """List the files of all transactions, the oldest first."""
        return sorted(self._folder.glob(f"*{_SUFFIX}"), key=lambda path: path.stat().st_mtime_ns)

    def keep(self, transaction: Transaction) -> Path:
        """Write a transaction to the disk, and give its file."""
        path = self._folder / f"{uuid.uuid4()}{_SUFFIX}"
        temporary = path.with_suffix(TEMPORARY_SUFFIX)
        try:
            with temporary.open("x", encoding="utf-8") as file:
                file.write(transaction.to_json())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync(self._folder)
        except OSError:
            for left in (temporary, path):
                left.unlink(missing_ok=True)
            raise
        return path

    def read(self, path: Path) -> Transaction:
        """Read a transaction. Raises `ValueError` where the file holds none."""
        return Transaction.from_json(path.read_text(encoding="utf-8"))

    def remove(self, path: Path) -> None:
        """Forget a transaction."""
        path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave what is left to the next process."""
        if not self.paths():
            shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)


@contextlib.contextmanager
def _gate(folder: Path) -> Iterator[None]:
    """Let one process at a time make or remove folders: one that is just being made must not look left."""
    lock = lock_folder(folder, wait=True)
    try:
        yield
    finally:
        os.close(lock)

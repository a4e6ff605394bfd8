"""Accepted storage commitment requests without a report yet, on disk: they survive the end of the process."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicomport.files import TEMPORARY_SUFFIX, Durability, make_folder, sync, system
from dicomport.files.locking import ProcessFolder, abandoned_folders
from dicomport.wire.commitment import SOPReference

__all__ = ["Transaction", "Transactions"]

_PREFIX: Final = "process-"
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
    """A folder of transactions, each in a file. Processes share it: each has a locked folder in it.

    A process that opens the folder takes over the transactions of processes that ended. All methods block, and raise
    `OSError`.
    """

    def __init__(self, folder: Path) -> None:
        """Open the folder, and create it if it is missing."""
        make_folder(folder, Durability.FSYNC)
        self._owned = ProcessFolder(folder, _PREFIX)
        self._folder = self._owned.path
        for abandoned in abandoned_folders(folder, _PREFIX):
            for path in abandoned.glob(f"*{_SUFFIX}"):
                system.replace(path, self._folder / path.name)
            sync(self._folder)
        sync(folder)

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
                system.fsync(file.fileno())
            system.replace(temporary, path)
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
        """Leave the remaining transactions to the next process."""
        if self.paths():
            self._owned.release()
        else:
            self._owned.remove()

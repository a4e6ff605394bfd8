"""Accepted storage commitment requests without a report yet, on disk: they survive the end of the process."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dicomport.commitment.data_sets import SOPReference
from dicomport.files import (
    TEMPORARY_SUFFIX,
    Durability,
    give_to_owner_of,
    make_folder,
    read_text,
    remove,
    sync,
    system,
    write_text,
)
from dicomport.files.locking import ProcessFolder, abandoned_folders
from dicomport.values import frozen

_PREFIX: Final = "process-"
_SUFFIX: Final = ".json"


@frozen(kw_only=True)
class Transaction:
    """A request for storage commitment, and its requestor."""

    uid: str
    """Transaction UID."""
    ae_title: str
    """AE title of the requestor."""
    host: str
    """Address of the requestor, without the port."""
    tls_fingerprint: str
    """SHA-256 of the requestor's verified certificate, empty without one."""
    references: tuple[SOPReference, ...]
    requested: float
    """Time of the request, seconds since 1970."""
    duplicate: bool
    """Whether another pending request of the requestor had the same UID."""

    def to_json(self) -> str:
        """Encode the transaction."""
        references = [(reference.sop_class_uid, reference.sop_instance_uid) for reference in self.references]
        return json.dumps(
            {
                "transaction_uid": self.uid,
                "ae_title": self.ae_title,
                "host": self.host,
                "tls_fingerprint": self.tls_fingerprint,
                "requested": self.requested,
                "duplicate": self.duplicate,
                "references": references,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Transaction:
        """Decode a transaction. Raises `ValueError` if the text is not valid."""
        try:
            values = json.loads(text)
            return cls(
                uid=str(values["transaction_uid"]),
                ae_title=str(values["ae_title"]),
                host=str(values["host"]),
                tls_fingerprint=str(values["tls_fingerprint"]),
                references=tuple(SOPReference(str(one), str(two)) for one, two in values["references"]),
                requested=float(values["requested"]),
                duplicate=bool(values["duplicate"]),
            )
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not a valid transaction: {error}") from error


class Transactions:
    """A folder of transactions, each in a file. Processes share it: each has a locked folder in it.

    A process that opens the folder takes over the transactions of processes that ended. All methods block, and raise
    `OSError`.
    """

    def __init__(self, folder: Path, durability: Durability = Durability.FSYNC) -> None:
        """Open the folder, and create it if it is missing."""
        self._syncs = durability is Durability.FSYNC
        make_folder(folder, durability)
        give_to_owner_of(folder.parent, folder)
        self._owned = ProcessFolder(folder, _PREFIX)
        self._folder = self._owned.path
        for abandoned in abandoned_folders(folder, _PREFIX):
            for path in abandoned.glob(f"*{_SUFFIX}"):
                system.replace(path, self._folder / path.name)
            self._sync(self._folder)
        self._sync(folder)

    def _sync(self, folder: Path) -> None:
        if self._syncs:
            sync(folder)

    def paths(self) -> list[Path]:
        """List the files of all transactions, the oldest first."""
        return sorted(self._folder.glob(f"*{_SUFFIX}"))

    def add(self, transaction: Transaction) -> Path:
        """Write a transaction, durably if the durability is FSYNC, and return its file."""
        path = self._folder / f"{time.time_ns():020}-{uuid.uuid4()}{_SUFFIX}"
        temporary = path.with_suffix(TEMPORARY_SUFFIX)
        try:
            write_text(temporary, transaction.to_json(), syncs=self._syncs)
            system.replace(temporary, path)
            self._sync(self._folder)
        except OSError:
            for left in (temporary, path):
                remove(left)
            raise
        return path

    def read(self, path: Path) -> Transaction:
        """Read a transaction. Raises `ValueError` if the file is not valid."""
        return Transaction.from_json(read_text(path))

    def remove(self, path: Path) -> None:
        """Remove a transaction."""
        remove(path)

    def close(self) -> None:
        """Leave the remaining transactions to the next process."""
        if self.paths():
            self._owned.release()
        else:
            self._owned.remove()


def all_transactions(folder: Path) -> Iterator[tuple[Path, Transaction]]:
    """Yield the transactions of all processes, with their files, the oldest first; invalid files are left out.

    Raises `OSError`, except for files that a running receiver removes meanwhile.
    """
    for path in sorted(_files(folder), key=lambda path: path.name):
        with contextlib.suppress(FileNotFoundError, ValueError):
            yield path, Transaction.from_json(read_text(path))


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of all processes; `Path.glob` would leave out a folder that cannot be listed."""
    with contextlib.suppress(FileNotFoundError):
        for process in folder.iterdir():
            if process.name.startswith(_PREFIX):
                with contextlib.suppress(FileNotFoundError):
                    yield from (path for path in process.iterdir() if path.name.endswith(_SUFFIX))

"""Recovery of the sessions of processes that died.

Theory of operation
-------------------
A record is in the journal before its file gets its name, and an instance is acknowledged after that. So each
acknowledged instance has a record in the index or in the journal of its session. A file that a record names is the file
of that record if its inode number and its modification time match; then the instance is added to the index. A record
without such a file was never acknowledged and is skipped. If a file cannot be examined, for example because its folder
cannot be read, its instance may have been acknowledged: then the session stays as it is for a later recovery. Otherwise
the index is synced, since a transaction alone does not
survive a power failure and the journal does. Only after that the session's folder is removed, with its temporary files,
under the lock of the sessions. If recovery itself is interrupted, the next process repeats it: adding the same record
twice changes nothing.
"""

from __future__ import annotations

from dataclasses import field
from pathlib import Path

from dicomport.archive.commit.sessions import abandoned
from dicomport.archive.database.queries import batched
from dicomport.archive.index import Index
from dicomport.archive.paths import Paths
from dicomport.archive.records import is_visible
from dicomport.values import slotted


@slotted
class Recovery:
    """The result of a recovery."""

    added: int = 0
    """Number of instances that the index lacked."""
    failures: dict[Path, OSError] = field(default_factory=dict)
    """The sessions that were not recovered, each with the error of one of its files."""


def recover(paths: Paths, index: Index, *, syncs: bool = True) -> Recovery:
    """Add the visible instances of processes that died to the index, and remove their sessions.

    The index is synced before a session is removed if `syncs` is true. Raises `IndexDatabaseError` and `OSError`.
    """
    recovery = Recovery()
    for folder, records in abandoned(paths.sessions, recovery.failures):
        try:
            visible = [record for record in records if is_visible(paths.root, record)]
        except OSError as error:
            recovery.failures[folder] = error
            continue
        for batch in batched(visible):
            rows = index.at([record.path for record in batch])
            received = {path: row["received"] for path, row in rows.items()}
            index.add(batch, wait=True)
            recovery.added += sum(received.get(record.path) != record.received for record in batch)
        if visible and syncs:
            index.sync()
    return recovery

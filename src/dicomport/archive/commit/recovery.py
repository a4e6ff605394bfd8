"""Recovery of the sessions of processes that died.

Theory of operation
-------------------
A record is in the journal before its file gets its name, and an instance is acknowledged after that. So each
acknowledged instance has a record in the index or in the journal of its session. A file that a record names is the file
of that record if its inode number and its modification time match; then the instance is added to the index. A record
without such a file was never acknowledged and is skipped. Only after that the session's folder is removed, with its
temporary files, under the lock of the sessions. If recovery itself is interrupted, the next process repeats it: adding
the same record twice changes nothing.
"""

from __future__ import annotations

from pathlib import Path

from dicomport.archive.commit.sessions import abandoned
from dicomport.archive.index import Index
from dicomport.archive.paths import Paths
from dicomport.archive.records import Record, received_at, status_of_file


def recover(paths: Paths, index: Index) -> int:
    """Add the visible instances of processes that died to the index, and remove their sessions; return the number."""
    number = 0
    for records in abandoned(paths.sessions):
        visible = [record for record in records if _is_unchanged(paths.root, record)]
        index.add(visible)
        number += len(visible)
    return number


def _is_unchanged(root: Path, record: Record) -> bool:
    """Return whether a record's file is visible; a later file may have the same inode number, but not the same time."""
    status = status_of_file(root, record)
    return status is not None and received_at(status) == record.received

"""Recovery of the sessions of processes that died.

Theory of operation
-------------------
A record is in the journal before its file gets its name, and an instance is acknowledged after that. So each
acknowledged instance has a record in the index or in the journal of its session. A file that a record names is the file
of that record if its inode number and its modification time match; then the instance is added to the index. A record
without such a file was never acknowledged and is skipped. Then the index is synced, since a transaction alone does not
survive a power failure and the journal does. Only after that the session's folder is removed, with its temporary files,
under the lock of the sessions. If recovery itself is interrupted, the next process repeats it: adding the same record
twice changes nothing.
"""

from __future__ import annotations

from dicomport.archive.commit.sessions import abandoned
from dicomport.archive.database.queries import batched
from dicomport.archive.index import Index
from dicomport.archive.paths import Paths
from dicomport.archive.records import is_visible


def recover(paths: Paths, index: Index, *, syncs: bool = True) -> int:
    """Add the visible instances of processes that died to the index, and remove their sessions; return the number.

    The index is synced before a session is removed if `syncs` is true. Raises `IndexDatabaseError` and `OSError`.
    """
    number = 0
    for records in abandoned(paths.sessions):
        visible = [record for record in records if is_visible(paths.root, record)]
        for batch in batched(visible):
            index.add(batch, wait=True)
        if visible and syncs:
            index.sync()
        number += len(visible)
    return number

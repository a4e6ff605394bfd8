"""Open an archive without storing instances in it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from dicomport.archive.commit.recovery import recover
from dicomport.archive.commit.sessions import PENDING_SECONDS, has_abandoned, unindexed
from dicomport.archive.database.queries import Queries, batched
from dicomport.archive.database.reading import IndexReader
from dicomport.archive.database.sqlite import IndexDatabaseError
from dicomport.archive.entries import has_instances
from dicomport.archive.index import Index
from dicomport.archive.paths import Paths
from dicomport.archive.records import is_visible, iso_time


@contextlib.contextmanager
def open_archive(root: str | Path) -> Iterator[tuple[Paths, IndexReader]]:
    """Open the index of an archive for reading. No write permission is needed.

    If this user may write, the sessions of processes that died are recovered first.

    Raises `FileNotFoundError` if the folder is not an archive; `DamagedIndexError` if the index is damaged or missing;
    `SchemaError` if another version of dicomport created it; `IndexDatabaseError` if it cannot be used now; `OSError`.
    """
    paths = Paths(Path(root).resolve())
    paths.sessions.stat()
    # Without permission or space, the next receiver recovers them.
    with contextlib.suppress(OSError, IndexDatabaseError):
        if has_abandoned(paths.sessions):
            with contextlib.closing(Index(paths.index, creates=lambda: not has_instances(paths))) as index:
                recover(paths, index)
    yield paths, IndexReader(paths.index)


def count_unindexed(paths: Paths, index: Queries) -> int:
    """Return the number of stored instances that the index lacks, and that no running receiver will soon add.

    Raises `OSError` and `IndexDatabaseError`.
    """
    before = iso_time(int((time.time() - PENDING_SECONDS) * 1e6))
    number = 0
    for records in batched(unindexed(paths.sessions)):
        settled = [one for one in records if one.received < before and is_visible(paths.root, one)]
        rows = index.at([one.path for one in settled])
        number += sum(rows.get(one.path, {}).get("received") != one.received for one in settled)
    return number

"""Open an archive without storing instances in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from dicomport.archive.commit.recovery import recover
from dicomport.archive.commit.sessions import abandoned_sessions, has_abandoned, unindexed
from dicomport.archive.database.queries import Queries, batched
from dicomport.archive.database.reading import IndexReader
from dicomport.archive.database.sqlite import IndexDatabaseError
from dicomport.archive.entries import may_have_instances
from dicomport.archive.index import Index
from dicomport.archive.paths import Paths
from dicomport.archive.records import may_be_visible
from dicomport.values import frozen


@contextlib.contextmanager
def open_archive(
    root: str | Path, *, on_recovery_failure: Callable[[Exception], object] = lambda _: None
) -> Iterator[tuple[Paths, IndexReader]]:
    """Open the index of an archive for reading. No write permission is needed.

    The sessions of processes that died are recovered first. Without permission or space, or if a file of a session
    cannot be examined, `on_recovery_failure` is called with the `OSError` or `IndexDatabaseError`, and the index lacks
    their last instances (see `count_unindexed`).

    Raises `FileNotFoundError` if the folder is not an archive; `DamagedIndexError` if the index is damaged or missing;
    `SchemaError` if another version of dicomport created it; `IndexDatabaseError` if it cannot be used now; `OSError`.
    """
    paths = Paths(Path(root).resolve())
    paths.sessions.stat()
    try:
        if has_abandoned(paths.sessions):
            with contextlib.closing(Index(paths.index, creates=lambda: not may_have_instances(paths))) as index:
                for failure in recover(paths, index).failures.values():
                    on_recovery_failure(failure)
    except (OSError, IndexDatabaseError) as error:
        on_recovery_failure(error)
    yield paths, IndexReader(paths.index)


@frozen
class Unindexed:
    """Numbers of stored instances that are in journals, but not in the index."""

    of_running: int
    """Number of those of running receivers, which add them."""
    of_stopped: int
    """Number of those of receivers that have ended: the next process that may write to the archive adds them."""


def count_unindexed(paths: Paths, index: Queries) -> Unindexed:
    """Count the stored instances that the index lacks, also if their files cannot be examined.

    Raises `OSError` and `IndexDatabaseError`.
    """
    ended = abandoned_sessions(paths.sessions)
    of_running = of_stopped = 0
    for batch in batched(unindexed(paths.sessions)):
        visible = [one for one in batch if may_be_visible(paths.root, one.record)]
        rows = index.at([one.record.path for one in visible])
        missing = [one for one in visible if rows.get(one.record.path, {}).get("received") != one.record.received]
        number = sum(one.session in ended for one in missing)
        of_stopped += number
        of_running += len(missing) - number
    return Unindexed(of_running, of_stopped)

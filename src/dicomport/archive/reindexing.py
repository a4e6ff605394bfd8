"""Recreation of the index from the files, also with receivers running and if the index is damaged.

Theory of operation: `reindex` builds a new generation of the index in its own folder, and never reads the current one.

1. It creates its locked folder under the lock of the writers. From now on each transaction of another process also
   appends its records to a file in that folder (see `dicomport.archive.database.generations`).
2. It lists all files and reads them in the order of their receipt. A listing of folders contains each file that was
   visible when it began, so it contains all instances whose transactions were complete before step 1.
3. It adds the records that were appended meanwhile, in several rounds.
4. It takes the lock of the writers, adds the last of these records, closes and syncs its database, and renames it: this
   is the current generation from now on. Then it removes the earlier generations and releases the lock.

So the new generation contains every instance whose transaction was complete before the rename: by step 2 or by its
appended record. All others are still in the journals of their sessions, since a journal is removed only after a
transaction, and their transactions are made in the new generation: each writer looks for the current generation after
it has got the lock. Adding a record twice changes nothing, and a record whose file was replaced or removed meanwhile is
skipped. If `reindex` is killed before the rename, the current generation is the earlier one, complete and unchanged; if
it is killed after that, it is the new one. Either is complete, since a rename is atomic. If the earlier generation is
damaged, transactions fail, and all records since then are in the journals.

If a folder cannot be read, the new generation would lack the instances in it: then it is discarded, and the current one
stays.

Last, the sessions of processes that died are recovered into the new generation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from dicomport.archive.commit.recovery import recover
from dicomport.archive.database.generations import Build, Generations
from dicomport.archive.database.queries import batched
from dicomport.archive.database.sqlite import Database, IndexDatabaseError, LaterSchemaError
from dicomport.archive.entries import Entry, entries_of, path_of
from dicomport.archive.file_record import Progress, record_of
from dicomport.archive.index import Index
from dicomport.archive.paths import Paths
from dicomport.archive.records import is_absence, is_visible, received_at
from dicomport.archive.verification.comparison import Discrepancy, DiscrepancyKind
from dicomport.errors import DicomportError
from dicomport.files import Durability, make_own_folder, sync
from dicomport.logs import reason_of
from dicomport.wire import FileMetaError

_ROUNDS: Final = 3
"""Rounds in which records of other processes are added without the lock, so that the last one is short."""


class UnreadableFolderError(DicomportError):
    """The index was not recreated, because the instances in a folder that cannot be read would be missing in it."""


def reindex(paths: Paths, progress: Progress) -> Iterator[Discrepancy]:
    """Recreate the index from the files; yield the files and folders that cannot be read.

    The sender is read from the File Meta Information, the time of receipt from the file's modification time. The new
    index is used when the iterator is exhausted.

    Raises `UnreadableFolderError` after all folders that cannot be read were yielded: the earlier index stays in use.
    Raises `LaterSchemaError` if a later version of dicomport created the index, `IndexDatabaseError`, and `OSError`.
    """
    make_own_folder(paths.sessions, Durability.FSYNC)
    generations = Generations(paths.index)
    _check_version(generations)
    with contextlib.closing(Build(generations)) as build:
        with contextlib.closing(Database(build.database, creates=True)) as database:
            unreadable: list[Entry] = []
            yield from _add_files(paths, database, progress, unreadable)
            if unreadable:
                raise UnreadableFolderError(
                    "the index was not rebuilt, and an earlier one is unchanged: check the owner and the mode of the "
                    "folders that cannot be read"
                )
            for _ in range(_ROUNDS):
                _add_meanwhile(paths, database, build)
        sync(build.database)
        with generations.locked(wait=True):
            with contextlib.closing(Database(build.database)) as database:
                _add_meanwhile(paths, database, build)
            build.publish(syncs=True)
    with contextlib.closing(Index(paths.index, creates=lambda: False)) as index:
        # A session that stays is reported with the instances that are not in the index (see `count_unindexed`).
        recover(paths, index)


def _check_version(generations: Generations) -> None:
    """Raise `LaterSchemaError` if a later version of dicomport created the current generation."""
    current = generations.current()
    if current is None:
        return
    try:
        Database(current).close()
    except LaterSchemaError:
        raise
    except IndexDatabaseError:
        pass  # It is replaced.


def _add_files(paths: Paths, database: Database, progress: Progress, unreadable: list[Entry]) -> Iterator[Discrepancy]:
    """Add the files in the order of their receipt, so that the same instance of a conflict is the first.

    Yield the files and folders that cannot be read; add these folders to `unreadable`.
    """
    received = sorted(_received(paths, unreadable))
    yield from (Discrepancy(entry.path, DiscrepancyKind.FOLDER_UNREADABLE, entry.problem) for entry in unreadable)
    for batch in batched(received):
        records = []
        for _, name in batch:
            try:
                records.append(record_of(paths, paths.root / name, progress))
            except OSError as error:
                if not is_absence(error):  # It was removed after it was listed.
                    yield Discrepancy(name, DiscrepancyKind.FILE_UNREADABLE, reason_of(error))
            except FileMetaError as error:
                yield Discrepancy(name, DiscrepancyKind.FILE_UNREADABLE, str(error))
        database.add(records)


def _received(paths: Paths, unreadable: list[Entry]) -> Iterator[tuple[str, str]]:
    """Yield the time of receipt and the relative path of each file; add folders that cannot be read to `unreadable`."""
    for entry in entries_of(paths):
        if entry.problem:
            unreadable.append(entry)
        if (path := path_of(paths, entry)) is None:
            continue
        received = ""
        with contextlib.suppress(OSError):  # Reading it will fail, too.
            received = received_at(path.stat())
        yield received, entry.path


def _add_meanwhile(paths: Paths, database: Database, build: Build) -> None:
    """Add the records of other processes that were not added yet."""
    for batch in batched(build.added()):
        database.add([record for record in batch if is_visible(paths.root, record)])

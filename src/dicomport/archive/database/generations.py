"""Generations of the index: the files of the database, the current one of them, and the lock of their writers.

Theory of operation
-------------------
Each generation of the index is one SQLite database in the archive's own folder: `index.sqlite`, then `index-1.sqlite`,
`index-2.sqlite` and so on. The generation with the highest number is current. A database gets such a name by a rename
when it is complete, synced and closed by its only user, so no file with such a name is ever half written, and no
database that a process has open is replaced by another: SQLite keeps a log (-wal) and a shared memory (-shm) beside
each database, found by its name.

Each process that writes holds the lock of the folder during one transaction. It lists the folder first, and opens the
current generation if that has changed. `reindex` holds the same lock while it completes its new generation and renames
it. So every transaction is either complete before the rename, or made in the new generation.

The transactions that are complete before the rename must be in the new generation too, also those that were made
after `reindex` read the folder of an instance. `reindex` owns a locked folder `reindex-...` in the archive's own
folder, which it creates under the lock. In every transaction a writer appends its records to the file `added.jsonl` in
each such folder whose owner is alive, before it commits them to the current generation (see
`dicomport.archive.reindexing`).

Files of earlier generations are removed under the lock, after the rename. A process that still has one open reads an
unlinked file until its next query, which opens the current generation. If `reindex` is killed, its folder and the files
of an earlier generation are removed by the next process that opens the index to write to it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from dicomport.archive.records import Record, records_in
from dicomport.files import open_as_owner, read_text, sync, system, write_all
from dicomport.files.locking import ProcessFolder, abandoned_folders, is_abandoned, locked

_BUILD_PREFIX: Final = "reindex-"
_ADDED: Final = "added.jsonl"
_DATABASE: Final = "index.sqlite"
_COMPANIONS: Final = ("-wal", "-shm")
"""Suffixes of the files that SQLite keeps beside a database in WAL mode."""


class Generations:
    """The files of one archive's index."""

    def __init__(self, first: Path) -> None:
        """Set the path of the first generation. Later generations have a number before the suffix."""
        self.folder: Final = first.parent
        self._first = first
        self._pattern = re.compile(rf"{re.escape(first.stem)}(?:-([0-9]{{1,18}}))?{re.escape(first.suffix)}")

    def locked(self, *, wait: bool) -> contextlib.AbstractContextManager[None]:
        """Return a context that holds the lock of the writers. See `dicomport.files.locking.locked`."""
        return locked(self.folder, wait=wait)

    def current(self) -> Path | None:
        """Return the path of the current generation, or None if the index is missing. Raises `OSError`."""
        numbers = self._numbers(self._names())
        return self._path(max(numbers)) if numbers else None

    def following(self) -> Path:
        """Return a path for the generation after the current one. Raises `OSError`.

        No file has that name and a suffix of SQLite's: SQLite would treat it as the log of the new database.
        """
        numbers = self._numbers(map(_without_companion, self._names()))
        return self._path(max(numbers) + 1 if numbers else 0)

    def builds(self) -> list[Path]:
        """Return the folders of the processes that are building a new generation. Hold the lock. Raises `OSError`."""
        found = [self.folder / name for name in self._names() if name.startswith(_BUILD_PREFIX)]
        return [folder for folder in found if not is_abandoned(folder)]

    def remove_earlier(self) -> None:
        """Remove the files of all generations but the current one. Hold the lock. Raises `OSError`."""
        names = self._names()
        last = max(self._numbers(names), default=0)
        for name in names:
            match = self._pattern.fullmatch(_without_companion(name))
            # A folder with such a name is not ours, and does no harm.
            if match is not None and int(match[1] or 0) < last and not (self.folder / name).is_dir():
                system.unlink(self.folder / name)

    def _names(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()]

    def _numbers(self, names: Iterable[str]) -> list[int]:
        return [int(match[1] or 0) for match in map(self._pattern.fullmatch, names) if match is not None]

    def _path(self, number: int) -> Path:
        return self._first.with_stem(f"{self._first.stem}-{number}") if number else self._first


def _without_companion(name: str) -> str:
    """Return the name of the database that a file belongs to."""
    return next((name.removesuffix(suffix) for suffix in _COMPANIONS if name.endswith(suffix)), name)


class Build:
    """A folder for a new generation, locked until it is closed or the process ends."""

    def __init__(self, generations: Generations) -> None:
        """Remove the folders of processes that died, and create a new one. Raises `OSError`."""
        remove_abandoned_builds(generations)
        self._generations = generations
        self._owned = ProcessFolder(generations.folder, _BUILD_PREFIX)
        self.database: Final = self._owned.path / _DATABASE
        self._added = self._owned.path / _ADDED
        self._lines = 0

    def added(self) -> Iterator[Record]:
        """Yield the records that were added since the last call. Hold the lock to get all of them. Raises `OSError`."""
        with contextlib.suppress(FileNotFoundError):
            # The last line may be incomplete.
            lines = read_text(self._added, errors="replace").split("\n")[self._lines : -1]
            self._lines += len(lines)
            yield from records_in(lines)

    def publish(self, *, syncs: bool) -> None:
        """Make the database the current generation, and remove the earlier ones. Hold the lock. Raises `OSError`.

        The database is closed. Sync it before if `syncs` is true, for the time of this sync to be short.
        """
        if syncs:
            sync(self.database)
        system.replace(self.database, self._generations.following())
        if syncs:
            sync(self._generations.folder)
        self._generations.remove_earlier()

    def close(self) -> None:
        """Remove the folder."""
        self._owned.remove()


def remove_abandoned_builds(generations: Generations) -> None:
    """Remove the folders of processes that died while they built a generation. Waits for the lock. Raises `OSError`."""
    for _ in abandoned_folders(generations.folder, _BUILD_PREFIX):
        pass


def pass_on(records: Sequence[Record], builds: Sequence[Path]) -> None:
    """Append records to the files of processes that are building a new generation. Hold the lock. Raises `OSError`."""
    for build in builds:
        # Another process may have died in the middle of a line.
        lines = "".join(["\n", *(f"{record.to_json()}\n" for record in records)])
        descriptor = open_as_owner(build / _ADDED, system.CREATE | system.APPEND)
        try:
            write_all(descriptor, lines.encode())
        finally:
            system.close(descriptor)

"""Comparison of the files with the index (`verify`), also while receivers store instances.

Theory of operation: `verify` lists the files, and reads the rows of a batch of them from the index. It reads each file,
makes the record that `reindex` would make, and reports each difference from the row. Then it lists all rows and reports
those without a file. It writes nothing, and holds one batch of rows in memory.

Meanwhile a receiver may store instances: their files are visible before the index has their records. So a difference
is only suspected at first. A record is in a journal before its file is visible, and leaves the journal when it is in
the index. So `verify` reads the journals, then the row again, then the status of the file. The difference is real if
the file and the row are the same as before, and no journal has a record of this file for a later row. Otherwise
`verify` compares again. A record that stays in a journal for a minute does not count: the index does not follow.
"""

from __future__ import annotations

import enum
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from dicomport.archive.commit.sessions import unindexed
from dicomport.archive.database.queries import MAX_BATCH, Queries, batched
from dicomport.archive.database.schema import columns_of
from dicomport.archive.entries import Entry, entries_of
from dicomport.archive.file_record import Progress, record_of
from dicomport.archive.paths import Paths
from dicomport.archive.records import Record, State, is_absence, iso_time
from dicomport.logs import reason_of
from dicomport.values import frozen
from dicomport.wire import FileMetaError

_MAX_COMPARISONS: Final = 10
"""Comparisons of a file that is replaced again and again; the next run checks it."""

_UNKNOWN: Final = (-1, -1, -1)
"""Stands for inode number, modification time and size of a file whose status cannot be read."""

_PENDING_SECONDS: Final = 60.0
"""Time for a receiver to add the records of its journal to the index; usually a fraction of a second."""


class DiscrepancyKind(enum.StrEnum):
    """Kinds of discrepancies in an archive."""

    FILE_MISSING = "in the index, but the file does not exist"
    FILE_UNREADABLE = "the file cannot be read"
    FOLDER_UNREADABLE = "the folder cannot be read"
    FILE_CHANGED = "the data set differs from the received data set"
    HEADER_CHANGED = "the preamble or file meta differs from that of the stored file"
    ROW_MISSING = "the file exists, but it is not in the index"
    ROW_WRONG = "the index differs from the file"
    LINK = "a symbolic link, which may lead out of the archive"
    PATIENT_CONFLICT = "the instances of a study have several Patient IDs"


@frozen
class Discrepancy:
    """A discrepancy between a file and the index, or between instances. It has no attribute values, except UIDs."""

    path: str
    kind: DiscrepancyKind
    detail: str = ""
    sop_instance_uid: str = ""
    """From the index; empty if it is unknown."""


def verify(paths: Paths, index: Queries, progress: Progress) -> Iterator[Discrepancy]:
    """Read each file and compare it with the index; yield the discrepancies. Raises `OSError` and index errors."""
    verifier = Verifier(paths, index, progress)
    for entries in batched(entries_of(paths)):
        yield from verifier.compare_files(entries)
    yield from verifier.compare_rows()
    yield from verifier.patient_conflicts()


class _Comparison(NamedTuple):
    """The discrepancies of a file, and the state in which they were found."""

    discrepancies: tuple[Discrepancy, ...]
    row: Mapping[str, Any] | None
    pending: Record | None
    status: tuple[int, int, int] | None


class Verifier:
    """Compares files and rows in batches. Methods raise `OSError` and the errors of the index."""

    def __init__(self, paths: Paths, index: Queries, progress: Progress) -> None:
        self._paths = paths
        self._index = index
        self._progress = progress

    def compare_files(self, entries: Iterable[Entry]) -> Iterator[Discrepancy]:
        """Compare files with their rows."""
        names = []
        for entry in entries:
            if entry.is_link:
                yield Discrepancy(entry.path, DiscrepancyKind.LINK)
            elif entry.problem:
                yield Discrepancy(entry.path, DiscrepancyKind.FOLDER_UNREADABLE, entry.problem)
            else:
                names.append(entry.path)
        rows = self._index.at(names)
        compared = ((name, self._compare(name, rows.get(name), None)) for name in names)
        suspected = {name: comparison for name, comparison in compared if comparison.discrepancies}
        for _ in range(_MAX_COMPARISONS):
            if not suspected:
                return
            # In this order: see above.
            journals = self._records_in_journals(suspected)
            rows = self._index.at(suspected)
            for name, before in list(suspected.items()):
                row, status = rows.get(name), _status(self._paths.root / name)
                pending = _pending(journals.get(name, ()), row, status)
                del suspected[name]
                if (row, pending, status) == before[1:]:
                    yield from before.discrepancies
                elif (again := self._compare(name, row, pending)).discrepancies:
                    suspected[name] = again

    def compare_rows(self) -> Iterator[Discrepancy]:
        """Find the rows without a file."""
        last = ""
        while page := self._index.paths_after(last, MAX_BATCH):
            last = page[-1]
            invalid = {path for path in page if not _is_valid(path)}
            yield from (Discrepancy(path, DiscrepancyKind.ROW_WRONG, "path") for path in page if path in invalid)
            missing = [path for path in page if path not in invalid and _absence(self._paths.root / path) is not None]
            rows = self._index.at(missing) if missing else {}
            for path in missing:
                # A receiver replaces a file in one step, and removes none.
                if path in rows and (detail := _absence(self._paths.root / path)) is not None:
                    uid = str(rows[path]["sop_instance_uid"])
                    yield Discrepancy(path, DiscrepancyKind.FILE_MISSING, detail, uid)

    def patient_conflicts(self) -> Iterator[Discrepancy]:
        """Find the studies whose instances have several Patient IDs."""
        for row in self._index.patient_conflicts():
            detail = f"{row['number_of_patients']} in study {row['study_instance_uid']}"
            yield Discrepancy(row["path"], DiscrepancyKind.PATIENT_CONFLICT, detail)

    def _compare(self, name: str, row: Mapping[str, Any] | None, pending: Record | None) -> _Comparison:
        """Compare a file with its row, or with a record that is not in the index yet."""
        path = self._paths.root / name
        status = _status(path)
        found: list[tuple[DiscrepancyKind, str]] = []
        # If the file does not exist any more, its row is found later.
        if status is not None:
            try:
                actual = record_of(self._paths, path, self._progress)
            except FileNotFoundError:
                pass
            except OSError as error:
                found.append((DiscrepancyKind.FILE_UNREADABLE, reason_of(error)))
            except FileMetaError as error:
                # Without hard links, an empty file reserves a name, until the instance replaces it.
                if row is not None or pending is not None or status[-1]:
                    found.append((DiscrepancyKind.FILE_UNREADABLE, str(error)))
            else:
                found += _differences(actual, row if pending is None else None, pending)
        uid = "" if row is None else str(row["sop_instance_uid"])
        return _Comparison(tuple(Discrepancy(name, *one, uid) for one in found), row, pending, status)

    def _records_in_journals(self, names: Collection[str]) -> dict[str, list[Record]]:
        records: dict[str, list[Record]] = {}
        for record, _ in unindexed(self._paths.sessions):
            if record.path in names:
                records.setdefault(record.path, []).append(record)
        return records


def _differences(
    actual: Record, row: Mapping[str, Any] | None, pending: Record | None
) -> Iterator[tuple[DiscrepancyKind, str]]:
    """Yield the differences of a file's record from its row, or from a pending record."""
    if pending is not None:
        expected: Mapping[str, Any] = columns_of(pending)
    elif row is not None:
        expected = row
    else:
        yield DiscrepancyKind.ROW_MISSING, ""
        return
    if actual.digest != expected["digest"]:
        yield DiscrepancyKind.FILE_CHANGED, f"{actual.size} bytes; received {expected['size']} bytes"
    if actual.header_crc32 != expected["header_crc32"]:
        yield DiscrepancyKind.HEADER_CHANGED, ""
    if actual.digest != expected["digest"] or actual.header_crc32 != expected["header_crc32"]:
        return  # The attributes are those of other bytes.
    wrong = [name for name, value in columns_of(actual).items() if expected[name] != value]
    if row is not None:
        state = State.SUSPECT if actual.suspect else row["expected_state"]
        wrong += ["state"] if row["state"] != state else []
    if wrong:
        yield DiscrepancyKind.ROW_WRONG, ", ".join(wrong)


def _pending(
    records: Iterable[Record], row: Mapping[str, Any] | None, status: tuple[int, int, int] | None
) -> Record | None:
    """Return the record of a file if the index does not have it yet."""
    if status is None:
        return None
    inode, mtime_ns, _ = status
    for record in records:
        is_of_file = record.inode == inode and record.received == iso_time(mtime_ns // 1000)
        is_indexed = row is not None and row["received"] == record.received
        if is_of_file and not is_indexed and time.time() - mtime_ns / 1e9 < _PENDING_SECONDS:
            return record
    return None


def _status(path: Path) -> tuple[int, int, int] | None:
    """Return inode number, modification time and size of a file, or None if it does not exist."""
    try:
        status = path.lstat()
    except OSError as error:
        # Otherwise reading the file fails, too, and that is reported.
        return None if is_absence(error) else _UNKNOWN
    return status.st_ino, status.st_mtime_ns, status.st_size


def _absence(path: Path) -> str | None:
    """Return why a path of the index is not that of a file, empty if nothing has this name; None if it may be one."""
    try:
        return "a folder has its name" if stat.S_ISDIR(path.lstat().st_mode) else None
    except OSError as error:
        # A folder that cannot be read was reported.
        return "" if is_absence(error) else None


def _is_valid(path: str) -> bool:
    """Return whether a path of the index can be that of an instance."""
    parts = PurePosixPath(path).parts
    return path.endswith(".dcm") and "/".join(parts) == path and not any(part.startswith(".") for part in parts)

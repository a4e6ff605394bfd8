"""`dicomport archive`: list, verify and export received instances."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from dicomport.archive import (
    Discrepancy,
    ExportError,
    Filters,
    IndexReader,
    Paths,
    RateLimit,
    Unindexed,
    UnreadableFolderError,
    count_unindexed,
    export as export_study,
    files_of,
    has_instances,
    open_archive,
    quarantined,
    reindex as reindex_archive,
    verified_times,
    verify as verify_archive,
)
from dicomport.cli.commitments import commitments
from dicomport.cli.console import print_message, shows_progress
from dicomport.cli.options.common import (
    SIZE,
    ExitCode,
    PathType,
    archive_option,
    json_option,
    log_format_option,
    no_archive,
)
from dicomport.cli.system_errors import failure, reason_and_remedy
from dicomport.cli.text import amount, count, print_json, print_line, print_table
from dicomport.logs import printable
from dicomport.standard import describe

_CONFLICT = "patient_conflict"
"""Column that tables have only if it is set in a row."""

_COLUMNS = {
    "studies": {
        "study_date": "Date",
        "patient_id": "Patient ID",
        "patient_name": "Patient",
        "study_description": "Study",
        "number_of_series": ">Series",
        "number_of_instances": ">Instances",
        "size": ">Size",
        _CONFLICT: "Conflict",
        "study_instance_uid": "Study Instance UID",
    },
    "series": {
        "modality": "Modality",
        "series_number": ">Number",
        "series_description": "Series",
        "number_of_instances": ">Instances",
        "size": ">Size",
        "series_instance_uid": "Series Instance UID",
    },
    "instances": {
        "instance_number": ">Number",
        "sop_class_uid": "SOP Class",
        "size": ">Size",
        "calling_ae_title": "From",
        "patient_id": "Patient ID",
        "received": "Received",
        "state": "State",
        "sop_instance_uid": "SOP Instance UID",
    },
    "quarantine": {
        "received": "Received",
        "calling_ae_title": "From",
        "reason": "Failed checks",
        "size": ">Size",
        "sop_instance_uid": "SOP Instance UID",
        "file": "File",
    },
}


_LEVELS = ("studies", "series", "instances")

_archive_option = archive_option("The archive's folder.")


class _Dates(click.ParamType[str]):
    """A date or a range of dates (PS3.4 C.2.2.2.5)."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        first, dash, last = value.partition("-")
        if all(map(_is_date, filter(None, (first, last)))) and (first or last) and not first > (last or first):
            return f"{first}{dash}{last}"
        return self.fail(
            f"{value!r} is not a date or a range; expected YYYYMMDD or YYYYMMDD-YYYYMMDD, with either end optional",
            param,
            ctx,
        )


def _is_date(text: str) -> bool:
    try:
        return time.strftime("%Y%m%d", time.strptime(text, "%Y%m%d")) == text
    except ValueError:
        return False


@click.group()
def archive() -> None:
    """List, verify and export received instances."""


archive.add_command(commitments)


@archive.command()
@_archive_option
@log_format_option
@click.option("--patient-id", default="", help="Only this Patient ID.")
@click.option("--study", default="", metavar="UID", help="Only this Study Instance UID.")
@click.option(
    "--date",
    type=_Dates(),
    help="Only this Study Date, YYYYMMDD, or a range YYYYMMDD-YYYYMMDD, either end optional.",
)
@click.option("--modality", default="", help="Only this Modality.")
@click.option("--ae", default="", metavar="TITLE", help="Only this calling AE title.")
@click.option(
    "--level",
    type=click.Choice(_LEVELS),
    default=_LEVELS[0],
    show_default=True,
    help="Level of the list.",
)
@click.option("--quarantine", is_flag=True, help="List quarantined instances, all of them.")
@json_option
def ls(
    *,
    root: Path,
    patient_id: str,
    study: str,
    date: str | None,
    modality: str,
    ae: str,
    level: str,
    quarantine: bool,
    as_json: bool,
) -> int:
    """List studies, series or instances."""
    filters = Filters(
        patient_id=patient_id, study_instance_uid=study, study_date=date or "", modality=modality, calling_ae_title=ae
    )
    if quarantine and (filters != Filters() or level != _LEVELS[0]):
        raise click.UsageError("--quarantine lists all quarantined instances: remove --level and the filters")
    with _listed(root) as (paths, index):
        if quarantine:
            rows = map(asdict, quarantined(paths.quarantine))
            _print("quarantine", rows, "no instances in quarantine", as_json=as_json)
        else:
            lister = {"studies": index.studies, "series": index.series, "instances": index.instances}[level]
            empty = f"no {level} in the archive" if filters == Filters() else f"no {level} match the filters"
            _print(level, map(dict, lister(filters)), empty, as_json=as_json)
    return ExitCode.OK


@archive.command(short_help="Print the record of an instance or a study.")
@click.argument("uid")
@_archive_option
@log_format_option
@json_option
def show(*, uid: str, root: Path, as_json: bool) -> int:
    """Print all attributes in the index of the instance UID, or of each instance of the study UID."""
    with _listed(root) as (paths, index):
        rows = index.find(uid) or index.instances(Filters(study_instance_uid=uid))
        if not rows:
            print_message(f"UID {uid} is not in the archive, neither as an instance nor as a study")
            return ExitCode.FAILED
        verified = verified_times(paths, [row["path"] for row in rows])
        for row in rows:
            own = {"path": str(paths.root / row["path"]), "verified": verified.get(row["path"], "")}
            facts = dict(row) | own
            if as_json:
                print_json(facts)
            else:
                for name, value in facts.items():
                    print_line(f"{name:22} {printable(str(value))}" if value not in ("", None) else f"{name:22}")
                print_line()
    return ExitCode.OK


@archive.command()
@_archive_option
@log_format_option
@click.option("--rate", type=SIZE, help="Maximum number of bytes to read per second.  [default: no limit]")
@json_option
def verify(*, root: Path, rate: int | None, as_json: bool) -> int:
    """Read every file and compare it with the index. Exit code 1 if there are discrepancies.

    Receivers of this archive may run. The command changes nothing. SIZE is a number of bytes, such as 500k, 20M or
    1MiB.
    """
    if rate is not None and not rate:
        raise click.UsageError("--rate is zero: the smallest rate is 1 byte per second")
    with _opened(root) as (paths, index, unindexed), _progress(paths) as progress:
        limit = RateLimit(rate) if rate else None

        def after_reading(size: int) -> None:
            progress(size)
            if limit is not None:
                limit(size)

        discrepancies = _print_discrepancies(verify_archive(paths, index, after_reading), as_json=as_json)
    if not as_json:
        none = "no other discrepancies" if unindexed.of_stopped else "no discrepancies"
        print_message(count(discrepancies, "discrepancy", "discrepancies") if discrepancies else none)
    return ExitCode.FAILED if discrepancies or unindexed.of_stopped else ExitCode.OK


@archive.command(short_help="Rebuild the index from the files.")
@click.argument("folder", type=PathType(file_okay=False), required=False)
@_archive_option
@log_format_option
@json_option
def reindex(*, folder: Path | None, root: Path, as_json: bool) -> int:
    """Rebuild the index of the archive FOLDER (default: --archive) from the files, also if it is damaged.

    The index then matches the files as they are: run `verify` first if the index is readable, because it cannot detect
    earlier damage afterwards. Receivers of this archive may run. Exit code 1 if a file cannot be read, or if a folder
    cannot be read: then the earlier index stays in use.
    """
    root = folder or root
    paths = Paths(root.resolve())
    # The archive's own folder may be lost, too.
    if not paths.sessions.is_dir() and not has_instances(paths):
        raise no_archive(root)
    with _using(f'cannot rebuild the index of "{root}"'):
        with _progress(paths) as progress:
            try:
                discrepancies = _print_discrepancies(reindex_archive(paths, progress), as_json=as_json)
            except UnreadableFolderError as error:
                raise click.ClickException(str(error)) from None
        with _opened(root) as (_, index, unindexed):
            number = index.count()
    if not as_json:
        print_message(f"{count(number, 'instance')} in the index")
    return ExitCode.FAILED if discrepancies or unindexed.of_stopped else ExitCode.OK


@archive.command(short_help="Copy a study into a new folder or a zip file.")
@click.argument("study")
@click.argument("destination", type=PathType())
@_archive_option
@log_format_option
def export(*, study: str, destination: Path, root: Path) -> int:
    """Copy the study STUDY to DESTINATION, a new folder, or a zip file if the name ends in ".zip"."""
    with _listed(root) as (paths, index):
        try:
            number = sum(1 for _ in export_study(paths, index, study, destination))
        except KeyError:
            print_message(f"study {study} is not in the archive")
            return ExitCode.FAILED
        except FileExistsError:
            print_message(f"{destination} exists: choose a new folder or zip file")
            return ExitCode.FAILED
        except ExportError as error:
            print_message(f"study {study} was not exported: {error}")
            return ExitCode.FAILED
        except OSError as error:
            print_message(f"{error.filename or destination}: {reason_and_remedy(error)}")
            return ExitCode.FAILED
    print_message(f"{count(number, 'file')} in {destination}")
    return ExitCode.OK


@contextmanager
def _opened(root: Path) -> Iterator[tuple[Paths, IndexReader, Unindexed]]:
    """Open an archive for reading, and report the instances that the index lacks."""
    failures: list[Exception] = []
    try:
        with (
            _using(f'cannot read the archive "{root}"'),
            open_archive(root, on_recovery_failure=failures.append) as (paths, index),
        ):
            unindexed = count_unindexed(paths, index)
            if unindexed.of_stopped:
                _print_of_stopped(root, unindexed.of_stopped, failures)
            yield paths, index, unindexed
    except FileNotFoundError:
        if has_instances(Paths(root.resolve())):
            raise click.ClickException(
                f"no archive in {root}: choose its folder with --archive, or make an index of the instances in it with "
                f'dicomport archive reindex "{root}"'
            ) from None
        raise no_archive(root) from None


@contextmanager
def _listed(root: Path) -> Iterator[tuple[Paths, IndexReader]]:
    """Open an archive for reading what the index contains."""
    with _opened(root) as (paths, index, unindexed):
        if unindexed.of_running:
            print_message(
                f"{count(unindexed.of_running, 'instance')} of a running receiver not in the index yet: run this "
                "command again; if the number stays, see index_failed in the log of the receiver"
            )
        yield paths, index


def _print_of_stopped(root: Path, number: int, failures: Sequence[Exception]) -> None:
    reasons = [reason_and_remedy(error) if isinstance(error, OSError) else str(error) for error in failures]
    print_message(
        f"{count(number, 'instance')} of a stopped receiver not in the index{''.join(f' ({text})' for text in reasons)}"
        f': start a receiver of this archive, or run dicomport archive reindex "{root}" as its user'
    )


@contextmanager
def _using(problem: str) -> Iterator[None]:
    """Name the failed action if the archive cannot be used. Errors of the index state their problem themselves."""
    try:
        yield
    except (FileNotFoundError, BrokenPipeError):
        raise
    except OSError as error:
        raise failure(problem, error) from None


def _print(level: str, rows: Iterable[dict[str, Any]], empty: str, *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            print_json(row)
        return
    listed = list(rows)
    if not listed:
        print_message(empty)
        return
    columns = _COLUMNS[level]
    if not any(row.get(_CONFLICT) for row in listed):
        columns = {name: heading for name, heading in columns.items() if name != _CONFLICT}
    print_table(tuple(columns.values()), (tuple(_cell(name, row[name]) for name in columns) for row in listed))


def _cell(name: str, value: object) -> str:
    if name == "size" and isinstance(value, int):
        return amount(value)
    if name == _CONFLICT:
        return "several patients" if value else ""
    return describe(str(value)) if name == "sop_class_uid" else str(value)


def _print_discrepancies(discrepancies: Iterable[Discrepancy], *, as_json: bool) -> int:
    number = 0
    for discrepancy in discrepancies:
        number += 1
        if as_json:
            print_json({"path": discrepancy.path, "discrepancy": discrepancy.kind, "detail": discrepancy.detail})
        else:
            print_message(
                f"{discrepancy.path}: {discrepancy.kind}" + (f" ({discrepancy.detail})" if discrepancy.detail else "")
            )
    return number


@contextmanager
def _progress(paths: Paths) -> Iterator[Callable[[int], object]]:
    """Show the progress of reading on a terminal."""
    if not shows_progress():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    total = sum(map(_size_of, files_of(paths)))
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total)
        yield lambda size: progress.update(task, advance=size)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # It was removed after it was listed, or it is reported when it is read.

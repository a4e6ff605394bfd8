"""`dicomport storescu`: the sender."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from dicomport.cli.options import (
    ExitCode,
    ae_title_option,
    called_ae_title_option,
    configure_logging,
    json_option,
    maximum_length_option,
    verbosity_options,
)
from dicomport.cli.text import amount, count, tell
from dicomport.cli.timeout_options import Side, timeout_options
from dicomport.net import Address, Timeouts
from dicomport.scu import InstanceResult, OnResult, Scan, Sender, SendReport, scan
from dicomport.wire import Priority

__all__ = ["describe_result", "storescu"]


@click.command()
@click.argument("host")
@click.argument("port", type=click.IntRange(1, 65535))
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@ae_title_option
@called_ae_title_option
@click.option(
    "--priority",
    type=click.Choice([priority.name.lower() for priority in Priority]),
    default=Priority.MEDIUM.name.lower(),
    show_default=True,
    help="Priority of the C-STORE requests.",
)
@maximum_length_option
@timeout_options(Side.REQUESTOR)
@json_option
@verbosity_options
def storescu(
    *,
    host: str,
    port: int,
    paths: tuple[Path, ...],
    ae_title: str,
    called_ae_title: str,
    priority: str,
    maximum_length: int,
    timeouts: Timeouts,
    as_json: bool,
    log_level: int | None,
) -> int:
    """Send DICOM files to HOST PORT. Folders are walked.

    Files go as they are: no data set is ever converted, and one that fails does not stop the others. Exit code: 0 all
    were accepted; 1 some were not, or could not be sent; 2 wrong usage; 3 no association could be had; 130
    interrupted.
    """
    talkative = configure_logging(log_level)
    found = scan(paths)
    with _progress(found, wanted=talkative and sys.stderr.isatty()) as advance:

        def on_result(result: InstanceResult) -> None:
            if as_json:
                click.echo(json.dumps(describe_result(result)))
            advance(result)

        sender = Sender(
            Address(host, port),
            ae_title=ae_title,
            called_ae_title=called_ae_title,
            priority=Priority[priority.upper()],
            timeouts=timeouts,
            on_result=on_result,
            negotiation={"maximum_length": maximum_length},
        )
        try:
            report = asyncio.run(sender.send(found))
        except KeyboardInterrupt:
            _summarize(sender.report(), len(found.instances) + len(found.refused))
            raise
    if talkative or report.failed:
        _summarize(report, len(report.results))
    return _exit_code(report)


def describe_result(result: InstanceResult) -> dict[str, object]:
    """Make the JSON object that stands for a result."""
    return {
        "path": None if result.path is None else str(result.path),
        "sop_class_uid": result.sop_class_uid,
        "sop_instance_uid": result.sop_instance_uid,
        "transfer_syntax_uid": result.transfer_syntax_uid,
        "size": result.size,
        "accepted": result.accepted,
        "status": None if result.status is None else result.status.code,
        "category": None if result.status is None else result.status.category.value,
        "error_comment": "" if result.status is None else result.status.comment,
        "reason": result.reason,
    }


@contextmanager
def _progress(found: Scan, *, wanted: bool) -> Iterator[OnResult]:
    """Show a progress bar on a terminal, and nothing elsewhere."""
    if not wanted:
        yield lambda _: None
        return
    # rich takes a while to import, and a plain run needs none of it.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        BarColumn(),
        TextColumn("{task.fields[done]}/{task.fields[all]}"),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=found.size, done=0, all=len(found.instances))
        done = 0

        def advance(result: InstanceResult) -> None:
            nonlocal done
            done += bool(result.sop_instance_uid)
            progress.update(task, advance=result.size, done=done)

        yield advance


def _summarize(report: SendReport, wanted: int) -> None:
    size, seconds = report.accepted_bytes, max(report.seconds, 1e-6)
    tell(
        f"{len(report.accepted)} of {count(wanted, 'file')} accepted: {amount(size)} in {seconds:.1f} s, "
        f"{len(report.accepted) / seconds:.0f} instances/s, {amount(size / seconds)}/s, "
        f"{count(report.associations, 'association')}"
    )
    warnings = Counter(result.reason for result in report.accepted if result.reason)
    for reason, number in warnings.most_common():
        tell(f"  {number} with a warning: {reason}")
    failures: dict[str, list[InstanceResult]] = {}
    for result in report.failed:
        failures.setdefault(result.reason, []).append(result)
    for reason, results in sorted(failures.items(), key=lambda item: -len(item[1])):
        tell(f"  {len(results)} not: {reason}")
        for result in results[:_NAMED]:
            tell(f"      {result.path}")
        if len(results) > _NAMED:
            tell(f"      and {len(results) - _NAMED} more; --json names them all")
    if len(report.results) < wanted:
        tell(f"  {wanted - len(report.results)} not tried")


_NAMED = 5
"""Files that are named for each reason."""


def _exit_code(report: SendReport) -> ExitCode:
    if not report.results:
        tell("there is nothing to send: the folders hold no files")
        return ExitCode.FAILED
    if report.error and not report.associations:
        return ExitCode.NO_ASSOCIATION
    return ExitCode.FAILED if report.failed else ExitCode.OK

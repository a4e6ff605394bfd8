"""What a run of the sender tells a person: while it goes on, and at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

from dicomport.cli.text import amount, count, print_message
from dicomport.scu import InstanceResult, Sending, SendReport

__all__ = ["Advance", "progress", "summarize"]

Advance: TypeAlias = Callable[[InstanceResult], object]
"""Takes note of one more result."""

_NAMED: Final = 5
"""Files that are named for each reason."""

_LIMITS: Final = {
    "disk": "reading the files took longest: the disk is the limit",
    "network": "getting the bytes out took longest: the network, or how fast the peer reads, is the limit",
    "latency": "waiting took longest, about a round trip for each answer: the network's latency is the limit",
    "peer": "waiting for the peer's answers took longest: the peer is the limit",
}


@contextmanager
def progress(sending: Sending, *, wanted: bool) -> Iterator[Advance]:
    """Show a progress bar on a terminal, and nothing elsewhere."""
    if not wanted:
        yield lambda _: None
        return
    # rich takes a while to import, and a plain run needs none of it.
    from rich.console import Console
    from rich.progress import (
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
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None, done=0, all=0)
        done = 0

        def advance(result: InstanceResult) -> None:
            nonlocal done
            done += 1
            bar.update(task, advance=result.size, total=sending.found_bytes, done=done, all=sending.found)

        yield advance


def summarize(report: SendReport) -> None:
    """Tell what was accepted, how fast, what limited it, and each failure by its reason."""
    wanted = len(report.results) + report.untried
    earlier = sum(result.earlier for result in report.results)
    sent = len(report.accepted) - earlier
    size, seconds = report.accepted_bytes, max(report.seconds, 1e-6)
    print_message(
        f"{len(report.accepted)} of {count(wanted, 'file')} accepted"
        + (f", {earlier} of them in an earlier run" if earlier else "")
        + f": {amount(size)} in {seconds:.1f} s, {sent / seconds:.0f} instances/s, {amount(size / seconds)}/s, "
        f"{count(report.associations, 'association')}"
        + (f", round trip {report.round_trip * 1000:.1f} ms" if report.associations else "")
    )
    if report.limit:
        print_message(f"  {_LIMITS[report.limit]}")
    converted = Counter(result.transfer_syntax_uid for result in report.accepted if result.converted_from)
    if converted:
        print_message(
            f"  {count(converted.total(), 'instance')} converted, as the peer does not take the files' own syntax"
        )
    warnings = Counter(result.reason for result in report.accepted if result.reason and not result.earlier)
    for reason, number in warnings.most_common():
        print_message(f"  {number} with a warning: {reason}")
    _tell_failures(report)
    if report.untried:
        print_message(f"  {report.untried} not tried")
    if report.journal_error:
        print_message(
            f"  the journal lacks some of what was accepted ({report.journal_error}): "
            "the same command, run again, would send it once more"
        )


def _tell_failures(report: SendReport) -> None:
    failures: dict[str, list[InstanceResult]] = {}
    for result in report.failed:
        failures.setdefault(result.reason, []).append(result)
    for reason, results in sorted(failures.items(), key=lambda item: -len(item[1])):
        print_message(f"  {len(results)} not: {reason}")
        for result in results[:_NAMED]:
            print_message(f"      {result.name}")
        if len(results) > _NAMED:
            print_message(f"      and {len(results) - _NAMED} more; --report or --json names them all")

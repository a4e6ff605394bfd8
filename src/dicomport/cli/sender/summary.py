"""The progress bar and the summary of `storescu`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

from dicomport.cli.console import print_message
from dicomport.cli.text import amount, count
from dicomport.scu import Instance, InstanceResult, Sending, SendReport
from dicomport.wire import Deviation

Advance: TypeAlias = Callable[[InstanceResult], object]
"""Called with each result."""

_NAMED: Final = 5
"""Maximum number of files listed per reason."""

_BOTTLENECKS: Final = {
    "disk": "bottleneck: reading the files",
    "network": "bottleneck: the network, or the peer's speed of reading",
    "latency": "bottleneck: the network's latency, about one round trip per response",
    "peer": "bottleneck: the peer's responses",
}

_DEVIATIONS: Final = {
    Deviation.FILE_META_WITHOUT_PREAMBLE: "file meta without preamble: it is read nevertheless",
    Deviation.FILE_META_IN_IMPLICIT_VR: "file meta in Implicit VR: it is read nevertheless",
    Deviation.FILE_META_GROUP_LENGTH_WRONG: "the group length of file meta is wrong or missing: it is ignored",
    Deviation.FILE_META_UID_MISSING: "file meta lacks a UID: that of the data set is sent",
    Deviation.SOP_CLASS_DIFFERS: "file meta has another SOP Class UID than the data set: that of the data set is sent",
    Deviation.SOP_INSTANCE_UID_DIFFERS: (
        "file meta has another SOP Instance UID than the data set: that of the data set is sent"
    ),
    Deviation.TRANSFER_SYNTAX_DIFFERS: (
        "the data set is not in the transfer syntax of file meta: it is sent in its own one"
    ),
    Deviation.TRANSFER_SYNTAX_MISSING: "file meta lacks the transfer syntax: that of the data set is sent",
    Deviation.DATA_SET_ODD: "the data set is of odd length: it is sent with one NUL at its end",
}


@contextmanager
def progress(sending: Sending, *, wanted: bool) -> Iterator[Advance]:
    """Show a progress bar if wanted."""
    if not wanted:
        yield lambda _: None
        return
    # rich is slow to import, and needed only here.
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
    """Print accepted instances, throughput, bottleneck, and the failures by reason."""
    wanted = len(report.results) - len(report.skipped) + report.not_attempted
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
    if report.bottleneck:
        print_message(f"  {_BOTTLENECKS[report.bottleneck]}")
    converted = Counter(result.transfer_syntax_uid for result in report.accepted if result.converted_from)
    if converted:
        print_message(
            f"  {count(converted.total(), 'instance')} converted: the peer does not accept their transfer syntax"
        )
    warnings = Counter(result.reason for result in report.accepted if result.reason and not result.earlier)
    for reason, number in warnings.most_common():
        print_message(f"  {number} with a warning: {reason}")
    print_deviations(report.results)
    _print_failures(report)
    if report.skipped:
        print_message(f"  {count(len(report.skipped), 'file')} skipped: not instances; --report or --json lists them")
    if report.not_attempted:
        print_message(f"  {report.not_attempted} not sent")
    if report.journal_error:
        print_message(f"  the journal is incomplete ({report.journal_error}): a further run sends some instances again")


def print_deviations(found: Iterable[Instance | InstanceResult]) -> None:
    """Print the deviations of the files from the standard, with the number of files."""
    deviations = Counter(deviation for one in found for deviation in one.deviations)
    for deviation, number in deviations.most_common():
        print_message(f"  {count(number, 'file')}: {_DEVIATIONS.get(deviation, deviation.value)}")


def _print_failures(report: SendReport) -> None:
    failures: dict[str, list[InstanceResult]] = {}
    for result in report.failed:
        failures.setdefault(result.reason, []).append(result)
    for reason, results in sorted(failures.items(), key=lambda item: -len(item[1])):
        print_message(f"  {len(results)} failed: {reason}")
        for result in results[:_NAMED]:
            print_message(f"      {result.name}")
        if len(results) > _NAMED:
            print_message(f"      and {len(results) - _NAMED} more; --report or --json lists all")

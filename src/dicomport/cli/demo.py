"""`dicomport demo`: send real instances over loopback, receive them, compare them."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Iterable
from pathlib import Path

import click

from dicomport.cli.options.common import ExitCode, PathType, log_format_option
from dicomport.cli.text import amount, count, print_line, print_table
from dicomport.scp import StorageSCP, StoreRequest
from dicomport.scu import InstanceResult, instance_from_path, send
from dicomport.standard import describe
from dicomport.values import frozen


@click.command(short_help="Send and receive real instances on this machine.")
@log_format_option
@click.option(
    "--keep",
    type=PathType(file_okay=False),
    help="Folder for the received files; by default they are deleted.",
)
def demo(keep: Path | None) -> int:
    """Send real instances to a receiver on this machine, and compare them byte for byte.

    The instances are pydicom's test files, in many SOP Classes and transfer syntaxes. Some of these files are damaged
    and cannot be sent. The demo needs no network. Exit code: 0 if all sent instances were received unchanged.
    """
    # As on Ctrl-C, the folder is deleted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            rows = asyncio.run(_send_to_ourselves(keep or Path(scratch)))
        except asyncio.CancelledError:
            raise click.Abort from None
    _show(sorted(rows, key=lambda row: row.result.path or Path()))
    sent = [row for row in rows if row.result.accepted]
    same = [row for row in sent if row.same]
    classes = {row.result.sop_class_uid for row in same}
    syntaxes = {row.result.transfer_syntax_uid for row in same}
    print_line(
        f"{count(len(same), 'instance')} of {len(classes)} SOP Classes in {len(syntaxes)} transfer syntaxes sent and "
        f"received unchanged, byte for byte: {amount(sum(row.result.size for row in same))}."
    )
    print_line(f"{count(len(rows) - len(sent), 'file')} could not be sent; see the table for the reasons.")
    print_line(
        "The demo's receiver checks no content: `storescp` refuses some of these instances, see its option --check."
    )
    return ExitCode.OK if sent and len(same) == len(sent) else ExitCode.FAILED


@frozen
class _Row:
    result: InstanceResult
    same: bool
    """Whether the received bytes are the sent ones."""


async def _send_to_ourselves(folder: Path) -> list[_Row]:
    if (task := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    rows: list[_Row] = []
    latest: list[Path] = []

    async def keep(request: StoreRequest) -> int:
        latest[:] = [await request.save(folder)]
        return 0x0000

    def compare(result: InstanceResult) -> None:
        # With one operation at a time, this result belongs to the latest received instance.
        rows.append(_Row(result, result.accepted and result.path is not None and _same(result.path, latest[0])))

    async with StorageSCP(keep, port=0) as scp:
        await send(_real_files(), "127.0.0.1", scp.port, associations=1, window=1, on_result=compare)
    return rows


def _real_files() -> Path:
    import pydicom

    # pydicom's get_testdata_files would download further files.
    return Path(pydicom.__file__).parent / "data" / "test_files"


def _same(sent: Path, received: Path) -> bool:
    return instance_from_path(sent).read() == instance_from_path(received).read()


def _show(rows: Iterable[_Row]) -> None:
    headings = ("File", "SOP Class", "Transfer syntax", ">Size", "Status", "Received")
    print_table(headings, (_cells(row) for row in rows))


def _cells(row: _Row) -> tuple[str, ...]:
    result = row.result
    return (
        result.path.name if result.path else "",
        describe(result.sop_class_uid),
        describe(result.transfer_syntax_uid),
        amount(result.size) if result.size else "",
        f"0x{result.status.code:04X}" if result.status else "not sent",
        ("unchanged" if row.same else "DIFFERENT") if result.accepted else result.reason,
    )

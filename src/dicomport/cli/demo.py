"""`dicomport demo`: real instances go out and come in on loopback, and are compared."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import click

from dicomport.cli.options.common import ExitCode, log_format_option
from dicomport.cli.text import amount, count, print_table
from dicomport.files import read_part10
from dicomport.scp import StorageSCP, StoreRequest
from dicomport.scu import InstanceResult, instance_from_path, send
from dicomport.standard import describe

__all__ = ["demo"]

_CHUNK_BYTES = 1 << 20


@click.command()
@log_format_option
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), help="Folder for the received files, else thrown away."
)
def demo(keep: Path | None) -> int:
    """Send real instances to a receiver on this machine, and compare what arrives byte for byte.

    They are the files of scanners that pydicom's package carries, in many SOP Classes and transfer syntaxes; some of
    them are damaged or no instances at all, and can't be sent. No network is needed. Exit code: 0 when all that was
    sent came
    back the same.
    """
    with tempfile.TemporaryDirectory() as scratch:
        rows = asyncio.run(_send_to_ourselves(keep or Path(scratch)))
    _show(sorted(rows, key=lambda row: row.result.path or Path()))
    sent = [row for row in rows if row.result.accepted]
    same = [row for row in sent if row.same]
    classes = {row.result.sop_class_uid for row in same}
    syntaxes = {row.result.transfer_syntax_uid for row in same}
    click.echo(
        f"{count(len(same), 'instance')} of {len(classes)} SOP Classes in {len(syntaxes)} transfer syntaxes went out "
        f"and came in the same, byte for byte: {amount(sum(row.result.size for row in same))}."
    )
    click.echo(f"{count(len(rows) - len(sent), 'file')} could not be sent; the table says why.")
    return ExitCode.OK if sent and len(same) == len(sent) else ExitCode.FAILED


@dataclass(frozen=True, slots=True)
class _Row:
    result: InstanceResult
    same: bool
    """Whether what was received is what was sent."""


async def _send_to_ourselves(folder: Path) -> list[_Row]:
    rows: list[_Row] = []
    latest: list[Path] = []

    async def keep(request: StoreRequest) -> int:
        latest[:] = [await request.save(folder)]
        return 0x0000

    def compare(result: InstanceResult) -> None:
        # One instance goes after the other: the latest received is the one just answered for.
        rows.append(_Row(result, result.accepted and result.path is not None and _same(result.path, latest[0])))

    async with StorageSCP(keep, port=0) as scp:
        await send(_real_files(), "127.0.0.1", scp.port, associations=1, window=1, on_result=compare)
    return rows


def _real_files() -> Path:
    import pydicom

    # Not get_testdata_files: that would also download what the package does not carry.
    return Path(pydicom.__file__).parent / "data" / "test_files"


def _same(sent: Path, received: Path) -> bool:
    instance, stored = instance_from_path(sent), read_part10(received)
    return instance.sent_size == stored.size and _bytes(instance.chunks(_CHUNK_BYTES)) == _bytes(
        stored.chunks(_CHUNK_BYTES)
    )


def _bytes(chunks: Iterable[memoryview]) -> bytes:
    whole = bytearray()
    for chunk in chunks:
        whole += chunk
    return bytes(whole)


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
        ("the same" if row.same else "DIFFERENT") if result.accepted else result.reason,
    )

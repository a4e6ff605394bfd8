"""Storage commitment by the receiver's archives."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl
from collections.abc import Iterable, Mapping
from typing import Any, Final

import click

from dicomport.archive import Archive
from dicomport.commitment import CommitmentSCP
from dicomport.net import Address, Timeouts
from dicomport.scp import NormalizedOperation
from dicomport.standard import Status, check_ae_title

_FORM: Final = "AE=HOST:PORT, such as CT1=192.0.2.7:104 or CT1=[2001:db8::7]:104"


class _ReportTo(click.ParamType[tuple[str, Address]]):
    name = "ae=host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Address]:
        title, equals, where = value.rpartition("=")
        host, colon, port = where.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (equals and colon and host and port.isascii() and port.isdecimal()):
            self.fail(f"{value!r} is invalid; expected {_FORM}", param, ctx)
        try:
            return check_ae_title(title), Address(host, int(port))
        except ValueError as error:
            self.fail(str(error), param, ctx)


commit_to_option = click.option(
    "--commit-to",
    "report_to",
    type=_ReportTo(),
    multiple=True,
    help="Address for storage commitment reports to a calling AE title. By default, reports are sent over the "
    "requesting association if it is still open. Repeatable.",
)


class ArchiveCommitments:
    """Answers each peer's requests from the archive that stores its instances."""

    sop_classes: Final = CommitmentSCP.sop_classes
    is_user: Final = False

    def __init__(
        self,
        archives: Iterable[Archive],
        report_to: Iterable[tuple[str, Address]],
        *,
        ae_title: str,
        timeouts: Timeouts,
        tls: ssl.SSLContext | None,
    ) -> None:
        """Prepare; reports to the addresses `report_to` use `tls`, a client-side context or None."""
        addresses = {peer: dataclasses.replace(address, tls=tls) for peer, address in report_to}
        self._of: Mapping[object, CommitmentSCP] = {
            archive: CommitmentSCP(
                archive,
                archive.paths.commitments,
                report_to=addresses,
                ae_title=ae_title,
                timeouts=timeouts,
                durability=archive.durability,
            )
            for archive in archives
        }

    def reload(self, *, tls: ssl.SSLContext | None) -> None:
        """Use another client-side TLS context, or none, for later reports over new associations."""
        for commitment in self._of.values():
            commitment.reload(tls=tls)

    async def start(self) -> None:
        """Start storage commitment of all archives. Raises `OSError`."""
        async with contextlib.AsyncExitStack() as started:
            for commitment in self._of.values():
                await commitment.start()
                started.push_async_callback(commitment.stop, 0.0)
            started.pop_all()

    async def stop(self, within: float) -> None:
        """Stop storage commitment of all archives at the same time, within so many seconds."""
        await asyncio.gather(*(commitment.stop(within) for commitment in self._of.values()))

    async def perform(self, operation: NormalizedOperation) -> Status:
        """Answer from the archive of the operation's peer."""
        return await self._of[operation.storage].perform(operation)

"""An association as its requestor, on asyncio."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, Unpack

from dicomport.core import AcceptedContext, NegotiationResult
from dicomport.net import Address, Connection, ConnectionLostError, Steps, Timeouts, connect
from dicomport.scu.contexts import ContextLike, NegotiationItems, association_request
from dicomport.scu.inputs.instance import Instance, NotSendableError, instance_of
from dicomport.scu.requestor import NoContextError, Requestor
from dicomport.scu.results import StoreResponse, Timing
from dicomport.standard import Status
from dicomport.wire import AssociateRQ, Priority

if TYPE_CHECKING:
    import pydicom

__all__ = ["ClientAssociation", "associate", "open_association"]

T = TypeVar("T")


class ClientAssociation:
    """An established association, for one task at a time. Made by `associate`."""

    def __init__(self, connection: Connection, requestor: Requestor, outcome: NegotiationResult) -> None:
        self._connection = connection
        self._requestor = requestor
        self.outcome = outcome
        """What was agreed on: each Presentation Context with the reason, the peer's maximum length, and more."""
        self.open = True
        """Whether anything can still be sent. Once it can't, `abort` gives back what the association holds."""
        self._closed = False

    async def c_store(
        self,
        what: str | Path | pydicom.Dataset | Instance,
        *,
        priority: Priority = Priority.MEDIUM,
        move_originator_ae_title: str = "",
        move_originator_message_id: int | None = None,
    ) -> StoreResponse:
        """Send one instance, a file's bytes as they are on disk, and wait for the answer (PS3.4 Annex B).

        A data set is encoded in the transfer syntax that its file meta names. Nothing is ever converted. Raises
        `NotSendableError` and `NoContextError`, after which the association stays open, `AssociationError`, after which
        it has ended, and `OSError` if the file can't be read.
        """
        steps = self._requestor.store(
            instance_of(what),
            priority=priority,
            move_originator_ae_title=move_originator_ae_title,
            move_originator_message_id=move_originator_message_id,
        )
        return await self._run(steps)

    @property
    def window(self) -> int:
        """How many operations may be outstanding at once; 0 is no limit (PS3.7 D.3.3.3)."""
        return self._requestor.window

    @property
    def timing(self) -> Timing:
        """Time that the association has spent on each step so far."""
        return self._requestor.timing

    @property
    def round_trip(self) -> float:
        """Seconds that the peer took to answer the association request."""
        return self._requestor.round_trip

    def context_for(self, sop_class_uid: str, transfer_syntax_uid: str) -> AcceptedContext | None:
        """Give the accepted Presentation Context for a SOP Class in a transfer syntax, if there is one."""
        return self._requestor.context_for(sop_class_uid, transfer_syntax_uid)

    def describe_accepted_syntaxes(self, instance: Instance) -> str:
        """Say in what other transfer syntaxes the peer takes an instance's SOP Class; empty where in none."""
        return self._requestor.describe_accepted_syntaxes(instance)

    def read_ahead(self, instance: Instance) -> None:
        """Read the beginning of the instance that is submitted next."""
        self._requestor.read_ahead(instance)

    async def submit(self, instance: Instance, *, priority: Priority = Priority.MEDIUM) -> int:
        """Send one instance and give the message id of the answer, without waiting for it; raises as `c_store` does.

        No more than `window` may be outstanding.
        """
        return await self._run(self._requestor.submit(instance, priority=priority))

    async def next_response(self) -> tuple[int, Status]:
        """Wait for the answer to any instance that was submitted; give its message id and the status."""
        return await self._run(self._requestor.next_response())

    async def c_echo(self) -> Status:
        """Verify that the peer answers (PS3.4 Annex A). Raises `AssociationError`."""
        return await self._run(self._requestor.echo())

    async def release(self) -> None:
        """Release the association (PS3.8 7.2). Raises `AssociationError` when the peer does not do its part."""
        await self._run(self._requestor.release())
        self._close()

    async def abort(self) -> None:
        """Abort the association (PS3.8 7.3); where it is over already, nothing happens."""
        try:
            if not self._closed:
                await self._connection.run(self._requestor.abort())
        finally:
            self._close()

    def _close(self) -> None:
        self.open = False
        self._closed = True
        self._connection.close()

    async def _run(self, steps: Steps[T]) -> T:
        if not self.open:
            raise ConnectionLostError("the association is over")
        try:
            return await self._connection.run(steps)
        except (NoContextError, NotSendableError):
            self.open = self._requestor.core.established
            raise
        except BaseException:
            # Whatever it was, a message may be half sent: nothing but an abort can follow.
            self.open = False
            raise


async def open_association(address: Address, request: AssociateRQ, timeouts: Timeouts) -> ClientAssociation:
    """Connect and negotiate. Raises `AssociationError`."""
    stream = await connect(address, timeouts)
    requestor = Requestor(request, timeouts)
    connection = Connection(stream, requestor.core, timeouts)
    try:
        return ClientAssociation(connection, requestor, await connection.run(requestor.establish()))
    except BaseException:
        connection.close()
        raise


@contextlib.asynccontextmanager
async def associate(
    host: str,
    port: int,
    *,
    contexts: Iterable[ContextLike],
    ae_title: str = "DICOMPORT",
    called_ae_title: str = "ANY-SCP",
    tls: ssl.SSLContext | None = None,
    timeouts: Timeouts | None = None,
    **negotiation: Unpack[NegotiationItems],
) -> AsyncIterator[ClientAssociation]:
    """Open an association; at the end of the `async with` block it is released, or aborted if the block raised.

    `contexts` names what is to be sent, see `ContextLike`. `tls` is a client-side context. What else is negotiated
    (`maximum_length`, `operations_window`, `roles`, `extended`, `common_extended`, `user_identity`) goes into the
    request as it is. Raises `ValueError` for arguments that make no request and `AssociationError` when there is no
    association, or when it is lost.
    """
    request = association_request(contexts, ae_title=ae_title, called_ae_title=called_ae_title, **negotiation)
    association = await open_association(Address(host, port, tls), request, timeouts or Timeouts())
    try:
        yield association
        if association.open:
            await association.release()
    finally:
        await association.abort()

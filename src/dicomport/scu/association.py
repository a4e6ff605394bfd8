"""An association from its requestor's side, for asyncio; `dicomport.blocking` has the same for other programs."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, TypeVar, Unpack

from dicomport.core import AcceptedContext, NegotiationResult
from dicomport.net import Address, Connection, Steps, Timeouts, connect
from dicomport.scu.contexts import ContextLike, NegotiationItems, association_request
from dicomport.scu.inputs.instance import Instance, instance_of
from dicomport.scu.requestor import StorageRequestor, StoreOptions
from dicomport.scu.results import StoreResponse, Timing
from dicomport.standard import Status
from dicomport.wire import AssociateRQ

if TYPE_CHECKING:
    from dicomport.scu.inputs.discovery import Source


T = TypeVar("T")


class ClientAssociation:
    """An established association, for one task at a time. Returned by `associate`."""

    def __init__(self, connection: Connection, requestor: StorageRequestor, outcome: NegotiationResult) -> None:
        self._connection = connection
        self._requestor = requestor
        self.outcome = outcome
        """Result of the negotiation: each presentation context with the reason, the peer's maximum length, and more."""

    async def c_store(self, what: Source, **options: Unpack[StoreOptions]) -> StoreResponse:
        """Send one instance, a file's bytes as they are on disk, and wait for the response (PS3.4 Annex B).

        A data set is encoded in the transfer syntax that its file meta names. Nothing is converted. The keyword
        arguments are `priority`, `move_originator_ae_title` and `move_originator_message_id`. Raises
        `NotSendableError` and `NoContextError`, after which the association stays open, `AssociationError`, after which
        it has ended, `OSError` if the file cannot be read, and `TypeError` for any other object.
        """
        return await self._run(self._requestor.store(instance_of(what), **options))

    @property
    def parts(self) -> tuple[Connection, StorageRequestor]:
        """The connection and the requestor's side of the protocol, for a straight path beside this class."""
        return self._connection, self._requestor

    @property
    def open(self) -> bool:
        """Whether the association can be used. If it cannot, `abort` releases its resources."""
        return self._requestor.open

    @property
    def window(self) -> int:
        """Maximum number of outstanding operations; 0 means unlimited (PS3.7 D.3.3.3)."""
        return self._requestor.window

    @property
    def timing(self) -> Timing:
        """Time that the association has spent on each step so far."""
        return self._requestor.timing

    @property
    def round_trip(self) -> float:
        """Time of the TCP connection, seconds: the round trip of the network, without the work of the peer."""
        return self._connection.stream.round_trip

    def context_for(self, sop_class_uid: str, transfer_syntax_uid: str) -> AcceptedContext | None:
        """Return the accepted presentation context for a SOP Class in a transfer syntax, if there is one."""
        return self._requestor.context_for(sop_class_uid, transfer_syntax_uid)

    def describe_accepted_syntaxes(self, instance: Instance) -> str:
        """Describe the other transfer syntaxes that the peer accepts for an instance's SOP Class; empty if none."""
        return self._requestor.describe_accepted_syntaxes(instance)

    def read_ahead(self, instance: Instance) -> None:
        """Read the beginning of the instance that is submitted next."""
        self._requestor.read_ahead(instance)

    async def submit(self, instance: Instance, **options: Unpack[StoreOptions]) -> int:
        """Send one instance and return the message id of the response, without waiting for it.

        At most `window` instances may be outstanding. Raises the same errors as `c_store`.
        """
        return await self._run(self._requestor.submit(instance, **options))

    async def next_response(self) -> tuple[int, Status]:
        """Wait for the response to any submitted instance; return its message id and status."""
        return await self._run(self._requestor.next_response())

    async def c_echo(self) -> Status:
        """Verify that the peer answers (PS3.4 Annex A). Raises `NoContextError` and `AssociationError`."""
        return await self._run(self._requestor.echo())

    async def release(self) -> None:
        """Release the association (PS3.8 7.2). Raises `AssociationError` if the peer does not confirm it."""
        await self._run(self._requestor.release())
        self._close()

    async def abort(self) -> None:
        """Abort the association (PS3.8 7.3). If it has ended already, only close the connection."""
        try:
            await self._connection.run(self._requestor.abort())
        finally:
            self._close()

    def _close(self) -> None:
        self._requestor.open = False
        self._connection.close()

    async def _run(self, steps: Steps[T]) -> T:
        with self._requestor.operation():
            return await self._connection.run(steps)


async def open_association(address: Address, request: AssociateRQ, timeouts: Timeouts) -> ClientAssociation:
    """Connect and negotiate. Raises `AssociationError`."""
    stream = await connect(address, timeouts)
    requestor = StorageRequestor(request, timeouts)
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
    """Open an association; the end of the `async with` block releases it, or aborts it if the block raised.

    `contexts` names the SOP Classes to be sent, see `ContextLike`. `tls` is a client-side context. The further items of
    the negotiation (`maximum_length`, `operations_window`, `roles`, `extended`, `common_extended`, `user_identity`) are
    put into the request unchanged. Raises `ValueError` for invalid arguments, and `AssociationError` if the association
    cannot be established or is lost.
    """
    request = association_request(contexts, ae_title=ae_title, called_ae_title=called_ae_title, **negotiation)
    association = await open_association(Address(host, port, tls), request, timeouts or Timeouts())
    try:
        yield association
        if association.open:
            await association.release()
    finally:
        await association.abort()

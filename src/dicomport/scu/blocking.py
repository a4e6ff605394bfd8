"""The same without asyncio: an association on a blocking socket, in the caller's thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ssl
from collections.abc import Coroutine, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from dicomport.core import NegotiationResult
from dicomport.net import Address, BlockingConnection, ConnectionLostError, Steps, Timeouts, connect_blocking
from dicomport.scu.contexts import ContextLike, NegotiationItems, association_request
from dicomport.scu.inputs.background import Sources
from dicomport.scu.inputs.instance import Instance, NotSendableError, instance_of
from dicomport.scu.requestor import NoContextError, Requestor
from dicomport.scu.results import StoreResponse
from dicomport.scu.sending.report import SendReport
from dicomport.scu.sending.send import SendOptions
from dicomport.scu.sending.send import send as send_in_loop
from dicomport.standard import Status
from dicomport.wire import AssociateRQ, Priority

if TYPE_CHECKING:
    import pydicom

__all__ = ["BlockingAssociation", "associate", "run", "send"]

T = TypeVar("T")


class BlockingAssociation:
    """An established association, for one thread at a time. Made by `associate`."""

    def __init__(self, connection: BlockingConnection, requestor: Requestor, outcome: NegotiationResult) -> None:
        self._connection = connection
        self._requestor = requestor
        self.outcome = outcome
        """What was agreed on, as in `ClientAssociation`."""
        self.open = True
        """Whether anything can still be sent. Once it can't, `abort` gives back what the association holds."""
        self._closed = False

    def c_store(
        self,
        what: str | Path | pydicom.Dataset | Instance,
        *,
        priority: Priority = Priority.MEDIUM,
        move_originator_ae_title: str = "",
        move_originator_message_id: int | None = None,
    ) -> StoreResponse:
        """Send one instance and wait for the answer, as `ClientAssociation.c_store` does."""
        steps = self._requestor.store(
            instance_of(what),
            priority=priority,
            move_originator_ae_title=move_originator_ae_title,
            move_originator_message_id=move_originator_message_id,
        )
        return self._run(steps)

    def c_echo(self) -> Status:
        """Verify that the peer answers (PS3.4 Annex A). Raises `AssociationError`."""
        return self._run(self._requestor.echo())

    def release(self) -> None:
        """Release the association (PS3.8 7.2). Raises `AssociationError` when the peer does not do its part."""
        self._run(self._requestor.release())
        self._close()

    def abort(self) -> None:
        """Abort the association (PS3.8 7.3); where it is over already, nothing happens."""
        try:
            if not self._closed:
                self._connection.run(self._requestor.abort())
        finally:
            self._close()

    def _close(self) -> None:
        self.open = False
        self._closed = True
        self._connection.close()

    def _run(self, steps: Steps[T]) -> T:
        if not self.open:
            raise ConnectionLostError("the association is over")
        try:
            return self._connection.run(steps)
        except (NoContextError, NotSendableError):
            self.open = self._requestor.core.established
            raise
        except BaseException:
            # Whatever it was, a message may be half sent: nothing but an abort can follow.
            self.open = False
            raise


def _open(address: Address, request: AssociateRQ, timeouts: Timeouts) -> BlockingAssociation:
    sock = connect_blocking(address, timeouts)
    requestor = Requestor(request, timeouts)
    connection = BlockingConnection(sock, requestor.core, timeouts)
    try:
        return BlockingAssociation(connection, requestor, connection.run(requestor.establish()))
    except BaseException:
        connection.close()
        raise


@contextlib.contextmanager
def associate(
    host: str,
    port: int,
    *,
    contexts: Iterable[ContextLike],
    ae_title: str = "DICOMPORT",
    called_ae_title: str = "ANY-SCP",
    tls: ssl.SSLContext | None = None,
    timeouts: Timeouts | None = None,
    **negotiation: Unpack[NegotiationItems],
) -> Iterator[BlockingAssociation]:
    """Open an association for the length of a `with` block, as `dicomport.associate` does for an `async with` block."""
    request = association_request(contexts, ae_title=ae_title, called_ae_title=called_ae_title, **negotiation)
    association = _open(Address(host, port, tls), request, timeouts or Timeouts())
    try:
        yield association
        if association.open:
            association.release()
    finally:
        association.abort()


def send(what: Sources, host: str, port: int, **options: Unpack[SendOptions]) -> SendReport:
    """Send as `dicomport.send` does, with the same arguments, and return when all is done.

    It runs an event loop of its own, in another thread where the caller's has one already.
    """

    async def send_all() -> SendReport:
        return await send_in_loop(what, host, port, **options)

    return run(send_all())


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, in another thread where the caller's has an event loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with concurrent.futures.ThreadPoolExecutor(1, "dicomport-run") as thread:
        return thread.submit(asyncio.run, work).result()

"""`associate`, `send` and `commit` for programs without asyncio: each call returns when its work is done.

Theory of operation
-------------------
`associate` runs the steps of the requestor on a blocking socket, in the caller's thread. `send` and `commit` may use
several connections at the same time: each call runs an event loop, in a new thread if the caller's thread runs one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ssl
from collections.abc import Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from dicomport import scu
from dicomport.core import NegotiationResult
from dicomport.net import Address, BlockingConnection, Steps, Timeouts, connect_blocking
from dicomport.scu.inputs.instance import instance_of
from dicomport.scu.requestor import StoreOptions
from dicomport.scu.sending.send import SendOptions
from dicomport.standard import Status

if TYPE_CHECKING:
    from dicomport.commitment import CommitmentReport, CommitOptions
    from dicomport.commitment.data_sets import SOPReference


T = TypeVar("T")


class BlockingAssociation:
    """An established association, for one thread at a time. Returned by `associate`."""

    def __init__(
        self, connection: BlockingConnection, requestor: scu.StorageRequestor, outcome: NegotiationResult
    ) -> None:
        self._connection = connection
        self._requestor = requestor
        self.outcome = outcome
        """Result of the negotiation, as in `ClientAssociation`."""

    @property
    def open(self) -> bool:
        """Whether the association can be used. If it cannot, `abort` releases its resources."""
        return self._requestor.open

    def c_store(self, what: scu.Source, **options: Unpack[StoreOptions]) -> scu.StoreResponse:
        """Send one instance and wait for the response, as `ClientAssociation.c_store` does."""
        return self._run(self._requestor.store(instance_of(what), **options))

    def c_echo(self) -> Status:
        """Verify that the peer answers (PS3.4 Annex A). Raises `NoContextError` and `AssociationError`."""
        return self._run(self._requestor.echo())

    def release(self) -> None:
        """Release the association (PS3.8 7.2). Raises `AssociationError` if the peer does not confirm it."""
        self._run(self._requestor.release())
        self._close()

    def abort(self) -> None:
        """Abort the association (PS3.8 7.3). If it has ended already, only close the connection."""
        try:
            self._connection.run(self._requestor.abort())
        finally:
            self._close()

    def _close(self) -> None:
        self._requestor.open = False
        self._connection.close()

    def _run(self, steps: Steps[T]) -> T:
        with self._requestor.operation():
            return self._connection.run(steps)


@contextlib.contextmanager
def associate(
    host: str,
    port: int,
    *,
    contexts: Iterable[scu.ContextLike],
    ae_title: str = "DICOMPORT",
    called_ae_title: str = "ANY-SCP",
    tls: ssl.SSLContext | None = None,
    timeouts: Timeouts | None = None,
    **negotiation: Unpack[scu.NegotiationItems],
) -> Iterator[BlockingAssociation]:
    """Open an association for a `with` block, as `dicomport.associate` does for an `async with` block."""
    request = scu.association_request(contexts, ae_title=ae_title, called_ae_title=called_ae_title, **negotiation)
    timeouts = timeouts or Timeouts()
    requestor = scu.StorageRequestor(request, timeouts)
    connection = BlockingConnection(connect_blocking(Address(host, port, tls), timeouts), requestor.core, timeouts)
    with contextlib.closing(connection):
        association = BlockingAssociation(connection, requestor, connection.run(requestor.establish()))
        try:
            yield association
            if association.open:
                association.release()
        finally:
            association.abort()


def send(sources: scu.Sources, host: str, port: int, **options: Unpack[SendOptions]) -> scu.SendReport:
    """Send as `dicomport.send` does, with the same arguments, and return when all is done."""
    return _run(scu.send(sources, host, port, **options))


def commit(
    references: Iterable[SOPReference], host: str, port: int, **options: Unpack[CommitOptions]
) -> CommitmentReport:
    """Request a commitment as `dicomport.commit` does, with the same arguments, and return when all is done."""
    from dicomport import commitment  # a sender does not need it

    return _run(commitment.commit(references, host, port, **options))


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, in another thread if this one runs an event loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with concurrent.futures.ThreadPoolExecutor(1, "dicomport-run") as thread:
        return thread.submit(asyncio.run, work).result()

"""Open an association step by step: yield each step with its result, or its failure with cause and advice."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Self, Unpack

from dicomport.core import NegotiationResult
from dicomport.dimse import NoContextError
from dicomport.net import (
    AbortedError,
    Address,
    AssociationError,
    ConnectError,
    Connection,
    ConnectionLostError,
    Endpoint,
    FailedAttempt,
    Stream,
    Timeouts,
    Timer,
    reach,
    resolve,
    secure,
)
from dicomport.net.tls.certificates import Certificate
from dicomport.scu.contexts import ContextLike, NegotiationItems, association_request
from dicomport.scu.explain.advice import SPEAKS_TLS, diagnose, diagnose_outcome, diagnose_status
from dicomport.scu.explain.proposals import USUAL_CONTEXTS, Proposal, proposals, with_optional_items
from dicomport.scu.explain.steps import Associated, Connected, Echoed, Failure, Released, Resolved, Secured, Step
from dicomport.scu.requestor import StorageRequestor
from dicomport.standard import VERIFICATION, Status
from dicomport.wire import AssociateRQ

_CERTIFICATE_REQUEST: Final = 13
"""The handshake message by which a server asks for a certificate (RFC 8446 4.3.2)."""

_PROBE_SECONDS: Final = 3.0
"""Time limit for finding out whether a peer uses TLS, seconds: one that does not may never respond."""


def explain(
    address: Address,
    *,
    contexts: Iterable[ContextLike] = USUAL_CONTEXTS,
    ae_title: str = "DICOMPORT",
    called_ae_title: str = "ANY-SCP",
    timeouts: Timeouts | None = None,
    repeat: int = 1,
    **negotiation: Unpack[NegotiationItems],
) -> AsyncGenerator[Step, None]:
    """Open an association, verify it by `repeat` C-ECHOs and release it; yield each step once it is done.

    Verification is proposed in addition to `contexts`; `negotiation` holds further items of the request, as for
    `associate`. A failed step is the last one, with two exceptions: if the peer closes the connection instead of
    responding, the request is repeated with fewer and fewer items, to find the item that causes it; and an association
    is always released. Raises only `ValueError`, for arguments that make no valid request.
    """
    request = association_request(
        [VERIFICATION, *contexts], ae_title=ae_title, called_ae_title=called_ae_title, **negotiation
    )
    return _steps(address, with_optional_items(request), timeouts or Timeouts(), repeat)


async def _steps(address: Address, request: AssociateRQ, timeouts: Timeouts, repeat: int) -> AsyncGenerator[Step, None]:
    resolved = await _resolve(address, timeouts)
    yield resolved
    left = [] if resolved.failure else proposals(request)
    while left:
        connected, stream = await _connect(address, resolved.endpoints, timeouts)
        yield connected
        if stream is None or connected.endpoint is None:
            return
        call = _Call(address, connected.endpoint, stream, left.pop(0), timeouts)
        try:
            if address.tls is not None:
                secured = await call.secure(address.tls)
                yield secured
                if secured.failure:
                    return
            associated = await call.associate(left)
            yield associated
            if call.established and not associated.failure:
                yield await call.echo(repeat)
            if call.established:
                yield await call.release()
            if not associated.dropped:
                return
        finally:
            await call.leave()


async def _resolve(address: Address, timeouts: Timeouts) -> Resolved:
    found: list[Endpoint] = []
    with _Timed() as timed:
        found = await resolve(address, timeouts.timer("connect").started())
    return Resolved(seconds=timed.seconds, failure=diagnose(timed.error, address), endpoints=tuple(found))


async def _connect(
    address: Address, endpoints: tuple[Endpoint, ...], timeouts: Timeouts
) -> tuple[Connected, Stream | None]:
    failed: list[FailedAttempt] = []
    stream: Stream | None = None
    with _Timed() as timed:
        stream = await reach(address, endpoints, timeouts.timer("connect").started(), failed)
    step = Connected(
        seconds=timed.seconds,
        failure=diagnose(timed.error, address),
        failed=tuple(failed),
        endpoint=None if stream is None else endpoints[len(failed)],
    )
    return step, stream


class _Call:
    """One connection to the peer, and the association that is proposed on it."""

    def __init__(
        self, address: Address, endpoint: Endpoint, stream: Stream, proposal: Proposal, timeouts: Timeouts
    ) -> None:
        self._address = address
        self._endpoint = endpoint
        self._stream = stream
        self._proposal = proposal
        self._timeouts = timeouts
        self._requestor = StorageRequestor(proposal.request, timeouts)
        self._connection = Connection(stream, self._requestor.core, timeouts)

    @property
    def established(self) -> bool:
        """Whether there is an association."""
        return self._requestor.core.established

    async def secure(self, context: ssl.SSLContext) -> Secured:
        """Negotiate TLS on the connection."""
        with _certificate_requests(context) as requests, _Timed() as timed:
            await secure(self._stream, self._address, context, self._timeouts.timer("tls").started())
        if timed.error is not None:
            untrusted = isinstance(timed.error.__cause__, ssl.SSLCertVerificationError)
            return Secured(
                seconds=timed.seconds,
                failure=diagnose(timed.error, self._address),
                # After a failed handshake, `ssl` does not return the certificate, although the user needs to see it.
                certificate=await self._fetch_certificate() if untrusted else None,
                certificate_asked=bool(requests),
            )
        tls = self._stream.tls
        cipher = tls and tls.cipher()
        return Secured(
            seconds=timed.seconds,
            version=(tls and tls.version()) or "",
            cipher=cipher[0] if cipher else "",
            certificate=_certificate(self._stream),
            certificate_asked=bool(requests),
        )

    async def associate(self, left: list[Proposal]) -> Associated:
        """Request the association; `left` are the next proposals if the peer closes the connection."""
        outcome: NegotiationResult | None = None
        with _Timed() as timed:
            outcome = await self._connection.run(self._requestor.establish())
        dropped = _dropped(timed.error)
        failure = diagnose(timed.error, self._address, self._proposal.request, self._requestor.core.unrecognized)
        if outcome is not None:
            failure = diagnose_outcome(outcome)
        if dropped and not self._proposal.left_out and self._address.tls is None and await self._speaks_tls():
            dropped, failure = False, SPEAKS_TLS
        elif dropped and failure and left:
            failure = Failure(failure.cause, f"Asking again without {left[0].left_out}.")
        return Associated(
            seconds=timed.seconds,
            failure=failure,
            request=self._proposal.request,
            left_out=self._proposal.left_out,
            outcome=outcome,
            dropped=dropped,
        )

    async def echo(self, repeat: int) -> Echoed:
        """Verify the association."""
        round_trips: list[float] = []
        status: Status | None = None
        with _Timed() as timed:
            for _ in range(repeat):
                started = time.perf_counter()
                status = await self._connection.run(self._requestor.echo())
                round_trips.append(time.perf_counter() - started)
        failure = diagnose(timed.error, self._address)
        if failure is None and status is not None:
            failure = diagnose_status(status)
        return Echoed(seconds=timed.seconds, failure=failure, round_trips=tuple(round_trips), status=status)

    async def release(self) -> Released:
        """Release the association."""
        with _Timed() as timed:
            await self._connection.run(self._requestor.release())
        return Released(seconds=timed.seconds, failure=diagnose(timed.error, self._address))

    async def leave(self) -> None:
        """Abort the association, if there is one, and close the connection."""
        try:
            if self.established:
                await self._connection.run(self._requestor.abort())
        finally:
            self._connection.close()

    async def _fetch_certificate(self) -> Certificate | None:
        with contextlib.suppress(ConnectError):
            async with self._unverified() as stream:
                return _certificate(stream)
        return None

    async def _speaks_tls(self) -> bool:
        try:
            async with self._unverified():
                return True
        except ConnectError as error:
            # A TLS alert also shows that the peer uses TLS.
            return isinstance(error.__cause__, ssl.SSLError) and not isinstance(error.__cause__, ssl.SSLEOFError)

    @contextlib.asynccontextmanager
    async def _unverified(self) -> AsyncGenerator[Stream, None]:
        """Negotiate TLS without verification, on a separate connection over which no data is sent."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        timer = Timer("probe", _PROBE_SECONDS).started()
        stream = await reach(self._address, (self._endpoint,), timer, [])
        try:
            await secure(stream, self._address, context, timer)
            yield stream
        finally:
            stream.close()


class _Timed:
    """Measures the time of a `with` block, and catches the error that ends it: no association, or no context."""

    def __init__(self) -> None:
        self.error: AssociationError | NoContextError | None = None
        self._started = time.perf_counter()
        self.seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.seconds = time.perf_counter() - self._started
        self.error = error if isinstance(error, AssociationError | NoContextError) else None
        return self.error is not None


def _dropped(error: AssociationError | NoContextError | None) -> bool:
    """Return whether the peer closed the connection, and TLS is not the reason."""
    if isinstance(error, AbortedError):
        return error.aborted.by_peer
    return isinstance(error, ConnectionLostError) and error.__cause__ is None


def _certificate(stream: Stream) -> Certificate | None:
    """Return the peer's certificate; None without one, or if it cannot be decoded."""
    der = stream.tls.getpeercert(binary_form=True) if stream.tls is not None else None
    try:
        return None if der is None else Certificate.decode(der)
    except ValueError:
        return None


@contextlib.contextmanager
def _certificate_requests(context: ssl.SSLContext) -> Iterator[list[object]]:
    """Collect the server's requests for a client certificate, which only Python's debugging hook shows."""
    hooked: Any = context
    requests: list[object] = []

    def note(_socket: object, direction: str, _version: object, _content: object, kind: object, data: bytes) -> None:
        if direction == "read" and kind == _CERTIFICATE_REQUEST:
            requests.append(data)

    before = hooked._msg_callback  # noqa: SLF001
    hooked._msg_callback = note  # noqa: SLF001
    try:
        yield requests
    finally:
        hooked._msg_callback = before  # noqa: SLF001

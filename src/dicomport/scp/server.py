"""The Storage SCP: it listens, and serves each association in a separate task."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from dicomport.core import DEFAULT_MAXIMUM_LENGTH, IMPLEMENTATION, AcceptorPolicy, KnownRequests, Role
from dicomport.files import MemoryBudget
from dicomport.logs import get_logger
from dicomport.net import (
    AssociationCounts,
    Connection,
    ConnectionSlot,
    Counters,
    Listener,
    Stream,
    Timeouts,
    create_association,
    listening_sockets,
)
from dicomport.scp.access.acceptance import AccessControl
from dicomport.scp.access.peers import PeerRule
from dicomport.scp.access.user_identity import UserIdentityAuthenticator, UserIdentityCheck
from dicomport.scp.association import AcceptorAssociation
from dicomport.scp.callbacks import OnAssociationEnd, OnStored
from dicomport.scp.dimse_n import DataSetMemory, NoDimseN, NormalizedService
from dicomport.scp.handlers import Handler, HandlerStorage
from dicomport.scp.limits import DEFAULT_LIMITS, Limits
from dicomport.scp.settings import ServiceSettings
from dicomport.scp.sinks import Storage
from dicomport.standard import STORAGE_SERVICE_CLASS, VERIFICATION, check_ae_title, sop_classes
from dicomport.wire import SOPClassCommonExtendedNegotiation, SOPClassExtendedNegotiation

log = get_logger("scp")

_OPERATIONS_WINDOW: Final = 16
"""Maximum operations invoked (PS3.7 D.3.3.3) for peers that propose a window. Requests are read in order, and the next
ones wait in the socket, so this needs no memory."""

_LEVEL_2_FULL: Final = bytes((2, 0, 3, 0, 0, 0))
"""The Service Class Application Information of storage (PS3.4 B.3.1.1): all attributes are stored, private ones too;
digital signatures stay valid; no attribute is coerced."""


def any_storage_class(uid: str, common: SOPClassCommonExtendedNegotiation | None) -> bool:
    """Accept Verification and each abstract syntax that is not known as another class than storage.

    So private classes, and classes of later editions of the standard, are stored. A requestor may state the service
    class in the SOP Class Common Extended Negotiation (PS3.4 B.3.1).
    """
    if uid == VERIFICATION or sop_classes.is_storage(uid):
        return True
    if common is not None:
        return common.service_class_uid == STORAGE_SERVICE_CLASS
    return sop_classes.known_as_other(uid) is None


class StorageSCP:
    """Receives instances by C-STORE (PS3.4 Annex B) and answers C-ECHO (PS3.4 Annex A), on many associations at once.

    Use it as `async with StorageSCP(handler):`, or from a program without asyncio as `with
    StorageSCP(handler).in_thread():`.
    """

    def __init__(
        self,
        handler: Handler | Storage,
        *,
        ae_title: str = "DICOMPORT",
        host: str = "127.0.0.1",
        port: int = 11112,
        allow: Iterable[PeerRule | str] | None = None,
        allow_any: bool = False,
        check_called_ae_title: bool = False,
        user_identity: UserIdentityCheck | None = None,
        abstract_syntaxes: Callable[[str, SOPClassCommonExtendedNegotiation | None], bool] = any_storage_class,
        transfer_syntaxes: Collection[str] | None = None,
        preferred_transfer_syntaxes: tuple[str, ...] = (),
        maximum_length: int = DEFAULT_MAXIMUM_LENGTH,
        timeouts: Timeouts | None = None,
        limits: Limits = DEFAULT_LIMITS,
        tls: ssl.SSLContext | None = None,
        on_stored: OnStored | None = None,
        on_association_end: OnAssociationEnd | None = None,
        commitment: NormalizedService | None = None,
        sockets: Sequence[socket.socket] | None = None,
        associations: AssociationCounts | None = None,
    ) -> None:
        """Prepare, without listening. Only this machine can connect by default.

        - `handler`: a function that is called with a `StoreRequest` for each instance and returns the status of the
          response, or a `Storage` such as `FolderStorage`.
        - `ae_title`: the AE title of this server. With `check_called_ae_title`, requests for another one are rejected
          (default: accepted).
        - `host`, `port`: the address to listen on, a name or an IPv4 or IPv6 address; port 0 is any free one. An
          address that other machines can reach requires `allow` or `allow_any`.
        - `allow`: rules for the peers that may connect, `PeerRule` or text AE[@ADDRESS/NET] with "*" for any AE title.
          The first rule that a peer matches restricts it. With `allow_any`, other peers may connect too.
        - `user_identity`: checks user identities, such as `Passwords` (default: they are ignored; PS3.7 D.3.3.7).
        - `abstract_syntaxes`: a function that returns whether a SOP Class is accepted (default: each storage class,
          private ones too). `transfer_syntaxes`: UIDs of those that are accepted (default: all).
        - `preferred_transfer_syntaxes`: in each presentation context the first of these that the requestor proposes is
          accepted, otherwise the first one that the requestor proposes.
        - `maximum_length`: the maximum length to receive (PS3.8 D.1), bytes; 0 means unlimited.
        - `timeouts`, `limits`: seconds to wait for peers, and bounds on memory, disk and connections for them.
        - `tls`: a server-side context (default: no TLS).
        - `on_stored`: called with each C-STORE request before its response is sent, the status, and the length of the
          data set in bytes.
        - `on_association_end`: called once with each accepted association when it has been released or aborted, or its
          connection was lost.
        - `commitment`: a service of storage commitment, `CommitmentSCP`. This server starts and stops it.
        - `sockets`: listening sockets instead of `host` and `port`, which the server closes at the end. Several
          processes may listen on the same sockets; they count their `associations` together.

        Raises `ValueError` for an invalid AE title or network, and for an address that other machines can reach
        without `allow` or `allow_any`.
        """
        rules = _rules(host, allow, allow_any=allow_any)
        self._host = host
        self._port = port
        self._sockets = sockets
        self._association_counts = associations
        self._timeouts = timeouts or Timeouts()
        self._limits = limits
        self._tls = tls
        normalized = self._normalized = commitment or NoDimseN()
        policy = AcceptorPolicy(
            ae_title=check_ae_title(ae_title),
            identity=IMPLEMENTATION,
            maximum_length=maximum_length,
            abstract_syntaxes=lambda uid, kind: uid in normalized.sop_classes or abstract_syntaxes(uid, kind),
            transfer_syntaxes=transfer_syntaxes,
            in_any_transfer_syntax=frozenset((VERIFICATION, *normalized.sop_classes)),
            preferred_transfer_syntaxes=preferred_transfer_syntaxes,
            check_called_ae_title=check_called_ae_title,
            operations_window=_OPERATIONS_WINDOW,
            extended=_answer_extended,
            requestor_as_scp=normalized.sop_classes if normalized.is_user else (),
            # A function of the user may change its mind.
            is_constant=abstract_syntaxes is any_storage_class,
        )
        self._counters = Counters()
        self._known_requests = KnownRequests(limits)
        memory = MemoryBudget(limits.memory_bytes)
        self._settings = ServiceSettings(
            access=AccessControl(rules, self._authenticator(user_identity), policy, self._known_requests),
            storage=handler if isinstance(handler, Storage) else HandlerStorage(handler),
            normalized=normalized,
            limits=limits,
            memory=memory,
            dimse_n_memory=DataSetMemory(memory, limits.memory_bytes),
            on_stored=on_stored,
            on_association_end=on_association_end,
        )
        self._listener: Listener | None = None
        self._associations: set[AcceptorAssociation] = set()
        self._stopped = asyncio.Event()

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._port if self._listener is None else self._listener.port

    @property
    def counters(self) -> Mapping[str, int]:
        """Number of expired timers, exceeded limits and tolerated deviations, since the server was created (a copy).

        The names are those of `Timeouts`, `Limits` and `dicomport.wire.Deviation`: "timer.idle", "limit.associations",
        "deviation.uid-padding". A name without an event is absent.
        """
        return self._counters.snapshot()

    async def start(self) -> None:
        """Listen. Raises `OSError` if the address is not available, or if `commitment` cannot start."""
        sockets = list(self._sockets or listening_sockets(self._host, self._port))
        try:
            await self._normalized.start()
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        self._listener = Listener(
            sockets,
            self._serve,
            timeouts=self._timeouts,
            tls=self._tls,
            counters=self._counters,
            limits=self._limits,
            associations=self._association_counts,
        )

    async def stop(self, within: float | None = None) -> None:
        """Stop listening, complete the operations that have begun, and abort all associations.

        After `within` seconds (default: `Timeouts.shutdown`), the remaining operations are cancelled: those of
        associations and those of `commitment` together.
        """
        if self._listener is None:
            return
        within = self._timeouts.shutdown if within is None else within
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        listener, self._listener = self._listener, None
        self._port = listener.port
        listener.close()
        for served in self._associations:
            served.stop()
        await listener.wait_served(within)
        await self._normalized.stop(max(0.0, deadline - loop.time()))
        log.info("server_stopped", counters=self._counters.snapshot())
        self._stopped.set()

    def reload(
        self,
        *,
        allow: Iterable[PeerRule | str] | None,
        allow_any: bool,
        user_identity: UserIdentityCheck | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        """Use other peers, another check of user identities and another TLS context, for later association requests.

        The arguments are those of the constructor, and replace all of its values. Open associations keep theirs, and
        count towards the limits of rules with the same name. Raises `ValueError` as the constructor does; nothing has
        changed then. Any thread may call it.
        """
        rules = _rules(self._host, allow, allow_any=allow_any)
        self._settings.access.reload(rules, self._authenticator(user_identity))
        self._tls = tls
        if self._listener is not None:
            self._listener.tls = tls

    async def serve_forever(self) -> None:
        """Wait until `stop` has stopped the server."""
        await self._stopped.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[Self]:
        """Serve in a separate thread with an event loop during the `with` block."""
        started: concurrent.futures.Future[Callable[[], object]] = concurrent.futures.Future()

        async def serve() -> None:
            loop = asyncio.get_running_loop()
            end = asyncio.Event()
            async with self:
                started.set_result(lambda: loop.call_soon_threadsafe(end.set))
                await end.wait()

        def run() -> None:
            try:
                asyncio.run(serve())
            except BaseException as error:
                if started.done():
                    raise
                started.set_exception(error)

        thread = threading.Thread(target=run, name="dicomport-scp", daemon=True)
        thread.start()
        stop = started.result()
        try:
            yield self
        finally:
            stop()
            thread.join()

    def _authenticator(self, check: UserIdentityCheck | None) -> UserIdentityAuthenticator | None:
        if check is None:
            return None
        return UserIdentityAuthenticator(
            check, self._timeouts.acse, self._limits.identity_checks_per_address, self._counters
        )

    async def _serve(self, stream: Stream, slot: ConnectionSlot) -> None:
        core = create_association(Role.ACCEPTOR, self._limits, slot.address, self._known_requests)
        core.transport_opened()
        connection = Connection(stream, core, self._timeouts, counters=self._counters)
        served = AcceptorAssociation(connection, slot, self._settings)
        self._associations.add(served)
        try:
            await served.serve()
        finally:
            self._associations.discard(served)


def _rules(host: str, allow: Iterable[PeerRule | str] | None, *, allow_any: bool) -> list[PeerRule]:
    """Return the rules for the peers that may connect. Raises `ValueError`."""
    if allow is None and not (allow_any or is_loopback(host)):
        raise ValueError(
            f"other machines can reach {host or 'this address'}: pass those that may connect (allow) or allow_any"
        )
    rules = [rule if isinstance(rule, PeerRule) else PeerRule.parse(rule) for rule in allow or ()]
    if allow is None or allow_any:
        rules.append(PeerRule(rule="any", invalid_ae_titles=True))
    return rules


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address to listen on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _answer_extended(item: SOPClassExtendedNegotiation) -> bytes | None:
    is_storage = item.sop_class_uid != VERIFICATION and any_storage_class(item.sop_class_uid, None)
    return _LEVEL_2_FULL if is_storage else None

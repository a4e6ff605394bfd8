"""The Storage SCP: listens, and serves each association in a task of its own."""

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

from dicomport.core import DEFAULT_MAXIMUM_LENGTH, IMPLEMENTATION, AcceptorPolicy, Role
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
    association,
    listening_sockets,
)
from dicomport.scp.access.acceptance import AccessControl
from dicomport.scp.access.peers import PeerRule
from dicomport.scp.access.user_identity import UserIdentities, UserIdentityCheck
from dicomport.scp.association import AcceptorAssociation
from dicomport.scp.callbacks import OnAssociationEnd, OnStored
from dicomport.scp.dimse_n import NoDimseN, NormalizedService
from dicomport.scp.handlers import Handler, HandlerStorage
from dicomport.scp.limits import DEFAULT_LIMITS, Limits
from dicomport.scp.settings import ServiceSettings
from dicomport.scp.sinks import Storage
from dicomport.standard import STORAGE_SERVICE_CLASS, VERIFICATION, check_ae_title, sop_classes
from dicomport.wire import SOPClassCommonExtendedNegotiation, SOPClassExtendedNegotiation

__all__ = ["StorageSCP", "any_storage_class"]

log = get_logger("scp")

_OPERATIONS_WINDOW: Final = 16
"""Requests that a peer may have outstanding where it asks for a window. They are served in order; what has not been
served yet stays in the socket, so this costs no memory."""

_LEVEL_2_FULL: Final = bytes((2, 0, 3, 0, 0, 0))
"""The Service Class Application Information of storage (PS3.4 B.3.1.1): all attributes are kept, private ones too;
signatures stay valid, as every bit is; nothing is coerced."""


def any_storage_class(uid: str, kind: SOPClassCommonExtendedNegotiation | None) -> bool:
    """Take verification and every abstract syntax that is not known to be something else than a storage SOP Class.

    So private classes, and those of standards to come, are stored; PS3.4 B.3.1 lets the requestor say of what kind
    they are.
    """
    if uid == VERIFICATION or sop_classes.is_storage(uid):
        return True
    if kind is not None:
        return kind.service_class_uid == STORAGE_SERVICE_CLASS
    return sop_classes.known_as_other(uid) is None


class StorageSCP:
    """Receives instances by C-STORE and answers C-ECHO (PS3.4 Annexes A and B), on many associations at once.

    `to` is a handler, a function called with a `StoreRequest` for each instance, or a `Storage` such as
    `FolderStorage`.

    It listens on `host` (a name or an address; IPv4 and IPv6) and `port`, 0 for any free one. An address that other
    machines can reach takes either `allow`, those that may connect, or `allow_any=True`.
    """

    def __init__(
        self,
        to: Handler | Storage,
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
        """Prepare, without listening yet.

        `allow` lists who may connect, as `Peer` or as text, AE[@ADDRESS/NET] with "*" for any AE title: the first that
        a peer is says what is taken of it. With `allow_any` whoever is none of them may connect too.
        `check_called_ae_title` refuses those who call another AE title than `ae_title`. `user_identity` checks who the
        user is; without it, user identities are passed over (PS3.7 D.3.3.7).
        `abstract_syntaxes` says which SOP Classes are taken (default: every storage class, private ones too) and
        `transfer_syntaxes` which transfer syntaxes (default: all). In a context the requestor's first one wins, but
        for `preferred_transfer_syntaxes`. `maximum_length` is the longest P-DATA-TF body announced, bytes; 0 is no
        limit. `tls` is a server-side context. `on_stored` is called with each C-STORE request as it is answered,
        the status and the length of the data set in bytes; `on_association_end` with each accepted association when
        it ends: once, whether it was released, aborted, lost or cut off. `commitment` serves storage commitment, as
        `CommitmentSCP` does; it is started and stopped with this server, and serves no other. `sockets` are some that
        listen already, in the place of `host` and `port`: several processes may serve the same ones, and count their
        `associations` together. They are closed in the end.

        Raises `ValueError` for an AE title or a network that is none, and for an address that is open to others with
        nobody named.
        """
        if allow is None and not (allow_any or is_loopback(host)):
            raise ValueError(
                f"{host or 'every interface'} can be reached from other machines: name who may connect, or allow any"
            )
        peers = [peer if isinstance(peer, PeerRule) else PeerRule.parse(peer) for peer in allow or ()]
        if allow is None or allow_any:
            peers.append(PeerRule(rule="any"))
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
            preferred_transfer_syntaxes=preferred_transfer_syntaxes,
            check_called_ae_title=check_called_ae_title,
            operations_window=_OPERATIONS_WINDOW,
            extended=_answer_extended,
            requestor_as_scp=normalized.sop_classes if normalized.is_user else (),
        )
        self._counters = Counters()
        identities = None if user_identity is None else UserIdentities(user_identity, self._timeouts.acse)
        self._settings = ServiceSettings(
            access=AccessControl(peers, identities, policy),
            storage=to if isinstance(to, Storage) else HandlerStorage(to),
            normalized=normalized,
            limits=limits,
            memory=MemoryBudget(limits.memory_bytes),
            on_stored=on_stored,
            on_association_end=on_association_end,
        )
        self._listener: Listener | None = None
        self._associations: set[AcceptorAssociation] = set()
        self._stopped = asyncio.Event()

    @property
    def port(self) -> int:
        """The bound port."""
        return self._port if self._listener is None else self._listener.port

    @property
    def counters(self) -> Mapping[str, int]:
        """How often each timer has expired, each limit was met, and each deviation was put up with.

        The names are those of `Timeouts`, `Limits` and `dicomport.wire.Deviation`: "timer.idle", "limit.associations",
        "deviation.uid-padding". It counts from when the server was made, and what has not happened is not in it. This
        is a copy.
        """
        return self._counters.snapshot()

    async def start(self) -> None:
        """Listen. Raises `OSError` where the address can't be had, or where `commitment` can't start."""
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
        """Stop listening, let what is in flight end within so many seconds, and abort the rest.

        By default it has the time that the time-outs give: `Timeouts.shutdown`.
        """
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        self._port = listener.port
        await listener.close()
        for served in self._associations:
            served.stop()
        await listener.wait_served(self._timeouts.shutdown if within is None else within)
        await self._normalized.stop()
        log.info("server_stopped", counters=self._counters.snapshot())
        self._stopped.set()

    def renew_tls(self, context: ssl.SSLContext) -> None:
        """Shake hands with whoever connects from now on by another TLS context; the connections there are go on."""
        self._tls = context
        if self._listener is not None:
            self._listener.tls = context

    async def serve_forever(self) -> None:
        """Wait until `stop` has stopped it."""
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
        """Serve from a thread with an event loop of its own, for as long as the `with` block lasts."""
        started: concurrent.futures.Future[Callable[[], object]] = concurrent.futures.Future()

        async def serve() -> None:
            loop = asyncio.get_running_loop()
            over = asyncio.Event()
            async with self:
                started.set_result(lambda: loop.call_soon_threadsafe(over.set))
                await over.wait()

        def run() -> None:
            try:
                asyncio.run(serve())
            except Exception as error:
                if started.done():
                    raise
                started.set_exception(error)

        thread = threading.Thread(target=run, name="dicomport-scp", daemon=True)
        thread.start()
        end = started.result()
        try:
            yield self
        finally:
            end()
            thread.join()

    async def _serve(self, stream: Stream, slot: ConnectionSlot) -> None:
        core = association(Role.ACCEPTOR, self._limits, slot.address)
        core.transport_opened()
        connection = Connection(stream, core, self._timeouts, counters=self._counters)
        served = AcceptorAssociation(connection, slot, self._settings)
        self._associations.add(served)
        try:
            await served.serve()
        finally:
            self._associations.discard(served)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address to listen on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _answer_extended(asked: SOPClassExtendedNegotiation) -> bytes | None:
    storage = asked.sop_class_uid != VERIFICATION and any_storage_class(asked.sop_class_uid, None)
    return _LEVEL_2_FULL if storage else None

"""TLS: bytes arrive, and errors of the connection are described (robustness T3)."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import pytest
import trustme
from tests.net.pairs import PATIENT, SHORT, receive_into

from dicomport.core import Association, Role
from dicomport.net import (
    Address,
    BlockingConnection,
    ConnectError,
    Connection,
    Stream,
    Timeouts,
    connect,
    connect_blocking,
)
from dicomport.testing import Peer, ScriptedSCP

CA: Final = trustme.CA()
ANOTHER_CA: Final = trustme.CA()
PATTERN: Final = bytes(range(251)) * 4_000
TIMEOUTS: Final = Timeouts(connect=30.0, tls=30.0)


def server_context(*names: str, ca: trustme.CA = CA, mutual: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*(names or ("localhost", "127.0.0.1"))).configure_cert(context)
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        CA.configure_trust(context)
    return context


def client_context(*, trusting: trustme.CA = CA, showing: trustme.CA | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.configure_trust(context)
    if showing is not None:
        showing.issue_cert("client.example").configure_cert(context)
    return context


@contextlib.contextmanager
def serving(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve one connection in a thread; ignore errors of its socket."""

    def script(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            serve(peer.socket)

    with ScriptedSCP(script, connections=1) as scp:
        yield scp.port


def shaking_hands(context: ssl.SSLContext, then: Callable[[ssl.SSLSocket], None]) -> Callable[[socket.socket], None]:
    def serve(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as tls:
            then(tls)

    return serve


def until_closed(sock: socket.socket) -> None:
    while sock.recv(1 << 16):
        pass


def dial_with_asyncio(address: Address, timeouts: Timeouts) -> None:
    async def scenario() -> None:
        (await connect(address, timeouts)).close()

    asyncio.run(scenario())


def dial_blocking(address: Address, timeouts: Timeouts) -> None:
    connect_blocking(address, timeouts).close()


with_both = pytest.mark.parametrize("dial", [dial_with_asyncio, dial_blocking])


def why_not(
    dial: Callable[[Address, Timeouts], None],
    serve: Callable[[socket.socket], None],
    context: ssl.SSLContext,
    *,
    host: str = "127.0.0.1",
    timeouts: Timeouts = TIMEOUTS,
) -> str:
    """Return the reason, with the address replaced."""
    with serving(serve) as port:
        with pytest.raises(ConnectError) as error:
            dial(Address(host, port, context), timeouts)
        text = str(error.value)
        assert text.isprintable()
        return text.replace(f"{host}:{port}", "PEER")


@with_both
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_trusted_server_is_connected_to_by_name_and_by_address(
    dial: Callable[[Address, Timeouts], None], host: str
) -> None:
    with serving(shaking_hands(server_context(), until_closed)) as port:
        dial(Address(host, port, client_context()), TIMEOUTS)


@with_both
def test_an_untrusted_certificate_is_reported(dial: Callable[[Address, Timeouts], None]) -> None:
    reason = why_not(dial, shaking_hands(server_context(ca=ANOTHER_CA), until_closed), client_context())

    assert reason.startswith("PEER sent a certificate that is not trusted: ")
    assert "issuer" in reason or "self-signed" in reason or "self signed" in reason


@with_both
def test_a_certificate_for_another_name_is_reported(dial: Callable[[Address, Timeouts], None]) -> None:
    serve = shaking_hands(server_context("pacs.example"), until_closed)

    assert why_not(dial, serve, client_context()).startswith(
        "PEER sent a certificate that is not trusted: IP address mismatch"
    )
    assert why_not(dial, serve, client_context(), host="localhost").startswith(
        "PEER sent a certificate that is not trusted: Hostname mismatch"
    )


ANSWERS: Final = {
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "DICOM without TLS": bytes.fromhex("07 00 00000004 00 00 02 01"),
    "another protocol": b"\0" * 20,
}


@with_both
@pytest.mark.parametrize("what", ANSWERS)
@pytest.mark.parametrize("first", ["client", "server"])
def test_a_server_without_tls_is_reported(dial: Callable[[Address, Timeouts], None], what: str, first: str) -> None:
    def serve(sock: socket.socket) -> None:
        if first == "client":
            sock.recv(1 << 16)
        sock.sendall(ANSWERS[what])
        until_closed(sock)

    assert why_not(dial, serve, client_context()) == (
        f"PEER: no TLS connection (the peer uses {what}): check that the peer uses TLS on this port"
    )


@with_both
@pytest.mark.parametrize(
    ("alert", "words"),
    [
        (40, "the peer found no TLS version or cipher suite in common, or requires a certificate"),
        (42, "the peer rejects our certificate"),
        (48, "the peer does not trust the issuer of our certificate"),
        (70, "the two sides have no TLS version in common"),
        (112, "the peer does not know the host name that we connected to"),
    ],
)
def test_an_alert_is_described(dial: Callable[[Address, Timeouts], None], alert: int, words: str) -> None:
    def serve(sock: socket.socket) -> None:
        sock.recv(1 << 16)
        sock.sendall(bytes((21, 3, 3, 0, 2, 2, alert)))
        until_closed(sock)

    assert why_not(dial, serve, client_context()) == f"PEER: no TLS connection ({words})"


@with_both
def test_a_server_that_closes_during_the_handshake_is_reported(dial: Callable[[Address, Timeouts], None]) -> None:
    def serve(sock: socket.socket) -> None:
        sock.recv(1 << 16)

    reasons = ("the peer closed the connection instead of answering", "the peer reset it")
    assert why_not(dial, serve, client_context()) in [
        f"PEER: no TLS connection ({reason}): check that the peer uses TLS on this port" for reason in reasons
    ]


@with_both
def test_a_server_with_an_old_tls_version_is_reported(dial: Callable[[Address, Timeouts], None]) -> None:
    context = server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    client = client_context()
    client.minimum_version = ssl.TLSVersion.TLSv1_3

    assert why_not(dial, shaking_hands(context, until_closed), client) == (
        "PEER: no TLS connection (the two sides have no TLS version in common)"
    )


@with_both
def test_a_handshake_that_never_ends_is_given_up(dial: Callable[[Address, Timeouts], None]) -> None:
    assert why_not(dial, until_closed, client_context(), timeouts=Timeouts(tls=0.05)) == (
        "PEER: no TLS connection (the tls timer expired after 0.05 s): check that the peer uses TLS on this port"
    )


class AtOnce(ssl.SSLSocket):
    """The socket of a client whose peer answers at once: its first attempt is its last."""

    def do_handshake(self, block: bool = False) -> None:  # as it is there
        timeout = self.gettimeout()
        self.settimeout(30)
        super().do_handshake(block)
        self.settimeout(timeout)


@with_both
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_handshake_may_end_at_its_first_attempt(
    dial: Callable[[Address, Timeouts], None], version: ssl.TLSVersion
) -> None:
    context = client_context()
    context.minimum_version = context.maximum_version = version
    context.sslsocket_class = AtOnce
    with serving(shaking_hands(server_context(), until_closed)) as port:
        dial(Address("127.0.0.1", port, context), Timeouts(tls=5.0))


# Bytes over TLS.


@contextlib.asynccontextmanager
async def tls_stream(port: int, context: ssl.SSLContext) -> AsyncIterator[Stream]:
    stream = await connect(Address("127.0.0.1", port, context), TIMEOUTS)
    try:
        yield stream
    finally:
        stream.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("piece", [100, 16384, 1 << 20])
def test_bytes_are_exchanged_in_both_directions(version: ssl.TLSVersion, piece: int) -> None:
    context = server_context()
    context.minimum_version = context.maximum_version = version

    def echo(sock: socket.socket) -> None:
        got = bytearray()
        while len(got) < len(PATTERN):
            got += sock.recv(1 << 16)
        for at in range(0, len(got), piece):
            sock.sendall(got[at : at + piece])
        until_closed(sock)

    async def scenario(port: int) -> None:
        async with tls_stream(port, client_context()) as stream:
            assert stream.tls is not None
            assert stream.tls.version() == ("TLSv1.2" if version is ssl.TLSVersion.TLSv1_2 else "TLSv1.3")
            await stream.send([PATTERN[:5], b"", memoryview(PATTERN)[5:]], PATIENT)
            got = bytearray()
            buffer = memoryview(bytearray(3000))
            while len(got) < len(PATTERN):
                got += buffer[: await receive_into(stream, buffer, PATIENT)]
            assert got == PATTERN

    with serving(shaking_hands(context, echo)) as port:
        asyncio.run(scenario(port))


def test_bytes_that_tls_has_decrypted_are_read_at_once() -> None:
    """One record of 16 KiB is read in small pieces, though the socket has nothing more to show."""

    def serve(sock: socket.socket) -> None:
        sock.sendall(PATTERN[:16384])
        until_closed(sock)

    async def scenario(port: int) -> None:
        async with tls_stream(port, client_context()) as stream:
            got = bytearray()
            buffer = memoryview(bytearray(1000))
            while len(got) < 16384:
                got += buffer[: await receive_into(stream, buffer, PATIENT)]
            assert got == PATTERN[:16384]

    with serving(shaking_hands(server_context(), serve)) as port:
        asyncio.run(scenario(port))


@pytest.mark.parametrize("how", ["properly", "without a word"])
def test_the_end_of_a_tls_connection_is_the_end_of_the_stream(how: str) -> None:
    """Many peers close without a close_notify: DICOM itself detects an incomplete message."""

    def serve(sock: socket.socket) -> None:
        assert isinstance(sock, ssl.SSLSocket)
        sock.sendall(b"1")
        if how == "properly":
            sock.unwrap()

    async def scenario(port: int) -> None:
        async with tls_stream(port, client_context()) as stream:
            buffer = memoryview(bytearray(10))
            assert await receive_into(stream, buffer, PATIENT) == 1
            assert await receive_into(stream, buffer, PATIENT) == 0

    with serving(shaking_hands(server_context(), serve)) as port:
        asyncio.run(scenario(port))


def test_a_tls_peer_that_does_not_read_expires_the_timer() -> None:
    over = threading.Event()

    def serve(sock: socket.socket) -> None:
        assert over.wait(30)
        until_closed(sock)

    async def scenario(port: int) -> None:
        from dicomport.net import TimerExpiredError

        async with tls_stream(port, client_context()) as stream:
            with pytest.raises(TimerExpiredError):
                await stream.send([bytes(32 << 20)], SHORT)

    with serving(shaking_hands(server_context(), serve)) as port:
        try:
            asyncio.run(scenario(port))
        finally:
            over.set()


# Certificates of clients.


@pytest.mark.parametrize("runner", ["asyncio", "blocking"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_without_a_certificate_is_turned_away(runner: str, version: ssl.TLSVersion) -> None:
    """In TLS 1.3 the client sees the rejection only with its first read, as an end of the connection."""
    context = server_context(mutual=True)
    context.minimum_version = context.maximum_version = version
    timeouts = Timeouts()

    def ended_core() -> Association:
        core = Association(Role.ACCEPTOR)
        core.transport_opened()
        return core

    async def with_asyncio(address: Address) -> None:
        stream = await connect(address, TIMEOUTS)
        connection = Connection(stream, ended_core(), timeouts)
        try:
            assert await connection.next_event(PATIENT) is None
        finally:
            connection.close()

    def blocking(address: Address) -> None:
        from dicomport.net import next_event

        core = ended_core()
        connection = BlockingConnection(connect_blocking(address, TIMEOUTS), core, timeouts)
        try:
            assert connection.run(next_event(core, PATIENT)) is None
        finally:
            connection.close()

    with serving(shaking_hands(context, until_closed)) as port:
        address = Address("127.0.0.1", port, client_context())
        with contextlib.ExitStack() as stack:
            if version is ssl.TLSVersion.TLSv1_2:
                stack.enter_context(pytest.raises(ConnectError, match="no TLS connection"))
            if runner == "asyncio":
                asyncio.run(with_asyncio(address))
            else:
                blocking(address)


def test_a_client_with_a_certificate_is_known_by_it() -> None:
    names: list[object] = []

    def serve(tls: ssl.SSLSocket) -> None:
        names.append((tls.getpeercert() or {}).get("subjectAltName"))
        until_closed(tls)

    with serving(shaking_hands(server_context(mutual=True), serve)) as port:
        dial_blocking(Address("127.0.0.1", port, client_context(showing=CA)), TIMEOUTS)

    assert names == [(("DNS", "client.example"),)]

"""Connecting, and its errors: the same texts with asyncio and with a blocking socket."""

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.net.pairs import SHORT

from dicomport.net import Address, ConnectError, Timeouts, connect, connect_blocking
from dicomport.testing import Peer, ScriptedSCP

PATIENT: Final = Timeouts(connect=30.0, tls=30.0)
IMPATIENT: Final = Timeouts(connect=SHORT.seconds, tls=30.0)


def dial_with_asyncio(address: Address, timeouts: Timeouts = PATIENT) -> None:
    async def scenario() -> None:
        (await connect(address, timeouts)).close()

    asyncio.run(scenario())


def dial_blocking(address: Address, timeouts: Timeouts = PATIENT) -> None:
    connect_blocking(address, timeouts).close()


with_both = pytest.mark.parametrize("dial", [dial_with_asyncio, dial_blocking])


def why_not(dial: Callable[[Address, Timeouts], None], address: Address, timeouts: Timeouts = PATIENT) -> str:
    with pytest.raises(ConnectError) as error:
        dial(address, timeouts)
    return str(error.value)


@contextlib.contextmanager
def listening(family: socket.AddressFamily = socket.AF_INET) -> Iterator[socket.socket]:
    with socket.socket(family) as sock:
        sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        sock.listen(0)
        sock.settimeout(30)
        yield sock


@contextlib.contextmanager
def black_hole() -> Iterator[Address]:
    """Yield the address of a socket whose queue of unaccepted connections is full."""
    with listening() as sock, contextlib.ExitStack() as stack:
        while True:
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(SHORT.seconds)
            try:
                waiting.connect(sock.getsockname())
            except TimeoutError:
                break
        yield Address("127.0.0.1", port_of(sock))


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return port_of(sock)


@with_both
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_connection_is_opened_by_address_and_by_name(dial: Callable[..., None], host: str) -> None:
    with listening() as sock:
        dial(Address(host, port_of(sock)))
        sock.accept()[0].close()


@with_both
def test_ipv6_is_spoken(dial: Callable[..., None]) -> None:
    with listening(socket.AF_INET6) as sock:
        dial(Address("::1", port_of(sock)))
        sock.accept()[0].close()


@with_both
def test_the_next_address_of_a_name_is_tried(dial: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with an IPv6 address without a listener, and an IPv4 address with one."""
    resolve = socket.getaddrinfo

    def both(_host: str, port: int, *_args: int, **_kwargs: int) -> list[object]:
        return [
            *resolve("::1", port, type=socket.SOCK_STREAM),
            *resolve("127.0.0.1", port, type=socket.SOCK_STREAM),
        ]

    with listening() as sock:
        monkeypatch.setattr(socket, "getaddrinfo", both)
        dial(Address("pacs.example", port_of(sock)))
        sock.accept()[0].close()


@with_both
def test_a_port_without_a_listener_is_reported(dial: Callable[..., None]) -> None:
    port = unused_port()

    assert why_not(dial, Address("127.0.0.1", port)) == (
        f"nothing listens on 127.0.0.1:{port}: check the port, and that the peer runs"
    )
    assert why_not(dial, Address("::1", port)) == (
        f"nothing listens on [::1]:{port}: check the port, and that the peer runs"
    )


@with_both
@pytest.mark.parametrize(
    "host", ["no-such-host.invalid", "", "a\0b", "pacs..example", ".", "x" * 64 + ".example", "[::1]"]
)
def test_an_unknown_host_name_is_reported(dial: Callable[..., None], host: str) -> None:
    assert why_not(dial, Address(host, 104)) == f"unknown host name {host}: check its spelling"


@with_both
def test_a_silent_peer_is_reported_when_the_timer_expires(dial: Callable[..., None]) -> None:
    with black_hole() as address:
        assert why_not(dial, address, IMPATIENT) == (
            f"{address} did not answer in time (the connect timer expired after 0.05 s): check "
            "the address and the firewalls"
        )


@with_both
def test_a_peer_that_resets_the_handshake_may_speak_no_tls(dial: Callable[..., None]) -> None:
    def script(peer: Peer) -> None:
        peer.socket.recv(1)
        peer.reset()

    with ScriptedSCP(script) as peer:
        address = Address("127.0.0.1", peer.port, tls=ssl.create_default_context())
        assert why_not(dial, address) == (
            f"{address}: no TLS connection (the peer reset it): check that the peer uses TLS on this port"
        )


@with_both
def test_any_other_error_has_the_text_of_the_system(dial: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that no route leads to; the system is asked for none, so that none has to be known here."""
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda *_args, **_kwargs: [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("255.255.255.255", 104))],
    )

    assert why_not(dial, Address("pacs.example", 104)).startswith("cannot connect to pacs.example:104: ")


@pytest.mark.parametrize("port", [-1, 0, 65536, 77104, 1 << 40])
def test_an_address_needs_a_valid_port(port: int) -> None:
    """The system would use the lower 16 bits: data for port 77104 would reach the listener on 11568."""
    with pytest.raises(ValueError, match=f"port {port} is not between 1 and 65535"):
        Address("127.0.0.1", port)


def test_an_address_is_written_as_people_write_it() -> None:
    assert [str(Address(host, 104)) for host in ("pacs", "192.0.2.1", "2001:db8::1")] == [
        "pacs:104",
        "192.0.2.1:104",
        "[2001:db8::1]:104",
    ]


def test_a_cancelled_connect_leaves_no_socket_behind() -> None:
    """An open socket would cause a ResourceWarning, which fails the tests."""

    async def scenario(address: Address) -> None:
        task = asyncio.create_task(connect(address, PATIENT))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SHORT.seconds):
                await task
        assert task.cancelled()

    with black_hole() as address:
        asyncio.run(scenario(address))


class InterruptedByUserError(BaseException):
    """An exception like `KeyboardInterrupt`, which would end pytest."""


DESCRIPTORS: Final = Path("/proc/self/fd")


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="the system does not list descriptors")
def test_an_interrupted_connect_leaves_no_socket_behind() -> None:
    def interrupt(_number: int, _frame: object) -> None:
        raise InterruptedByUserError

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with black_hole() as address:
            before_it = set(DESCRIPTORS.iterdir())
            signal.setitimer(signal.ITIMER_REAL, SHORT.seconds)
            with pytest.raises(InterruptedByUserError):
                connect_blocking(address, PATIENT)
            assert set(DESCRIPTORS.iterdir()) <= before_it
    finally:
        signal.signal(signal.SIGALRM, before)

"""Listening: on all addresses of a name, on one port, and no peer delays another (robustness T)."""

import asyncio
import contextlib
import errno
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

import pytest
import trustme
from tests.net.pairs import PATIENT, read, receive_into, until

from dicomport.net import ConnectionLimits, ConnectionSlot, Counters, Listener, Stream, Timeouts, listening_sockets
from dicomport.net.listener import Serve

LIMITS: Final = ConnectionLimits()
TIMEOUTS: Final = Timeouts(tls=30)


async def echo(stream: Stream, _slot: ConnectionSlot) -> None:
    """Send received bytes back until the peer closes."""
    buffer = memoryview(bytearray(1 << 16))
    while count := await receive_into(stream, buffer, PATIENT):
        await stream.send([buffer[:count]], PATIENT)


@contextlib.asynccontextmanager
async def listener(
    serve: Serve = echo,
    *,
    tls: ssl.SSLContext | None = None,
    timeouts: Timeouts = TIMEOUTS,
    limits: ConnectionLimits = LIMITS,
    sockets: Sequence[socket.socket] | None = None,
) -> AsyncIterator[Listener]:
    made = Listener(
        list(sockets or listening_sockets("127.0.0.1", 0)),
        serve,
        timeouts=timeouts,
        tls=tls,
        counters=Counters(),
        limits=limits,
    )
    try:
        yield made
    finally:
        made.close()
        await made.wait_served(0)


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


async def answer(sock: socket.socket, data: bytes = b"ping") -> bytes:
    """Send bytes to the echo and return its answer."""
    sock.sendall(data)
    return await read(sock, len(data))


# Sockets.


def close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def test_port_0_is_a_free_port() -> None:
    sockets = listening_sockets("127.0.0.1", 0)
    [sock] = sockets
    try:
        assert sock.getsockname()[0] == "127.0.0.1"
        assert sock.getsockname()[1] > 0
        assert sock.gettimeout() == 0
    finally:
        close(sockets)


@pytest.mark.parametrize("port", ["free", "given"])
def test_all_addresses_of_a_name_use_the_same_port(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    resolve = socket.getaddrinfo

    def both(_host: str, number: int, **kwargs: int) -> list[object]:
        found: list[object] = [*resolve("::1", number, **kwargs), *resolve("127.0.0.1", number, **kwargs)]
        # A name may have the same address twice.
        return found * 2

    monkeypatch.setattr(socket, "getaddrinfo", both)
    wanted = 0
    if port == "given":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            wanted = free.getsockname()[1]

    sockets = listening_sockets("pacs.example", wanted)
    try:
        assert [sock.family for sock in sockets] == [socket.AF_INET6, socket.AF_INET]
        [number] = {sock.getsockname()[1] for sock in sockets}
        assert wanted in (0, number)
        # Otherwise the IPv6 socket would include the IPv4 addresses, whose socket could not be bound.
        assert sockets[0].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
        monkeypatch.undo()
        for host in ("::1", "127.0.0.1"):
            socket.create_connection((host, number), timeout=30).close()
    finally:
        close(sockets)


def test_a_port_in_use_is_an_os_error_without_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second address is in use: the socket of the first must be closed, or a ResourceWarning fails the test."""
    resolve = socket.getaddrinfo
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="Address already in use") as error:
            listening_sockets("127.0.0.1", port)
        assert error.value.errno == errno.EADDRINUSE

        def both(_host: str, number: int, **kwargs: int) -> list[object]:
            return [*resolve("::1", number, **kwargs), *resolve("127.0.0.1", number, **kwargs)]

        monkeypatch.setattr(socket, "getaddrinfo", both)
        with pytest.raises(OSError, match="Address already in use"):
            listening_sockets("pacs.example", port)


def test_a_port_in_use_on_the_next_address_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any free port of all addresses is in use on one of them."""
    resolve = socket.getaddrinfo

    def both(_host: str, number: int, **kwargs: int) -> list[object]:
        return [*resolve("0.0.0.0", number, **kwargs), *resolve("127.0.0.1", number, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with pytest.raises(OSError, match="Address already in use"):
        listening_sockets("pacs.example", 0)


def test_an_unknown_host_name_is_an_os_error() -> None:
    with pytest.raises(socket.gaierror):
        listening_sockets("no-such-host.invalid", 0)


# Connections.


def test_each_connection_is_served_and_knows_the_peer_s_address() -> None:
    addresses: list[str] = []

    async def serve(stream: Stream, slot: ConnectionSlot) -> None:
        addresses.append(slot.address)
        await echo(stream, slot)

    async def scenario() -> None:
        async with listener(serve) as made:
            socks = [dial(made.port) for _ in range(5)]
            for sock in socks:
                assert await answer(sock) == b"ping"
            assert sorted(addresses) == sorted(f"127.0.0.1:{sock.getsockname()[1]}" for sock in socks)
            for sock in socks:
                sock.close()

    asyncio.run(scenario())


def test_an_ipv6_address_is_written_in_brackets() -> None:
    async def scenario() -> None:
        addresses: list[str] = []

        async def serve(_stream: Stream, slot: ConnectionSlot) -> None:
            addresses.append(slot.address)

        made = Listener(
            listening_sockets("::1", 0),
            serve,
            timeouts=TIMEOUTS,
            tls=None,
            counters=Counters(),
            limits=ConnectionLimits(),
        )
        with socket.create_connection(("::1", made.port), timeout=30) as sock:
            assert await read(sock, 1) == b""
            assert addresses == [f"[::1]:{sock.getsockname()[1]}"]
        made.close()

    asyncio.run(scenario())


def test_peers_that_disconnect_or_reset_affect_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with listener() as made:
            for _ in range(20):
                dial(made.port).close()
                sock = dial(made.port)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
            with dial(made.port) as sock:
                assert await answer(sock) == b"ping"
            await until(lambda: not made._serving)

    asyncio.run(scenario())
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


def test_a_failed_server_task_is_logged_and_affects_its_peer_only(caplog: pytest.LogCaptureFixture) -> None:
    async def serve(stream: Stream, slot: ConnectionSlot) -> None:
        buffer = memoryview(bytearray(100))
        count = await receive_into(stream, buffer, PATIENT)
        if bytes(buffer[:count]) == b"fail":
            raise ZeroDivisionError
        await stream.send([buffer[:count]], PATIENT)
        await echo(stream, slot)

    async def scenario() -> None:
        async with listener(serve) as made:
            with dial(made.port) as one, dial(made.port) as other:
                assert await answer(one) == b"ping"
                assert await answer(other, b"fail") == b""
                assert await answer(one) == b"ping"

    asyncio.run(scenario())
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "connection_failed" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_a_closed_listener_accepts_no_more_and_serves_the_others() -> None:
    async def scenario() -> None:
        async with listener() as made:
            port = made.port
            with dial(port) as sock:
                assert await answer(sock) == b"ping"
                made.close()
                with pytest.raises(ConnectionRefusedError):
                    dial(port)
                assert await answer(sock) == b"ping"
            await made.wait_served(30)

    asyncio.run(scenario())


def test_connections_that_do_not_end_in_time_are_cancelled() -> None:
    async def scenario() -> None:
        async with listener() as made:
            with dial(made.port) as sock:
                assert await answer(sock) == b"ping"
                made.close()
                await made.wait_served(0.01)
                assert await read(sock, 1) == b""

    asyncio.run(scenario())


# Out of descriptors.


class FailingSocket(socket.socket):
    """A listening socket whose `accept` fails with these errors, one each time."""

    errors: Iterator[int] = iter(())

    def accept(self) -> tuple[socket.socket, Any]:
        for number in self.errors:
            raise OSError(number, os.strerror(number))
        return super().accept()


def failing_sockets() -> list[FailingSocket]:
    made = []
    for sock in listening_sockets("127.0.0.1", 0):
        failing = FailingSocket(fileno=sock.detach())
        failing.setblocking(False)
        made.append(failing)
    return made


def test_a_listener_out_of_descriptors_continues_when_one_is_free(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Robustness T4. The time that it would wait otherwise is longer than any test runs."""
    monkeypatch.setattr("dicomport.net.listener._ACCEPT_RETRY_SECONDS", 1000.0)

    async def scenario() -> None:
        [failing] = sockets = failing_sockets()
        async with listener(sockets=sockets) as made:
            with dial(made.port) as first, dial(made.port) as second:
                assert await answer(first) == await answer(second) == b"ping"
                failing.errors = iter([errno.EMFILE])
                with dial(made.port) as third:
                    third.sendall(b"ping")
                    await until(lambda: "accept_failed" in caplog.text)
                    assert len(made._serving) == 2
                    first.close()
                    assert await read(third, 4) == b"ping"

    asyncio.run(scenario())
    assert "Too many open files" in caplog.text


def test_a_listener_out_of_descriptors_retries_after_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicomport.net.listener._ACCEPT_RETRY_SECONDS", 0.01)

    async def scenario() -> None:
        [failing] = sockets = failing_sockets()
        failing.errors = iter(
            [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED, errno.EPROTO, errno.EAGAIN]
        )
        async with listener(sockets=sockets) as made:
            with dial(made.port) as sock:
                assert await answer(sock) == b"ping"

    asyncio.run(scenario())
    # Errors of a peer before it is accepted are ignored.
    assert caplog.text.count("accept_failed") == 4


def test_a_listener_closed_while_out_of_descriptors_accepts_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicomport.net.listener._ACCEPT_RETRY_SECONDS", 1000.0)

    async def scenario() -> None:
        [failing] = sockets = failing_sockets()
        async with listener(sockets=sockets) as made:
            with dial(made.port) as first:
                assert await answer(first) == b"ping"
                failing.errors = iter([errno.EMFILE])
                with dial(made.port):
                    await until(lambda: "accept_failed" in caplog.text)
                    made.close()
                    first.close()
                    await made.wait_served(30)
                    assert made._serving == set()

    asyncio.run(scenario())
    assert "Traceback" not in caplog.text


def test_one_connection_is_accepted_in_each_turn_of_the_event_loop() -> None:
    """So the first of many pending connections is served before the last is accepted."""

    async def scenario() -> None:
        served: list[int] = []

        async def serve(_stream: Stream, _slot: ConnectionSlot) -> None:
            served.append(len(made._serving))

        async with listener(serve) as made:
            with contextlib.ExitStack() as stack:
                socks = [stack.enter_context(dial(made.port)) for _ in range(8)]
                for sock in socks:
                    assert await read(sock, 1) == b""
        assert max(served) <= 3

    asyncio.run(scenario())


STARVED: Final = """
import asyncio, logging, resource, sys
from dicomport.net import ConnectionLimits
from dicomport.net import Counters, Listener, Timeouts, Timer, listening_sockets

async def serve(stream, address):
    await stream.send([b"!"], Timer("send", 30))
    await stream.receive(Timer("receive", 30))

async def main():
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))
    sockets = listening_sockets("127.0.0.1", 0)
    listener = Listener(sockets, serve, timeouts=Timeouts(), tls=None, counters=Counters(), limits=ConnectionLimits())
    print(listener.port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    listener.close()
    await listener.wait_served(0)

asyncio.run(main())
"""


def test_with_the_real_limit_of_a_process_it_is_the_same() -> None:
    """More peers than descriptors: each is served once there is room, and the process lives on."""
    with (
        subprocess.Popen(
            [sys.executable, "-c", STARVED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
        contextlib.ExitStack() as stack,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())
        socks = [stack.enter_context(dial(port)) for _ in range(40)]
        assert "accept_failed" in process.stdout.readline()
        for sock in socks:
            assert sock.recv(1) == b"!"
            sock.close()
        process.stdin.close()
        process.stdout.read()
    assert process.returncode == 0


# TLS handshakes.


def test_endless_handshakes_delay_no_peer_and_expire() -> None:
    """Robustness T2."""
    ca = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(client)
    hello = bytes.fromhex("16 03 01 02 00")

    async def scenario() -> None:
        async with listener(tls=server, timeouts=Timeouts(tls=0.3)) as made:
            silent = [dial(made.port) for _ in range(20)]
            for number, sock in enumerate(silent):
                sock.sendall(hello[: number % 6])
            await until(lambda: len(made._serving) == len(silent))

            def talk() -> bytes:
                with client.wrap_socket(dial(made.port), server_hostname="localhost") as sock:
                    sock.sendall(b"ping")
                    return sock.recv(4)

            assert await asyncio.to_thread(talk) == b"ping"
            for sock in silent:
                assert await read(sock, 1) == b""
                sock.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("first", "spoken"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP"),
        (bytes.fromhex("01 00 00000044") + bytes(0x44), "DICOM without TLS"),
    ],
    ids=["HTTP", "DICOM"],
)
def test_a_peer_without_tls_is_closed_and_logged(first: bytes, spoken: str, caplog: pytest.LogCaptureFixture) -> None:
    """Robustness T3."""
    caplog.set_level("INFO", "dicomport")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(server)

    async def scenario() -> None:
        async with listener(tls=server) as made:
            with dial(made.port) as sock:
                sock.sendall(first)
                # At most a TLS alert, and the end.
                with contextlib.suppress(ConnectionResetError):
                    assert len(await read(sock, 100)) in (0, 7)
            await until(lambda: not made._serving)

    asyncio.run(scenario())
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert re.fullmatch(
        rf'tls_failed address=127.0.0.1 port=\d+ reason="?the peer uses {spoken}"?', record.getMessage()
    )
    assert record.exc_info is None


# Fairness.


def test_a_fast_sender_lets_other_tasks_run() -> None:
    """The fast one sends until all the slow ones were answered: were it preferred, this would never end."""

    async def scenario() -> None:
        received = 0

        async def serve(stream: Stream, slot: ConnectionSlot) -> None:
            nonlocal received
            buffer = memoryview(bytearray(1 << 16))
            count = await receive_into(stream, buffer, PATIENT)
            if bytes(buffer[:1]) != b"F":
                await stream.send([buffer[:count]], PATIENT)
                await echo(stream, slot)
                return
            while count := await receive_into(stream, buffer, PATIENT):
                received += count

        def flood(sock: socket.socket) -> None:
            data = b"F" * (1 << 20)
            with contextlib.suppress(OSError):
                while True:
                    sock.sendall(data)

        async with listener(serve) as made:
            slow = [dial(made.port) for _ in range(50)]
            fast = dial(made.port)
            flooding = asyncio.create_task(asyncio.to_thread(flood, fast))
            await until(lambda: received > 0)
            for _ in range(3):
                for sock in slow:
                    before = received
                    assert await answer(sock) == b"ping"
                    # The other connections did not delay the fast one either.
                    await until(lambda before=before: received > before)  # type: ignore[misc]
            fast.shutdown(socket.SHUT_RDWR)
            await flooding
            for sock in (*slow, fast):
                sock.close()

    asyncio.run(scenario())


def test_the_end_does_not_wait_for_a_task_that_ignores_its_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomport.net.listener._CANCELLED_SECONDS", 0.0)

    async def run() -> None:
        served, release = asyncio.Event(), asyncio.Event()

        async def serve(_stream: Stream, _slot: ConnectionSlot) -> None:
            served.set()
            # As work in a thread that must be finished first.
            while not release.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await release.wait()

        async with listener(serve) as listening:
            with dial(listening.port):
                await served.wait()
                listening.close()
                await listening.wait_served(0)
                assert not release.is_set()
                release.set()

    asyncio.run(run())

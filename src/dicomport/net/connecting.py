"""Opening a transport connection to a peer: name, TCP, TLS, each a step that can be watched."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dicomport.net.errors import ConnectError, TimerExpiredError
from dicomport.net.stream import Stream
from dicomport.net.timers import Timeouts, Timer
from dicomport.net.tls.handshake import NotTLSError, tls_words

__all__ = ["Address", "Endpoint", "FailedAttempt", "connect", "explain", "reach", "resolve", "secure"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a peer listens, and how it is spoken to. Raises `ValueError` for a port that is none."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        # The system takes any number for a port, and its lower 16 bits for the one that is meant.
        if not 1 <= self.port <= 0xFFFF:
            raise ValueError(f"a port is from 1 to 65535, not {self.port}")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Endpoint(NamedTuple):
    """One of the network addresses that a name has, with the port."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]

    def __str__(self) -> str:
        host, port, *_ = self.sockaddr
        return str(Address(host, port))


class FailedAttempt(NamedTuple):
    """An endpoint that was tried in vain."""

    endpoint: Endpoint
    error: OSError


async def connect(address: Address, timeouts: Timeouts) -> Stream:
    """Connect by TCP, trying each address that the name has, and then by TLS if asked. Raises `ConnectError`."""
    timer = timeouts.timer("connect").started()
    stream = await reach(address, await resolve(address, timer), timer, [])
    if address.tls is not None:
        await secure(stream, address, address.tls, timeouts.timer("tls").started())
    return stream


async def resolve(address: Address, timer: Timer) -> list[Endpoint]:
    """Look the name up. Raises `ConnectError`."""
    async with _explained(address, timer):
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(Endpoint(family, sockaddr) for family, _, _, _, sockaddr in found))


async def reach(address: Address, endpoints: Sequence[Endpoint], timer: Timer, failed: list[FailedAttempt]) -> Stream:
    """Connect by TCP to the first endpoint that answers; `failed` gets those before it. Raises `ConnectError`."""
    async with _explained(address, timer):
        loop = asyncio.get_running_loop()
        for endpoint in endpoints:
            sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
            sock.setblocking(False)
            try:
                await loop.sock_connect(sock, endpoint.sockaddr)
                return Stream(sock)
            except OSError as error:
                sock.close()
                failed.append(FailedAttempt(endpoint, error))
            except BaseException:
                sock.close()
                raise
        raise failed[-1].error if failed else OSError("the name has no address")


async def secure(stream: Stream, address: Address, context: ssl.SSLContext, timer: Timer) -> None:
    """Put TLS on the connection; where that fails the stream is closed. Raises `ConnectError`."""
    try:
        async with _explained(address, timer):
            await stream.start_tls(context, server_side=False, server_hostname=address.host, timer=timer)
    except BaseException:
        stream.close()
        raise


@contextlib.asynccontextmanager
async def _explained(address: Address, timer: Timer) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timer.left):
            yield
    except TimeoutError as error:
        expired = error if isinstance(error, TimerExpiredError) else TimerExpiredError(timer)
        raise ConnectError(explain(address, expired)) from expired
    except (OSError, UnicodeError) as error:
        raise ConnectError(explain(address, error)) from error


def explain(address: Address, error: Exception) -> str:
    """Say in words why there is no connection, and what to look at."""
    match error:
        case ssl.SSLCertVerificationError():
            reason = f"{address} showed a certificate that is not trusted: {error.verify_message}"
        case ssl.SSLEOFError() | NotTLSError():
            words = tls_words(error) if isinstance(error, ssl.SSLError) else str(error)
            reason = f"{address}: no TLS connection ({words}): does the peer speak TLS on this port?"
        case ssl.SSLError():
            reason = f"{address}: no TLS connection ({tls_words(error)})"
        case socket.gaierror() | UnicodeError():
            reason = f"{address.host} is no known host name: is it spelled right?"
        case ConnectionRefusedError():
            reason = f"nothing listens on {address}: is the port right, and is the peer running?"
        case TimerExpiredError() if error.timer.name == "tls":
            reason = f"{address}: no TLS connection ({error}): does the peer speak TLS on this port?"
        case TimeoutError():
            why = f" ({error})" if isinstance(error, TimerExpiredError) else ""
            reason = f"{address} did not answer in time{why}: is the address right, and does a firewall let it through?"
        case ConnectionResetError() if address.tls is not None:
            reason = f"{address}: no TLS connection (the peer reset it): does the peer speak TLS on this port?"
        case _:
            reason = f"{address} can't be reached: {getattr(error, 'strerror', None) or error}"
    return reason

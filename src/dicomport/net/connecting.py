"""Open a transport connection to a peer in three steps that a caller can run one by one: name, TCP, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from dicomport.net.errors import ConnectError, TimerExpiredError
from dicomport.net.stream import Stream
from dicomport.net.timers import Timeouts, Timer
from dicomport.net.tls.handshake import NotTLSError, describe_tls_error
from dicomport.values import frozen


@frozen
class Address:
    """Host and port of a peer, with the TLS context if the peer uses TLS. Raises `ValueError` for an invalid port."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        # The system would use the lower 16 bits of any number.
        if not 1 <= self.port <= 0xFFFF:
            raise ValueError(f"port {self.port} is not between 1 and 65535")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Endpoint(NamedTuple):
    """One of the network addresses of a host name, with the port."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]

    def __str__(self) -> str:
        host, port, *_ = self.sockaddr
        return str(Address(host, port))


class FailedAttempt(NamedTuple):
    """An endpoint to which the connection failed."""

    endpoint: Endpoint
    error: OSError


async def connect(address: Address, timeouts: Timeouts) -> Stream:
    """Connect by TCP to the first address of the name that accepts, then by TLS if wanted. Raises `ConnectError`."""
    timer = timeouts.timer("connect").started()
    stream = await reach(address, await resolve(address, timer), timer, [])
    if address.tls is not None:
        await secure(stream, address, address.tls, timeouts.timer("tls").started())
    return stream


async def resolve(address: Address, timer: Timer) -> list[Endpoint]:
    """Return the endpoints of the host name. Raises `ConnectError`."""
    async with _explained(address, timer):
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(Endpoint(family, sockaddr) for family, _, _, _, sockaddr in found))


async def reach(address: Address, endpoints: Sequence[Endpoint], timer: Timer, failed: list[FailedAttempt]) -> Stream:
    """Connect by TCP to the first endpoint that accepts; append those before it to `failed`. Raises `ConnectError`."""
    async with _explained(address, timer):
        loop = asyncio.get_running_loop()
        for endpoint in endpoints:
            sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
            sock.setblocking(False)
            try:
                started = time.perf_counter()
                await loop.sock_connect(sock, endpoint.sockaddr)
                return Stream(sock, round_trip=time.perf_counter() - started)
            except OSError as error:
                sock.close()
                failed.append(FailedAttempt(endpoint, error))
            except BaseException:
                sock.close()
                raise
        raise failed[-1].error if failed else OSError("the host name has no address")


async def secure(stream: Stream, address: Address, context: ssl.SSLContext, timer: Timer) -> None:
    """Start TLS on the connection; close the stream if the handshake fails. Raises `ConnectError`."""
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
    """Return the reason of a failed connection, and what to check."""
    match error:
        case ssl.SSLCertVerificationError():
            reason = f"{address} sent a certificate that is not trusted: {error.verify_message}"
        case ssl.SSLEOFError() | NotTLSError():
            text = describe_tls_error(error) if isinstance(error, ssl.SSLError) else str(error)
            reason = f"{address}: no TLS connection ({text}): check that the peer uses TLS on this port"
        case ssl.SSLError():
            reason = f"{address}: no TLS connection ({describe_tls_error(error)})"
        case socket.gaierror() | UnicodeError():
            reason = f"unknown host name {address.host}: check its spelling"
        case ConnectionRefusedError():
            reason = f"nothing listens on {address}: check the port, and that the peer runs"
        case TimerExpiredError() if error.timer.name == "tls":
            reason = f"{address}: no TLS connection ({error}): check that the peer uses TLS on this port"
        case TimeoutError():
            timer = f" ({error})" if isinstance(error, TimerExpiredError) else ""
            reason = f"{address} did not answer in time{timer}: check the address and the firewalls"
        case ConnectionResetError() if address.tls is not None:
            reason = f"{address}: no TLS connection (the peer reset it): check that the peer uses TLS on this port"
        case _:
            reason = f"cannot connect to {address}: {getattr(error, 'strerror', None) or error}"
    return reason

"""Opening a transport connection to a peer."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass

from dicomport.net.errors import ConnectError, TimerExpiredError
from dicomport.net.stream import Stream
from dicomport.net.timers import Timer

__all__ = ["Address", "connect", "explain"]


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


async def connect(address: Address, timer: Timer) -> Stream:
    """Connect by TCP, trying each address that the name has, and then by TLS if asked. Raises `ConnectError`."""
    try:
        async with asyncio.timeout(timer.seconds):
            return await _connect(address, timer)
    except (OSError, UnicodeError, TimerExpiredError) as error:
        raise ConnectError(explain(address, error)) from error


async def _connect(address: Address, timer: Timer) -> Stream:
    loop = asyncio.get_running_loop()
    candidates = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    last: OSError | None = None
    for family, kind, protocol, _, sockaddr in candidates:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, sockaddr)
        except OSError as error:
            sock.close()
            last = error
            continue
        except BaseException:
            sock.close()
            raise
        stream = Stream(sock)
        if address.tls is not None:
            try:
                await stream.start_tls(address.tls, server_side=False, server_hostname=address.host, timer=timer)
            except BaseException:
                stream.close()
                raise
        return stream
    raise last or OSError("the name has no address")


def explain(address: Address, error: Exception) -> str:
    """Say in words why there is no connection, and what to look at."""
    match error:
        case ssl.SSLCertVerificationError():
            reason = f"{address} showed a certificate that is not trusted: {error.verify_message}"
        case ssl.SSLError():
            reason = f"{address}: no TLS connection ({error.reason or error}): does the peer speak TLS on this port?"
        case socket.gaierror() | UnicodeError():
            reason = f"{address.host} is no known host name: is it spelled right?"
        case ConnectionRefusedError():
            reason = f"nothing listens on {address}: is the port right, and is the peer running?"
        case TimeoutError() | TimerExpiredError():
            reason = f"{address} did not answer in time: is the address right, and does a firewall let it through?"
        case _:
            reason = f"{address} can't be reached: {getattr(error, 'strerror', None) or error}"
    return reason

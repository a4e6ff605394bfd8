"""The blocking runner: runs the same step generators on a blocking socket, for programs without an event loop."""

from __future__ import annotations

import socket
import ssl
from typing import Final

from dicomport.core import Association
from dicomport.net.connecting import Address, explain
from dicomport.net.errors import ConnectError, TimerExpiredError, check_deadline
from dicomport.net.generators import Flush, Receive, Steps, T, Wait
from dicomport.net.send_queue import SendQueue
from dicomport.net.socket_io import GatherList, acknowledge, prepare, receive_into
from dicomport.net.timers import ArtimTimer, Deadline, Timeouts, Timer
from dicomport.net.tls.expiry import warn_of_expiry
from dicomport.net.tls.handshake import Handshake

_BUFFER_BYTES: Final = 1 << 14
"""Size of the receive buffer: a requestor receives only responses."""


def connect_blocking(address: Address, timeouts: Timeouts) -> socket.socket:
    """Return a connected socket, TCP or TLS as the address says. Raises `ConnectError`."""
    try:
        sock = _connect_tcp(address, timeouts.timer("connect").started())
        return sock if address.tls is None else _start_tls(sock, address.tls, address.host, timeouts.timer("tls"))
    except (OSError, UnicodeError) as error:
        raise ConnectError(explain(address, error)) from error


def _connect_tcp(address: Address, timer: Timer) -> socket.socket:
    """Try each address of the host name, all of them within the timer."""
    last: OSError | None = None
    for family, kind, protocol, _, sockaddr in socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
        seconds = _socket_timeout(check_deadline(timer))
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(seconds)
            sock.connect(sockaddr)
            prepare(sock)
        except OSError as error:
            sock.close()
            last = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    check_deadline(timer)
    raise last or OSError("the name has no address")


def _start_tls(sock: socket.socket, context: ssl.SSLContext, host: str, timer: Timer) -> ssl.SSLSocket:
    warn_of_expiry(context)
    # wrap_socket detaches the socket, even if it raises.
    tls = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    try:
        handshake = Handshake(tls)
        tls.settimeout(0)
        try:
            handshake.attempt()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            # From here on the socket blocks, first until the peer's first answer.
            tls.settimeout(timer.seconds)  # This bounds the whole handshake.
            handshake.attempt()
    except TimeoutError:
        tls.close()
        raise TimerExpiredError(timer) from None
    except BaseException:
        tls.close()
        raise
    return tls


def _socket_timeout(deadline: Deadline) -> float:
    # A timeout of 0 would make the socket non-blocking.
    return max(deadline.left, 0.001)


class BlockingConnection:
    """Runs step generators for one association, in the caller's thread."""

    def __init__(self, sock: socket.socket, core: Association, timeouts: Timeouts) -> None:
        self.core = core
        self._sock = sock
        self._send_queue = SendQueue(sock)
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._partial_write = False
        """Whether a PDU was sent in part: the peer would read any later PDU, even an A-ABORT, as its rest."""
        self._stall = timeouts.timer("write")
        self._artim = ArtimTimer(core, timeouts.timer("artim").seconds)

    def run(self, steps: Steps[T]) -> T:
        """Run a step generator and return its result; errors of the transport connection are raised inside it."""
        try:
            wait = next(steps)
            while True:
                try:
                    self._await(wait)
                except OSError as error:
                    wait = steps.throw(error)
                else:
                    wait = next(steps)
        except StopIteration as done:
            result: T = done.value
            return result

    def close(self) -> None:
        """Close the transport connection."""
        self._sock.close()

    def _await(self, wait: Wait) -> None:
        if isinstance(wait, Flush):
            self._flush(wait.timer or self._stall)
            return
        while True:
            try:
                self._receive(check_deadline(self._artim.deadline(wait.timer)))
            except TimerExpiredError as expired:
                # The response timer starts when the request has left the system's send queue.
                if not (isinstance(expired.timer, Timer) and self.core.artim == 0 and self._send_queue.drained()):
                    raise
                wait = Receive(expired.timer.started())
            else:
                return

    def _flush(self, timer: Deadline) -> None:
        output = self.core.take_output()
        if output and not self._partial_write:
            self._partial_write = True
            gather = GatherList(output, self._sock)
            while self._send_some(gather, timer):
                pass
            self._partial_write = False
            self._send_queue.record_message()

    def _send_some(self, gather: GatherList, timer: Deadline) -> bool:
        """Send as much as the socket accepts; wait as long as the peer acknowledges earlier bytes."""
        self._send_queue.record()
        while True:
            self._sock.settimeout(_socket_timeout(timer))
            try:
                return gather.send_some()
            except TimeoutError:
                if timer.left <= 0 or not self._send_queue.drained():
                    raise TimerExpiredError(timer) from None

    def _receive(self, timer: Deadline) -> None:
        self._sock.settimeout(_socket_timeout(timer))
        try:
            count = receive_into(self._sock, self._buffer)
            acknowledge(self._sock)
        except TimeoutError:
            raise TimerExpiredError(timer) from None
        if count:
            self.core.receive(self._buffer[:count])
        else:
            self.core.transport_closed()

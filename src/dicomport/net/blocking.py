"""The blocking runner: the same steps on a plain socket, for programs without an event loop."""

from __future__ import annotations

import socket
import ssl
from typing import Final

from dicomport.core import Association
from dicomport.net.connecting import Address, explain
from dicomport.net.errors import ConnectError, TimerExpiredError, check_deadline
from dicomport.net.generators import Flush, Receive, Steps, T, Wait
from dicomport.net.send_queue import Backlog
from dicomport.net.socket_io import Gather, prepare, quick_ack
from dicomport.net.timers import ArtimClock, Deadline, Timeouts, Timer
from dicomport.net.tls.handshake import Handshake

__all__ = ["BlockingConnection", "connect_blocking"]

_BUFFER_BYTES: Final = 1 << 14
"""What is heard here are answers to requests."""


def connect_blocking(address: Address, timeouts: Timeouts) -> socket.socket:
    """Connect by TCP, and by TLS where it is asked for. Raises `ConnectError`."""
    try:
        sock = _dial(address, timeouts.timer("connect").started())
        return sock if address.tls is None else _shake_hands(sock, address.tls, address.host, timeouts.timer("tls"))
    except (OSError, UnicodeError) as error:
        raise ConnectError(explain(address, error)) from error


def _dial(address: Address, timer: Timer) -> socket.socket:
    """Try each address that the name has, all of them within the timer."""
    last: OSError | None = None
    for family, kind, protocol, _, sockaddr in socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
        seconds = _at_least(check_deadline(timer))
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


def _shake_hands(sock: socket.socket, context: ssl.SSLContext, host: str, timer: Timer) -> ssl.SSLSocket:
    # It takes the socket over, also where it raises.
    tls = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    try:
        handshake = Handshake(tls)
        tls.settimeout(0)
        try:
            handshake.attempt()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            # From here on an attempt waits, at first for whatever it is that the peer answers.
            tls.settimeout(timer.seconds)  # It bounds a handshake as a whole.
            handshake.attempt()
    except TimeoutError:
        tls.close()
        raise TimerExpiredError(timer) from None
    except BaseException:
        tls.close()
        raise
    return tls


def _at_least(bound: Deadline) -> float:
    # A time-out of zero would mean a socket that does not block.
    return max(bound.left, 0.001)


class BlockingConnection:
    """Runs step generators for one association, in the caller's thread."""

    def __init__(self, sock: socket.socket, core: Association, timeouts: Timeouts) -> None:
        self.core = core
        self._sock = sock
        self._backlog = Backlog(sock)
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._partial_write = False
        """Whether a PDU was sent in part: what is sent after that, an A-ABORT too, would be read as its rest."""
        self._stall = timeouts.timer("write")
        self._artim = ArtimClock(core, timeouts.timer("artim").seconds)

    def run(self, steps: Steps[T]) -> T:
        """Do what the steps wait for until they are done; errors of the transport connection are raised inside them."""
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
                self._receive(check_deadline(self._artim.bound(wait.timer)))
            except TimerExpiredError as expired:
                # Who waits for a response waits from when its request has left, not from when the system took it.
                if not (isinstance(expired.timer, Timer) and self.core.artim == 0 and self._backlog.drained()):
                    raise
                wait = Receive(expired.timer.started())
            else:
                return

    def _flush(self, timer: Deadline) -> None:
        output = self.core.take_output()
        if output and not self._partial_write:
            self._partial_write = True
            gather = Gather(output, self._sock)
            while self._send_some(gather, timer):
                pass
            self._partial_write = False
            self._backlog.note_message()

    def _send_some(self, gather: Gather, timer: Deadline) -> bool:
        """Send some, as long as the peer goes on taking what there is before it."""
        self._backlog.note()
        while True:
            self._sock.settimeout(_at_least(timer))
            try:
                return gather.send_some()
            except TimeoutError:
                if timer.left <= 0 or not self._backlog.drained():
                    raise TimerExpiredError(timer) from None

    def _receive(self, timer: Deadline) -> None:
        self._sock.settimeout(_at_least(timer))
        try:
            count = self._sock.recv_into(self._buffer)
        except TimeoutError:
            raise TimerExpiredError(timer) from None
        if count:
            quick_ack(self._sock)
            self.core.receive(self._buffer[:count])
        else:
            self.core.transport_closed()

"""Scripted peers: an SCP that runs a script for each connection, and an SCU."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TypeAlias

from dicomport.testing.errors import ScriptError
from dicomport.testing.messages import Message
from dicomport.testing.peer import TIMEOUT, Peer
from dicomport.wire import CStoreRQ

Script: TypeAlias = Callable[[Peer], None]
"""A function that acts as one side of a connection. When it returns, the connection is closed."""

_BACKLOG: Final = 128


def healthy(peer: Peer) -> None:
    """Accept the association, answer every request with success, and confirm the release."""
    peer.accept()
    peer.serve()


def in_turn(*scripts: Script) -> Script:
    """Return a script that runs each of these for one connection, in order. A further connection is an error."""

    def script(peer: Peer) -> None:
        if peer.number > len(scripts):
            raise ScriptError(f"connection {peer.number}: expected {len(scripts)} connections at most")
        scripts[peer.number - 1](peer)

    return script


class ScriptedSCP:
    """Listens on loopback and runs a script in a separate thread for each connection.

        def full(peer: Peer) -> None:
            peer.accept()
            peer.serve(0xA700, 0xA700)

        with ScriptedSCP(full) as scp:
            code_under_test("127.0.0.1", scp.port)
        assert len(scp.stores) == 3

    The end of the `with` block closes the port and waits for the scripts. It raises the first exception of a script;
    if the block itself has raised one, the scripts' exceptions become notes of that.
    """

    def __init__(
        self,
        script: Script,
        *,
        connections: int | None = None,
        receive_buffer: int | None = None,
        timeout: float = TIMEOUT,
        keep_data: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Listen on a free port.

        After `connections` connections the port is closed, so that another is refused. `receive_buffer` is the
        system's, in bytes: a small one keeps the TCP window small. `timeout` is that of each wait, in seconds. Without
        `keep_data` the data sets of messages are discarded, to save memory. `tls` is a server-side context.
        """
        self.peers: list[Peer] = []
        """All connections so far, closed ones included."""
        self._script = script
        self._left = connections
        self._timeout = timeout
        self._keep_data = keep_data
        self._tls = tls
        self._ended = threading.Event()
        self._errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer is not None:
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(_BACKLOG)
        self._listening.setblocking(False)
        self.port = int(self._listening.getsockname()[1])
        self._wake, self._woken = socket.socketpair()
        self._accepting = threading.Thread(target=self._accept, name="scripted-scp", daemon=True)

    @property
    def stores(self) -> list[Message[CStoreRQ]]:
        """The complete C-STORE requests received so far, connection by connection."""
        return [store for peer in self.peers for store in peer.stores]

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._wake.close()
        self._accepting.join()
        self._woken.close()
        if error is not None:
            self._cut()
        for thread, peer in zip(self._threads, self.peers, strict=True):
            thread.join(self._timeout)
            if thread.is_alive():
                self._errors.append(
                    ScriptError(f"connection {peer.number}: the script still runs {self._timeout:g} s after the end")
                )
        self._cut()
        if error is None and self._errors:
            error = self._errors.pop(0)
            self._add_notes(error)
            raise error
        if error is not None:
            self._add_notes(error)

    def _add_notes(self, error: BaseException) -> None:
        for other in self._errors:
            error.add_note(f"A script raised {type(other).__name__}: {other}")

    def _cut(self) -> None:
        for peer in self.peers:
            with contextlib.suppress(OSError):
                peer.socket.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector, self._listening:
            selector.register(self._listening, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while self._left != 0:
                if any(key.fileobj is self._woken for key, _ in selector.select()):
                    return
                with contextlib.suppress(OSError):  # The caller has already disconnected.
                    self._begin(self._listening.accept()[0])

    def _begin(self, sock: socket.socket) -> None:
        if self._tls is not None:
            # The handshake runs in the script's thread, with its first read or send.
            sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._listening.close()  # Before the script runs: the other side may connect again as soon as it ends.
        peer = Peer(
            sock,
            number=len(self.peers) + 1,
            timeout=self._timeout,
            keep_data=self._keep_data,
            ended=self._ended,
        )
        thread = threading.Thread(target=self._run, args=(peer,), name=f"scripted-scp-{peer.number}", daemon=True)
        self.peers.append(peer)
        self._threads.append(thread)
        thread.start()

    def _run(self, peer: Peer) -> None:
        try:
            self._script(peer)
        except BaseException as error:  # noqa: BLE001  # raised at the end of the with block
            self._errors.append(error)
        finally:
            peer.close()


class ScriptedSCU(Peer):
    """A connection to a listener under test, closed at the end of a `with` block.

        with ScriptedSCU("127.0.0.1", port) as peer:
            peer.associate()
            peer.send(peer.encode_store("1.2.3", data)[:100])
            peer.reset()

    Every call blocks: if the code under test runs in the test's event loop, call it in a thread.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        source: str = "",
        receive_buffer: int | None = None,
        timeout: float = TIMEOUT,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Connect, from the local address `source` if it is set.

        `receive_buffer` is the system's, bytes, `timeout` in seconds, `tls` a client-side context. Raises `OSError`.
        """
        sock = _connected(host, port, source, receive_buffer, timeout)
        super().__init__(sock if tls is None else tls.wrap_socket(sock, server_hostname=host), timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _connected(host: str, port: int, source: str, receive_buffer: int | None, timeout: float) -> socket.socket:
    local = (source, 0) if source else None
    if receive_buffer is None:
        return socket.create_connection((host, port), timeout=timeout, source_address=local)
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, protocol)
    # Before connecting, because the TCP handshake negotiates the window's scale.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(timeout)
    if local is not None:
        sock.bind(local)
    sock.connect(address)
    return sock

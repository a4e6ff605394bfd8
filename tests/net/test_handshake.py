"""A handshake with a peer that does not use TLS."""

import socket
import ssl

import pytest

from dicomport.net.tls.handshake import Handshake, NotTLSError


@pytest.mark.parametrize("request_line", [b"GET / HTTP/1.1\r\n\r\n", b"CONNECT example:443 HTTP/1.1\r\n\r\n"])
def test_http_that_arrives_after_the_peek_is_recognized(monkeypatch: pytest.MonkeyPatch, request_line: bytes) -> None:
    """The request may arrive between the peek, which found no bytes, and the handshake."""
    monkeypatch.setattr(Handshake, "_peek", lambda _: b"")
    ours, theirs = socket.socketpair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.sendall(request_line)
    with theirs, context.wrap_socket(ours, server_side=True, do_handshake_on_connect=False) as tls:
        tls.setblocking(False)
        with pytest.raises(NotTLSError, match="the peer uses HTTP"):
            Handshake(tls).attempt()

"""`dicomport echoscu`: whether a peer answers."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from tests.cli.commands import dicomport, receiver

from dicomport.testing import Peer, ScriptedSCP
from dicomport.wire import AssociateRQ


def test_an_answer_is_exit_code_0(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive") as found:
        done = dicomport("echoscu", "localhost", found.port)
    assert done.returncode == 0
    assert "answered 0x0000 Success" in done.stderr


def test_json_is_one_object_on_stdout(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive") as found:
        done = dicomport("echoscu", "-q", "--json", "localhost", found.port)
    assert json.loads(done.stdout)["status"] == 0
    assert done.stderr == ""


def test_explain_tells_what_was_agreed_on(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", "-pdu", "65536") as found:
        done = dicomport("echoscu", "--explain", "localhost", found.port)
    assert done.returncode == 0
    assert "DICOMPORT_0_1_0" in done.stderr
    assert "longest PDU the peer takes: 65536" in done.stderr
    assert "Verification SOP Class: accepted" in done.stderr


def test_no_listener_is_exit_code_3() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        done = dicomport("echoscu", "127.0.0.1", str(sock.getsockname()[1]))
    assert done.returncode == 3
    assert "nothing listens on" in done.stderr


def test_a_peer_that_is_no_dicom_peer_is_exit_code_3() -> None:
    def script(peer: Peer) -> None:
        peer.expect(AssociateRQ)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.drain()

    with ScriptedSCP(script) as scp:
        done = dicomport("echoscu", "127.0.0.1", str(scp.port))
    assert done.returncode == 3
    assert "broke the protocol" in done.stderr
    assert "PDU type 48H is unknown: is HTTP spoken here?" in done.stderr


def test_a_silent_peer_is_given_up_after_the_acse_timeout() -> None:
    with ScriptedSCP(lambda peer: peer.stall()) as scp:
        done = dicomport("echoscu", "-ta", "0.3", "127.0.0.1", str(scp.port))
    assert done.returncode == 3
    assert "the acse timer expired after 0.3 s" in done.stderr

"""`dicomport echoscu`: whether a peer answers."""

from __future__ import annotations

import asyncio
import errno
import json
import re
import socket
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from tests.certificates import Files
from tests.cli.commands import dicomport, receiver

from dicomport.cli.explaining import print_steps
from dicomport.net import Endpoint, FailedAttempt
from dicomport.scu.explain.steps import Connected, Failure, Step
from dicomport.testing import Peer, ScriptedSCP
from dicomport.wire import AssociateRJ, AssociateRQ, RejectReason


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


def test_many_echos_are_summarized_by_their_median(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive") as found:
        done = dicomport("echoscu", "--repeat", "5", "--json", "localhost", found.port)
    assert done.returncode == 0
    assert re.search(r"in [0-9.]+ ms minimum, [0-9.]+ ms median, [0-9.]+ ms maximum", done.stderr)
    assert json.loads(done.stdout)["seconds"] > 0


def test_explain_prints_each_step(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", "-pdu", "65536") as found:
        done = dicomport("echoscu", "--explain", "--repeat", "3", "localhost", found.port)
    assert done.returncode == 0
    told = re.sub(r"[0-9.]+ ms", "N ms", done.stderr)
    steps = ["name", "TCP", "association", "C-ECHO", "release"]
    assert re.findall(r"^(\S+): done after N ms$", told, re.MULTILINE) == steps
    assert f"127.0.0.1:{found.port} answered" in told
    assert "'ANY-SCP' accepted 'DICOMPORT'" in told
    assert "DICOMPORT_0_1_0" in told
    assert "maximum PDU length of the peer: 65536" in told
    assert "granted asynchronous operations: 16" in told
    assert "roles: answered for 23 SOP Classes; as SCU we may send all of them" in told
    assert "storage: stores all attributes (level 2); coerces no attribute" in told
    assert "contexts: 125 of 125 accepted" in told
    assert "advice" not in told
    assert "round trips: 3, N ms minimum, N ms median, N ms maximum" in told
    assert done.stdout == ""


def test_explain_in_json_is_an_object_for_each_step(tmp_path: Path) -> None:
    context = "CTImageStorage:JPEGBaseline8Bit,1.2.840.10008.1.2.1"
    with receiver(tmp_path / "archive") as found:
        done = dicomport("echoscu", "--explain", "-q", "--json", "--context", context, "localhost", found.port)
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert [step["step"] for step in steps] == ["resolve", "connect", "associate", "echo", "release"]
    assert all(step["milliseconds"] > 0 and step["failure"] is None for step in steps)
    assert steps[1]["address"] == f"127.0.0.1:{found.port}"
    assert steps[2]["contexts"][1] == {
        "context_id": 3,
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "proposed": ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.1"],
        "result": 0,
        "transfer_syntax_uid": "1.2.840.10008.1.2.4.50",
        "reason": "accepted",
    }
    assert steps[3]["status"] == 0
    assert done.stderr == ""


def test_explain_prints_rejected_contexts_with_reasons() -> None:
    def script(peer: Peer) -> None:
        peer.accept(refuse=["1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.2.4.50"])
        peer.serve()

    arguments = ("--context", "CTImageStorage:JPEGBaseline8Bit", "--context", "MRImageStorage")
    with ScriptedSCP(script) as peer:
        done = dicomport("echoscu", "--explain", *arguments, "localhost", str(peer.port))
    assert done.returncode == 0
    assert "contexts: 1 of 3 accepted" in done.stderr
    lines = [line.strip() for line in done.stderr.splitlines()]
    assert lines[lines.index("CT Image Storage") + 1] == (
        "the peer supports none of the transfer syntaxes: JPEGBaseline8Bit"
    )
    assert lines[lines.index("MR Image Storage") + 1] == (
        "the peer does not support the SOP Class: ExplicitVRLittleEndian, ImplicitVRLittleEndian"
    )
    advice = [line.removeprefix("advice: ") for line in lines if line.startswith("advice: ")]
    assert advice == [
        "CT Image Storage: propose other transfer syntaxes (--context CLASS:SYNTAX,...), as storescu --convert does",
        "MR Image Storage: configure it at the peer",
    ]


def test_explain_prints_cause_and_advice_in_each_case() -> None:
    def script(peer: Peer) -> None:
        peer.expect(AssociateRQ)
        peer.send(AssociateRJ(RejectReason.CALLED_AE_TITLE_NOT_RECOGNIZED))
        peer.expect_close()

    with ScriptedSCP(script) as peer:
        done = dicomport("echoscu", "--explain", "-q", "--json", "-aec", "PACS", "localhost", str(peer.port))
    assert done.returncode == 3
    failure = json.loads(done.stdout.splitlines()[-1])["failure"]
    assert failure["cause"] == "rejected permanently (1/1/7): the peer's AE title is not PACS"
    assert f"  cause: {failure['cause']}\n  advice: {failure['advice']}\n" in done.stderr


def test_explain_finds_the_item_that_a_peer_drops() -> None:
    def script(peer: Peer) -> None:
        if peer.socket.recv(1, socket.MSG_PEEK) == b"\x16":
            return
        request = peer.expect(AssociateRQ)
        if request.user_information.operations_window is None:
            peer.accept(request)
            peer.serve()

    with ScriptedSCP(script) as peer:
        done = dicomport("echoscu", "--explain", "localhost", str(peer.port))
    assert done.returncode == 0
    assert "advice: Asking again without the asynchronous operations window (item 53H)." in done.stderr
    assert "association without the asynchronous operations window (item 53H): done" in done.stderr
    assert "configure senders without it" in done.stderr


def test_explain_without_a_context_in_common_is_exit_code_1() -> None:
    def script(peer: Peer) -> None:
        peer.accept(refuse=["1.2.840.10008.1.1"])
        peer.serve()

    with ScriptedSCP(script) as peer:
        done = dicomport("echoscu", "--explain", "localhost", str(peer.port))
    assert done.returncode == 1
    assert "C-ECHO cannot be sent" in done.stderr


def test_text_of_a_peer_is_escaped_for_the_terminal() -> None:
    def script(peer: Peer) -> None:
        peer.expect(AssociateRQ)
        peer.send(b"SSH-2.0-\x1b[2J\x07\r\n")
        peer.drain()

    with ScriptedSCP(script) as peer:
        done = dicomport("echoscu", "--explain", "localhost", str(peer.port))
    assert done.returncode == 3
    assert r"does not use DICOM, but SSH: SSH-2.0-\x1b[2J\x07" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--explain", "--context", "CT"], "'CT' is not a SOP Class"),
        (["--explain", "--context", "CTImageStorage:JPEG"], "'JPEG' is not a transfer syntax"),
        (["--explain", *["--context", "CTImageStorage"] * 128], "1 to 128 presentation contexts"),
        (["--context", "CTImageStorage"], "--context needs --explain"),
        (["--repeat", "0"], "--repeat"),
    ],
)
def test_usage_that_is_wrong_is_exit_code_2(arguments: list[str], complaint: str) -> None:
    done = dicomport("echoscu", *arguments, "localhost", "104")
    assert done.returncode == 2
    assert complaint in done.stderr


def test_no_listener_is_exit_code_3() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        done = dicomport("echoscu", "127.0.0.1", str(sock.getsockname()[1]))
    assert done.returncode == 3
    assert "nothing listens on" in done.stderr


def test_a_peer_that_refuses_verification_is_exit_code_3() -> None:
    def script(peer: Peer) -> None:
        peer.accept(refuse=["1.2.840.10008.1.1"])
        peer.serve()

    with ScriptedSCP(script) as scp:
        done = dicomport("echoscu", "127.0.0.1", str(scp.port))
    assert done.returncode == 3
    assert ": the association has no presentation context for verification" in done.stderr


def test_a_peer_that_is_no_dicom_peer_is_exit_code_3() -> None:
    def script(peer: Peer) -> None:
        peer.expect(AssociateRQ)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.drain()

    with ScriptedSCP(script) as scp:
        done = dicomport("echoscu", "127.0.0.1", str(scp.port))
    assert done.returncode == 3
    assert "violated the protocol" in done.stderr
    assert "unknown PDU type 48H: does the peer use HTTP?" in done.stderr


def test_a_silent_peer_is_given_up_after_the_acse_timeout() -> None:
    with ScriptedSCP(lambda peer: peer.stall()) as scp:
        done = dicomport("echoscu", "-ta", "0.3", "127.0.0.1", str(scp.port))
    assert done.returncode == 3
    assert "the acse timer expired after 0.3 s" in done.stderr


def test_a_context_may_have_uids_that_no_table_has() -> None:
    asked: list[AssociateRQ] = []

    def script(peer: Peer) -> None:
        asked.append(peer.accept())
        peer.serve()

    with ScriptedSCP(script) as peer:
        context = "1.2.3.4:1.2.3.5,1.2.3.6"
        done = dicomport("echoscu", "127.0.0.1", str(peer.port), "--explain", "--context", context)
    assert done.returncode == 0
    proposed = [(one.abstract_syntax, one.transfer_syntaxes) for one in asked[0].presentation_contexts]
    assert ("1.2.3.4", ("1.2.3.5", "1.2.3.6")) in proposed


def test_explain_prints_the_addresses_that_failed(capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = Endpoint(socket.AF_INET6, ("::1", 104, 0, 0)), Endpoint(socket.AF_INET, ("127.0.0.1", 104))
    failed = (
        FailedAttempt(ours, ConnectionRefusedError(errno.ECONNREFUSED, f"Connect call failed {ours.sockaddr}")),
        FailedAttempt(theirs, TimeoutError("the connect timer expired")),
    )

    async def steps() -> AsyncGenerator[Step, None]:
        yield Connected(seconds=0.5, failed=failed, endpoint=None, failure=Failure("nothing listens", "start it"))

    code = asyncio.run(print_steps(steps(), as_json=False, shows_messages=True))
    assert code == 3
    assert capsys.readouterr().err.splitlines() == [
        "TCP: failed after 500.0 ms",
        "  [::1]:104: Connection refused",
        "  127.0.0.1:104: the connect timer expired",
        "  cause: nothing listens",
        "  advice: start it",
    ]


def test_explain_shows_a_failed_handshake_without_a_certificate(tmp_path: Path) -> None:
    hospital = Files(tmp_path / "hospital")

    def script(peer: Peer) -> None:
        peer.socket.recv(1)
        peer.close()

    with ScriptedSCP(script) as peer:
        done = dicomport("echoscu", "--explain", "--tls-ca", hospital.authority, "127.0.0.1", str(peer.port))
    assert done.returncode == 3
    assert "TLS: failed" in done.stderr
    assert "certificate of" not in done.stderr

"""`storescu --commit`: sent means that the other side keeps it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.cli.commands import FILES, dicomport, receiver, start
from tests.ports import unused_port

from dicomport import CommitmentSCP, FolderStorage, SOPReference, Status, StorageSCP, StoreRequest
from dicomport.testing import Peer, ScriptedSCP

CT = FILES / "CT_small.dcm"
MR = FILES / "MR_small.dcm"


def rows(report: Path) -> dict[str, dict[str, object]]:
    return {row["path"]: row for row in map(json.loads, report.read_text().splitlines())}


def test_archived_instances_are_committed_and_reported(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    text = tmp_path / "text"
    text.write_text("no image")
    with receiver(tmp_path / "archive") as found:
        done = dicomport("storescu", "localhost", found.port, CT, MR, "--commit", "--report", report)
        mixed = dicomport("storescu", "localhost", found.port, CT, text, "--commit", "--json")

    assert done.returncode == 0
    assert "2 of 2 instances committed" in done.stderr
    assert [(row["committed"], row["commitment"]) for row in rows(report).values()] == [(True, "")] * 2
    assert mixed.returncode == 1
    lines = [json.loads(line) for line in mixed.stdout.splitlines()]
    assert {line["path"]: line["committed"] for line in lines} == {str(CT): True, str(text): False}


def test_missing_and_damaged_instances_fail_the_run(tmp_path: Path) -> None:
    report, journal = tmp_path / "report.json", tmp_path / "journal"
    arguments = ("--commit", "--report", report, "--journal", journal)
    with receiver(tmp_path / "archive") as found:
        assert dicomport("storescu", "localhost", found.port, CT, MR, *arguments).returncode == 0
        [kept] = [path for path in found.kept() if path.stat().st_size == max(p.stat().st_size for p in found.kept())]
        content = bytearray(kept.read_bytes())
        content[-1] ^= 1
        kept.write_bytes(content)
        done = dicomport("storescu", "localhost", found.port, CT, MR, *arguments)

    assert done.returncode == 1
    assert "2 of 2 files accepted, 2 of them in an earlier run" in done.stderr
    assert "1 of 2 instances committed" in done.stderr
    assert sorted(bool(row["committed"]) for row in rows(report).values()) == [False, True]
    [lost] = [row for row in rows(report).values() if not row["committed"]]
    assert lost["accepted"]
    assert "0x0110" in str(lost["commitment"])


def test_a_peer_that_knows_no_commitment_fails_the_run(tmp_path: Path) -> None:
    def take(_request: StoreRequest) -> int:
        return 0x0000

    report = tmp_path / "report.json"
    with StorageSCP(take, port=0).in_thread() as scp:
        done = dicomport("storescu", "localhost", str(scp.port), CT, "--commit", "--report", report)

    assert done.returncode == 1
    [row] = rows(report).values()
    assert (row["accepted"], row["committed"], bool(row["commitment"])) == (True, False, True)
    assert "0 of 1 instance committed" in done.stderr


def test_commit_port_needs_commit() -> None:
    done = dicomport("storescu", "localhost", "104", CT, "--commit-port", "11113")
    assert (done.returncode, "--commit-port needs --commit" in done.stderr) == (2, True)


def test_invalid_peers_of_reports_are_named_before_anything_is_sent() -> None:
    for arguments, complaint in (
        (("--commit-from", "PACS"), "--commit-from needs --commit-port"),
        (("--commit-port", str(unused_port()), "--commit-from", "PACS@x"), "--commit-from: 'x' is not an address"),
    ):
        done = dicomport("storescu", "localhost", "104", CT, "--commit", *arguments)
        assert (done.returncode, complaint in done.stderr) == (2, True), done.stderr


def test_a_port_in_use_is_reported_before_anything_is_sent(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive") as found:
        done = dicomport("storescu", "127.0.0.1", found.port, CT, "--commit", "--commit-port", found.port)
        kept = found.kept()

    assert (done.returncode, kept) == (2, [])
    assert f"cannot listen on port {found.port}: Address already in use; choose another port with --commit-port" in (
        done.stderr
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_it_waits_it_leaves_a_complete_report(number: signal.Signals, tmp_path: Path) -> None:
    asked = threading.Event()

    class Slow(FolderStorage):
        async def look_up(self, references: Sequence[SOPReference]) -> list[Status]:
            asked.set()
            await asyncio.Event().wait()
            raise NotImplementedError

    report = tmp_path / "report.json"
    slow = Slow(tmp_path / "incoming")
    commitment = CommitmentSCP(slow, tmp_path / "transactions", ae_title="SLOW")
    with StorageSCP(slow, port=0, commitment=commitment).in_thread() as scp:
        process = start("storescu", "127.0.0.1", str(scp.port), CT, "--commit", "--report", report)
        assert asked.wait(60)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "1 of 1 file accepted" in err
    assert "0 of 1 instance committed" in err
    assert "Traceback" not in err
    [row] = rows(report).values()
    assert (row["accepted"], row["committed"]) == (True, False)
    assert row["commitment"] == "interrupted before the peer's report arrived"


def test_nothing_is_asked_about_instances_that_were_refused() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.serve(0xA900)

    with ScriptedSCP(script, connections=1) as peer:
        done = dicomport("storescu", "localhost", str(peer.port), CT, "--commit")

    assert done.returncode == 1
    assert "0 of 1 file accepted" in done.stderr
    assert "committed" not in done.stderr


def test_a_port_taken_meanwhile_leaves_a_complete_report(tmp_path: Path) -> None:
    port, report = unused_port(), tmp_path / "report.json"
    with contextlib.ExitStack() as stack:

        def script(peer: Peer) -> None:
            peer.accept()
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
            peer.serve()

        with ScriptedSCP(script, connections=1) as peer:
            arguments = ("--commit", "--commit-port", str(port), "--report", report)
            done = dicomport("storescu", "127.0.0.1", str(peer.port), CT, *arguments)

    assert done.returncode == 1
    assert f"cannot listen on port {port}: Address already in use; choose another port with --commit-port" in (
        done.stderr
    )
    [row] = rows(report).values()
    assert (row["accepted"], row["committed"]) == (True, False)

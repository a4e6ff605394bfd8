"""storescu is killed again and again, and the same command, run until it ends, sends exactly what is missing."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Final

import pytest
from tests.cli.commands import dicomport as run_command, start
from tests.scu.data import part10

import dicomport

KILLS: Final = min(int(os.environ.get("DICOMPORT_KILLS", "6")), 50)
INSTANCES: Final = 500
UNMEASURED: Final = ("env", "--unset=COVERAGE_PROCESS_CONFIG")
"""Starts a process that does not write its coverage, because there is no room."""

pytestmark = pytest.mark.timeout(60 + 4 * KILLS)


class Receiver:
    """Counts received instances, and sets events at given counts."""

    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        self.written_down: set[str] = set()
        """The journal's instances when the sender was killed."""
        self.again: set[str] = set()
        """Instances received again although the journal had them."""
        self._lock = threading.Lock()
        self._left = 0
        self._reached = threading.Event()

    def after(self, count: int) -> threading.Event:
        """Return an event that is set after `count` more received instances."""
        with self._lock:
            self._left = count
            self._reached = threading.Event()
            return self._reached

    def take(self, request: dicomport.StoreRequest) -> int:
        with self._lock:
            self.received[request.sop_instance_uid] += 1
            self.again |= {request.sop_instance_uid} & self.written_down
            self._left -= 1
            if self._left == 0:
                self._reached.set()
        return 0x0000


def accepted(journal: Path) -> set[str]:
    """Return the instances of a journal; the last line may be incomplete."""
    lines = journal.read_text().splitlines(keepends=True) if journal.exists() else []
    return {json.loads(line)["sop_instance_uid"] for line in lines if line.endswith("}\n")}


@pytest.mark.parametrize(("associations", "window"), [(1, 1), (2, 16)])
def test_a_killed_run_is_resumed(associations: int, window: int, tmp_path: Path) -> None:
    rng = random.Random(f"{associations} {window}")
    receiver = Receiver()
    journal, report, folder = tmp_path / "journal", tmp_path / "report.json", tmp_path / "files"
    folder.mkdir()
    for number in range(INSTANCES):
        part10(folder / f"{number:03}.dcm", sop_instance=f"1.2.3.{number}", size=1000 + 2 * number)

    with dicomport.StorageSCP(receiver.take, port=0).in_thread() as scp:
        command = ("storescu", "127.0.0.1", str(scp.port), folder, "--journal", journal, "--report", report)
        options = ("-j", str(associations), "--window", str(window))
        for _ in range(KILLS):
            reached = receiver.after(rng.randint(1, max(1, INSTANCES // (2 * KILLS))))
            process = start(*command, *options)
            assert reached.wait(60)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            receiver.written_down |= accepted(journal)
        before = len(receiver.received)
        assert 0 < before < INSTANCES
        done = run_command(*command, *options)

    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert len(receiver.received) == INSTANCES
    assert receiver.written_down
    assert not receiver.again
    again = receiver.received.total() - INSTANCES
    assert again <= KILLS * associations * window
    rows = [json.loads(line) for line in report.read_text().splitlines()]
    assert sorted(row["path"] for row in rows) == sorted(map(str, folder.iterdir()))
    assert all(row["accepted"] for row in rows)
    earlier = sum(row["earlier"] for row in rows)
    # Exactly the instances that were answered but not journaled when the process was killed were sent again.
    assert before - again <= earlier <= before
    of_those = f", {earlier} of them in an earlier run" if earlier else ""
    assert done.stderr.startswith(f"{INSTANCES} of {INSTANCES} files accepted{of_those}:")


def test_a_file_that_has_changed_is_sent_again_and_another_peer_gets_all(tmp_path: Path) -> None:
    receiver = Receiver()
    paths = [part10(tmp_path / f"{number}.dcm", sop_instance=f"1.2.3.{number}", size=1000) for number in range(3)]

    def send(port: int) -> str:
        done = run_command("storescu", "127.0.0.1", str(port), *paths, "--journal", tmp_path / "journal")
        assert done.returncode == 0
        return done.stderr.partition(":")[0]

    with (
        dicomport.StorageSCP(receiver.take, port=0).in_thread() as scp,
        dicomport.StorageSCP(receiver.take, port=0).in_thread() as other,
    ):
        assert send(scp.port) == "3 of 3 files accepted"
        assert send(scp.port) == "3 of 3 files accepted, 3 of them in an earlier run"
        part10(paths[1], sop_instance="1.2.3.1", size=1002)
        assert send(scp.port) == "3 of 3 files accepted, 2 of them in an earlier run"
        assert send(other.port) == "3 of 3 files accepted"
    assert receiver.received == {"1.2.3.0": 2, "1.2.3.1": 3, "1.2.3.2": 2}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"DICM" * 100, "not a journal"), (b"text\n", "not a journal"), (b"[" * 100_000, "not a journal")],
)
def test_another_file_is_never_taken_for_a_journal(content: bytes, complaint: str, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.write_bytes(content)

    done = run_command("storescu", "127.0.0.1", "104", tmp_path, "--journal", journal)

    assert (done.returncode, complaint in done.stderr) == (2, True)
    assert journal.read_bytes() == content


def test_a_deeply_nested_line_of_a_journal_is_passed_over(tmp_path: Path) -> None:
    receiver = Receiver()
    path = part10(tmp_path / "1.dcm", sop_instance="1.2.3.1", size=1000)
    with dicomport.StorageSCP(receiver.take, port=0).in_thread() as scp:
        arguments = ("storescu", "127.0.0.1", str(scp.port), path, "--journal", tmp_path / "journal")
        assert run_command(*arguments).returncode == 0
        with (tmp_path / "journal").open("ab") as journal:
            journal.write(b'{"peer": ' + b"[" * 50_000 + b"\n")
        done = run_command(*arguments)

    assert (done.returncode, done.stderr.startswith("1 of 1 file accepted, 1 of them in an earlier run")) == (0, True)


def test_only_a_regular_file_is_read_as_a_journal(tmp_path: Path) -> None:
    # /dev/full and /dev/zero never end: reading a line of them would use all memory.
    done = run_command("storescu", "127.0.0.1", "104", tmp_path, "--journal", "/dev/full")

    assert (done.returncode, "cannot use /dev/full as --journal: expected a regular file" in done.stderr) == (2, True)


def test_a_file_without_lines_is_not_taken_into_memory(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with journal.open("wb") as file:
        file.truncate(1 << 40)

    done = run_command("storescu", "127.0.0.1", "104", tmp_path, "--journal", journal)

    assert (done.returncode, "not a journal" in done.stderr) == (2, True)


def test_a_full_disk_under_the_journal_is_reported_once_and_fails_the_run(tmp_path: Path) -> None:
    receiver = Receiver()
    journal, folder = tmp_path / "journal", tmp_path / "files"
    folder.mkdir()
    for number in range(100):
        part10(folder / f"{number:03}.dcm", sop_instance=f"1.2.3.{number}", size=1000)

    with dicomport.StorageSCP(receiver.take, port=0).in_thread() as scp:
        command = ("storescu", "127.0.0.1", str(scp.port), folder, "--journal", journal)
        process = start(*command, wrapper=(*UNMEASURED, "prlimit", "--fsize=4000"))
        _, err = process.communicate(timeout=60)
        lines = journal.read_bytes().splitlines(keepends=True)
        again = run_command(*command)

    assert process.returncode == 1
    assert "Traceback" not in err
    assert "100 of 100 files accepted" in err
    assert err.count("journal_failed") == 1
    assert "the journal is incomplete (No space left on device)" in err
    assert 0 < len(lines) < 100
    assert all(line.endswith(b"}\n") for line in lines)
    # With room again, what is in it is not sent again.
    assert again.returncode == 0
    assert f"100 of 100 files accepted, {len(lines)} of them in an earlier run" in again.stderr
    assert receiver.received.total() == 200 - len(lines)


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    receiver = Receiver()
    journal = tmp_path / "journal"
    path = part10(tmp_path / "1.dcm", size=1000)

    with dicomport.StorageSCP(receiver.take, port=0).in_thread() as scp:
        command = ("storescu", "127.0.0.1", str(scp.port), path, "--journal", journal)
        assert run_command(*command).returncode == 0
        journal.write_bytes(journal.read_bytes()[:-20])
        assert run_command(*command).returncode == 0
        assert run_command(*command).returncode == 0

    assert receiver.received.total() == 2


def test_two_runs_do_not_share_a_journal(tmp_path: Path) -> None:
    from dicomport.testing import Peer, ScriptedSCP
    from dicomport.wire import CStoreRQ

    path = part10(tmp_path / "1.dcm", size=1000)
    journal = tmp_path / "journal"
    in_flight, looked = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        request = peer.expect(CStoreRQ)
        in_flight.set()
        assert looked.wait(30)
        peer.answer(request)
        peer.serve()

    with ScriptedSCP(script) as scp:
        process = start("storescu", "127.0.0.1", str(scp.port), path, "--journal", journal)
        assert in_flight.wait(30)
        second = run_command("storescu", "127.0.0.1", str(scp.port), path, "--journal", journal)
        looked.set()
        process.communicate(timeout=60)

    assert (second.returncode, "in use by another run" in second.stderr) == (2, True)
    assert process.returncode == 0

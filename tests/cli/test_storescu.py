"""`dicomport storescu`: output and exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.commands import FILES, Receiver, dicomport, receiver, start
from tests.small_disk import fill, small_disk

from dicomport import StorageSCP, StoreRequest
from dicomport.testing import Peer, ScriptedSCP
from dicomport.wire import AssociateRQ

CT = FILES / "CT_small.dcm"
MR = FILES / "MR_small.dcm"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path / "archive") as found:
        yield found


@pytest.fixture
def closed_port() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])


def test_all_accepted_is_exit_code_0_and_a_summary_on_stderr(running: Receiver) -> None:
    done = dicomport("storescu", "localhost", running.port, CT, MR)
    assert done.returncode == 0
    assert done.stdout == ""
    assert "2 of 2 files accepted: 48.4 kB" in done.stderr
    assert len(running.kept()) == 2


def test_folders_are_walked_and_failures_are_named_with_exit_code_1(running: Receiver, tmp_path: Path) -> None:
    folder = tmp_path / "study" / "series"
    folder.mkdir(parents=True)
    (folder / "one.dcm").write_bytes(CT.read_bytes())
    (folder / "cut.dcm").write_bytes(CT.read_bytes()[:150])
    done = dicomport("storescu", "localhost", running.port, tmp_path / "study")
    assert done.returncode == 1
    assert "1 of 2 files accepted" in done.stderr
    assert "1 failed: not a readable DICOM file" in done.stderr
    assert str(folder / "cut.dcm") in done.stderr


def test_json_is_one_object_per_file_on_stdout(running: Receiver, tmp_path: Path) -> None:
    done = dicomport("storescu", "--json", "localhost", running.port, CT, tmp_path / "missing.dcm")
    assert done.returncode == 1
    rows = {row["path"]: row for row in map(json.loads, done.stdout.splitlines())}
    sent, missing = rows[str(CT)], rows[str(tmp_path / "missing.dcm")]
    assert (sent["accepted"], sent["status"], sent["category"], sent["size"]) == (True, 0, "Success", 38870)
    assert sent["sop_class_uid"] == "1.2.840.10008.5.1.4.1.1.2"
    assert (missing["accepted"], missing["status"]) == (False, None)
    assert "No such file" in missing["reason"]


def test_a_failure_status_is_exit_code_1_and_shown_with_its_meaning() -> None:
    def refuse(_: StoreRequest) -> int:
        return 0xA700

    with StorageSCP(refuse, port=0).in_thread() as scp:
        done = dicomport("storescu", "127.0.0.1", str(scp.port), CT)
    assert done.returncode == 1
    assert "0xA700 Failure: Out of resources" in done.stderr


def test_a_port_without_a_listener_gives_exit_code_3_with_advice(closed_port: str) -> None:
    done = dicomport("storescu", "127.0.0.1", closed_port, CT)
    assert done.returncode == 3
    assert f"nothing listens on 127.0.0.1:{closed_port}: check the port" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_host_is_exit_code_3(closed_port: str) -> None:
    done = dicomport("storescu", "no.such.host.invalid", closed_port, CT)
    assert done.returncode == 3
    assert "no.such.host.invalid" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_rejected_association_is_exit_code_3_with_the_reason(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", "--allow", "SCANNER") as found:
        refused = dicomport("storescu", "localhost", found.port, CT)
        taken = dicomport("storescu", "-aet", "SCANNER", "localhost", found.port, CT)
    assert refused.returncode == 3
    assert "calling AE title not recognized" in refused.stderr
    assert "echoscu --explain" in refused.stderr
    assert taken.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("storescu", "localhost"), "Missing argument 'PORT'"),
        (("storescu", "localhost", "104"), "Missing argument 'PATH...'"),
        (("storescu", "localhost", "many", "x"), "'many' is invalid; expected a whole number from 1 to 65535"),
        (("storescu", "localhost", "104", "x", "-aet", "SEVENTEEN_LETTERS"), "has 17 characters; the maximum is 16"),
        (("storescu", "localhost", "104", "x", "--nonsense"), "No such option"),
        (("storescu", "localhost", "104", "x", "--report", "y", "--journal", "./y"), "need different files"),
        (("nonsense",), "No such command"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...], complaint: str) -> None:
    done = dicomport(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr


def test_an_empty_folder_is_nothing_to_send(running: Receiver, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = dicomport("storescu", "localhost", running.port, tmp_path / "empty")
    assert done.returncode == 1
    assert "nothing to send" in done.stderr


def test_quiet_prints_nothing_on_success(running: Receiver) -> None:
    done = dicomport("storescu", "-q", "localhost", running.port, CT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_file_name_can_not_move_the_terminal(running: Receiver, tmp_path: Path) -> None:
    evil = tmp_path / "evil\x1b[2J.dcm"
    evil.write_text("no image")
    done = dicomport("storescu", "localhost", running.port, evil)
    assert "\x1b" not in done.stderr
    assert r"evil\x1b[2J.dcm" in done.stderr


def test_ctrl_c_exits_with_130_and_a_summary() -> None:
    asked = threading.Event()

    def silent(peer: Peer) -> None:
        peer.expect(AssociateRQ)
        asked.set()
        peer.drain()

    with ScriptedSCP(silent) as scp:
        process = start("storescu", "127.0.0.1", str(scp.port), CT)
        assert asked.wait(60)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "0 of 1 file accepted" in err
    assert "1 not sent" in err
    assert "Traceback" not in err


def test_on_a_terminal_there_is_progress(running: Receiver) -> None:
    ours, terminal = pty.openpty()
    process = start("storescu", "localhost", running.port, CT, MR, stderr=terminal)
    os.close(terminal)
    shown = b""
    # Reading a terminal without another open end is an error.
    with contextlib.suppress(OSError):
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    process.communicate(timeout=60)
    assert process.returncode == 0
    last = [line for line in shown.decode().splitlines() if "2/2" in line][-1]
    # Instances, bytes, rate, and time left.
    assert re.search(r"2/2 .*48\.4/48\.4 kB .*[0-9.?]+ .?B/s .*0:00:00", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", last))
    assert "2 of 2 files accepted" in shown.decode()


@pytest.mark.parametrize("content", [CT.read_bytes(), b"text\n", b'{"peer": "PACS@localhost:104"}\n'])
def test_no_file_but_a_report_is_written_over(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "first.dcm"
    path.write_bytes(content)

    done = dicomport("storescu", "localhost", "104", CT, "--report", path)

    assert (done.returncode, "exists and is not a report" in done.stderr) == (2, True)
    assert path.read_bytes() == content


def test_a_report_takes_the_place_of_an_earlier_one(running: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    for what in ([CT, MR], [CT]):
        path.touch()
        assert dicomport("storescu", "localhost", running.port, *what, "--report", path).returncode == 0
    assert [json.loads(line)["path"] for line in path.read_text().splitlines()] == [str(CT)]


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")


@FULL
def test_an_unwritable_report_is_reported_and_stops_nothing(running: Receiver) -> None:
    done = dicomport("storescu", "localhost", running.port, CT, MR, "--report", "/dev/full", "--json")
    assert done.returncode == 1
    assert "2 of 2 files accepted" in done.stderr
    assert "the report /dev/full is incomplete: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) == len(running.kept()) == 2


@FULL
@pytest.mark.parametrize("option", ["--json", "--commit"])
def test_unprintable_results_are_reported_and_stop_nothing(option: str, running: Receiver, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    arguments = ("storescu", "localhost", running.port, CT, MR, "--json", option, "--report", report)
    with Path("/dev/full").open("w") as full:
        done = dicomport(*arguments, stdout=full)
    assert done.returncode == 1
    assert "2 of 2 files accepted" in done.stderr
    assert "the output is incomplete: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert len(report.read_text().splitlines()) == 2


def test_the_reader_of_the_results_may_close_the_pipe(running: Receiver) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = dicomport("storescu", "localhost", running.port, CT, MR, "--json", stdout=pipe)
    assert done.returncode == 1
    assert "2 of 2 files accepted" in done.stderr
    assert "the output is incomplete: Broken pipe" in done.stderr
    assert "Exception" not in done.stderr
    assert len(running.kept()) == 2


def test_a_plain_send_imports_neither_pydicom_nor_rich(running: Receiver) -> None:
    process = start("storescu", "localhost", running.port, CT)
    process.communicate()
    code = (
        "import sys; from dicomport.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: print(end.code, 'pydicom' in sys.modules, 'rich' in sys.modules)"
    )
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", code, "storescu", "localhost", running.port, os.fspath(CT)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "0 False False\n"


@pytest.mark.parametrize("option", ["--report", "--journal"])
def test_a_file_in_a_missing_folder_is_wrong_usage(option: str, tmp_path: Path) -> None:
    path = tmp_path / "missing" / "file"

    done = dicomport("storescu", "localhost", "104", CT, option, path)

    told = " ".join(done.stderr.split())
    assert done.returncode == 2
    assert option in told
    assert "No such file or directory" in told


def test_of_many_failures_for_the_same_reason_the_first_are_named(running: Receiver, tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}.dcm").write_bytes(CT.read_bytes()[:150])
    done = dicomport("storescu", "localhost", running.port, tmp_path)
    assert done.returncode == 1
    assert [number for number in range(7) if f"{number}.dcm" in done.stderr] == [0, 1, 2, 3, 4]
    assert "and 2 more; --report or --json lists all" in done.stderr


def test_a_journal_on_a_full_disk_fails_the_run_after_everything_is_sent(running: Receiver, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        fill(disk)
        done = dicomport("storescu", "localhost", running.port, CT, MR, "--journal", disk / "journal")
    assert done.returncode == 1
    assert "2 of 2 files accepted" in done.stderr
    assert "the journal is incomplete (No space left on device): a further run sends some instances" in done.stderr
    assert len(running.kept()) == 2


def test_a_dry_run_in_json_names_each_file_that_cannot_be_sent(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no instance")
    done = dicomport("storescu", "localhost", "1", CT, text, "--dry-run", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    [refused] = (row for row in rows if "reason" in row)
    assert done.returncode != 0
    assert sum(row.get("instances", 0) for row in rows) == 1
    assert (refused["path"], refused["skipped"]) == (str(text), False)
    assert "not a DICOM file" in refused["reason"]

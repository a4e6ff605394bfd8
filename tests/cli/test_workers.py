"""`storescp --workers`: processes that share a port, an archive and the limits, under one that keeps them running."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.cli.commands import FILES, Receiver, dicomport, receiver, wait_until
from tests.scp.messages import store_command
from tests.small_disk import fill, small_disk

from dicomport.testing import ScriptedSCU
from dicomport.wire import AssociateRJ, RejectReason

CT: Final = FILES / "CT_small.dcm"


def workers_of(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def is_alive(process: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, 0)
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    return False


def catches_sigterm(process: int) -> bool:
    """Return whether a process runs and has a handler for SIGTERM: only the first signal has one."""
    with contextlib.suppress(OSError):
        [caught] = re.findall(r"SigCgt:\t([0-9a-f]+)", Path(f"/proc/{process}/status").read_text())
        return bool(int(caught, 16) >> signal.SIGTERM - 1 & 1)
    return False


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path / "archive", "--workers", "2", "--max-associations", "3") as found:
        yield found


def test_all_of_them_store_into_one_archive_and_end_in_order(running: Receiver) -> None:
    wait_until(lambda: len(workers_of(running.process.pid)) == 2)
    for _ in range(4):
        assert dicomport("storescu", "localhost", running.port, CT, FILES / "MR_small.dcm").returncode == 0
    assert len(running.kept()) == 2
    children = workers_of(running.process.pid)
    code, _, err = running.stop()
    assert (code, "Traceback" in err) == (0, False)
    assert not any(map(is_alive, children))
    assert dicomport("archive", "verify", "--archive", running.archive).returncode == 0


def test_a_limit_is_one_for_all_of_them(running: Receiver) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(ScriptedSCU("localhost", int(running.port))).associate()
        one_more = stack.enter_context(ScriptedSCU("localhost", int(running.port)))
        from dicomport.testing import association_request

        one_more.send(association_request())
        assert one_more.expect(AssociateRJ) == AssociateRJ(RejectReason.LOCAL_LIMIT_EXCEEDED, transient=True)


def test_one_that_dies_is_replaced_and_its_associations_no_longer_count(running: Receiver) -> None:
    wait_until(lambda: len(workers_of(running.process.pid)) == 2)
    for _ in range(3):
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(ScriptedSCU("localhost", int(running.port))).associate()
            before = workers_of(running.process.pid)
            for process in before:
                os.kill(process, signal.SIGKILL)
            wait_until(lambda known=before: not set(workers_of(running.process.pid)) & set(known))  # type: ignore[misc]
            wait_until(lambda: len(workers_of(running.process.pid)) == 2)
    assert dicomport("storescu", "localhost", running.port, CT).returncode == 0
    code, _, err = running.stop()
    assert code == 0
    assert len(re.findall(r"worker_exited", err)) == 6


def test_they_end_with_their_parent(running: Receiver) -> None:
    wait_until(lambda: len(workers_of(running.process.pid)) == 2)
    assert dicomport("echoscu", "localhost", running.port).returncode == 0
    children = workers_of(running.process.pid)
    running.process.kill()
    wait_until(lambda: not any(map(is_alive, children)))


def test_workers_that_can_not_start_are_not_restarted_for_ever(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    done = dicomport("storescp", "0", "--archive", tmp_path / "file" / "archive", "--workers", "2")
    assert done.returncode != 0
    assert "as the archive folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_options_that_need_one_process_are_named(tmp_path: Path) -> None:
    done = dicomport("storescp", "0", "--archive", tmp_path, "--workers", "2", "--on-study", "true")
    assert (done.returncode, "--on-study is not available with --workers" in done.stderr) == (2, True)


def test_a_full_disk_keeps_the_healthy_workers(tmp_path: Path) -> None:
    """One that was killed cannot start again, and is tried again later."""
    with (
        small_disk(tmp_path / "disk", 8 << 20) as disk,
        receiver(disk / "archive", "--workers", "2", "--min-free", "0") as found,
    ):
        wait_until(lambda: len(workers_of(found.process.pid)) == 2)
        assert dicomport("storescu", "localhost", found.port, CT).returncode == 0
        ballast = fill(disk)
        one, other = workers_of(found.process.pid)
        os.kill(one, signal.SIGKILL)
        stream = found.process.stderr
        assert stream is not None
        # The death, and then a start that failed.
        delays = (re.search(r"worker_exited.* retry_after_s=([0-9.]+)", line) for line in stream)
        assert next(float(delay[1]) for delay in delays if delay and float(delay[1])) == 1.0
        assert is_alive(other)
        assert dicomport("echoscu", "localhost", found.port).returncode == 0
        ballast.unlink()
        wait_until(lambda: len(workers_of(found.process.pid)) == 2)
        assert found.stop()[0] == 0


def test_one_that_does_not_stop_in_time_is_killed(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", "--workers", "2", "--shutdown-timeout", "1") as found:
        wait_until(lambda: len(workers_of(found.process.pid)) == 2)
        stopped, _ = workers_of(found.process.pid)
        os.kill(stopped, signal.SIGSTOP)
        try:
            code, _, err = found.stop()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(stopped, signal.SIGKILL)
    [line] = [line for line in err.splitlines() if "worker_killed" in line]
    assert (code, f"process={stopped}" in line) == (1, True)


def test_a_second_signal_ends_them_at_once(tmp_path: Path) -> None:
    """The rest of an instance never arrives: a worker would wait until a timer expires."""
    options = ("--workers", "2", "--shutdown-timeout", "3600")
    with receiver(tmp_path / "archive", *options) as found, ScriptedSCU("127.0.0.1", int(found.port)) as peer:
        peer.associate()
        peer.send(store_command())
        children = workers_of(found.process.pid)
        wait_until(lambda: all(map(catches_sigterm, children)))
        found.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not any(map(catches_sigterm, children)))
        assert any(map(is_alive, children))
        code, _, err = found.stop()
    assert (code, "Traceback" in err) == (0, False)
    assert not any(map(is_alive, children))

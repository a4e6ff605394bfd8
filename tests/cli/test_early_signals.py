"""Signals that arrive while a command imports its modules."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from tests.cli.commands import start, wait_until

PROGRAM: Final = """
import os, signal, sys
from dicomport.cli.main import main

class Sender:
    def find_spec(self, name, path=None, target=None):
        if name in MODULES:
            os.kill(os.getpid(), SIGNAL)

sys.meta_path.insert(0, Sender())
main(sys.argv[1:])
"""
"""The signal arrives at the import of each module: no timing is involved."""

MODULES: Final = ["click", "dicomport.cli.program", "dicomport.cli.storescu", "dicomport.cli.storescp", "dicomport.scp"]
MODULES_OF_SENDER: Final = ["click", "dicomport.cli.program", "asyncio", "dicomport.cli.storescu", "dicomport.scu"]


def start_signalled(number: signal.Signals, modules: list[str], *arguments: str | Path) -> subprocess.Popen[str]:
    program = PROGRAM.replace("MODULES", repr(modules)).replace("SIGNAL", str(int(number)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_reload_of_a_starting_receiver_does_not_end_it(workers: str, tmp_path: Path) -> None:
    process = start_signalled(
        signal.SIGHUP, MODULES, "storescp", "0", "--archive", tmp_path / "archive", "--workers", workers
    )
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            process.send_signal(signal.SIGHUP)
            if "storing in" in line:
                break
        assert "storing in" in "".join(lines)
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def test_the_hang_up_of_a_terminal_ends_another_command() -> None:
    process = start_signalled(signal.SIGHUP, ["dicomport.cli.program"], "echoscu", "localhost", "1")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGHUP


@pytest.mark.parametrize("module", MODULES_OF_SENDER)
def test_ctrl_c_while_modules_are_imported_ends_a_sender_with_130(module: str) -> None:
    process = start_signalled(signal.SIGINT, [module], "storescu", "127.0.0.1", "1", "file.dcm")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize("module", ["click", "dicomport.cli.storescp", "dicomport.scp"])
def test_ctrl_c_while_modules_are_imported_ends_a_receiver_with_130(module: str, tmp_path: Path) -> None:
    process = start_signalled(signal.SIGINT, [module], "storescp", "0", "--archive", tmp_path / "archive")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_ended_demo_leaves_no_folder(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = start("demo")
    try:
        wait_until(lambda: any(tmp_path.rglob("*.dcm")))
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, "Traceback" in err) == (130, False), err
        assert list(tmp_path.iterdir()) == []
    finally:
        process.kill()
        process.communicate()

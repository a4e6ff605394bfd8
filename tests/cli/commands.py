"""Running the commands as a person does: as processes, judged by their output and exit codes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pydicom

__all__ = ["FILES", "Receiver", "dicomport", "receiver", "start"]

FILES = Path(pydicom.__file__).parent / "data" / "test_files"

_COMMAND = (sys.executable, "-m", "dicomport")
_TIMEOUT = 60


def dicomport(
    *arguments: str | Path,
    cwd: Path | None = None,
    given: str = "",
    stdout: int | IO[str] = subprocess.PIPE,
    wrapper: tuple[str, ...] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end with this stdin, optionally through another; its output is captured or redirected."""
    return subprocess.run(
        (*wrapper, *_COMMAND, *map(str, arguments)),
        check=False,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=_TIMEOUT,
        cwd=cwd,
        input=given,
    )


def start(
    *arguments: str | Path, wrapper: tuple[str, ...] = (), stdin: int | None = None, stderr: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    """Start a command, optionally through another command."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    # Background jobs of a shell and children of nohup ignore these signals, and their children inherit that.
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    return subprocess.Popen(
        (*wrapper, *_COMMAND, *map(str, arguments)),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=environment,
    )


@dataclass(frozen=True)
class Receiver:
    """A running storescp."""

    process: subprocess.Popen[str]
    port: str
    archive: Path
    greeting: str
    """The stderr until it listened."""

    def kept(self) -> list[Path]:
        """Return the files of the stored instances."""
        return sorted(self.archive.glob("[!.]*/*/*.dcm"))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal, and return exit code, stdout and stderr."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=_TIMEOUT)
        return self.process.returncode, out, err


@contextlib.contextmanager
def receiver(archive: Path, *arguments: str | Path, wrapper: tuple[str, ...] = ()) -> Iterator[Receiver]:
    """Run storescp on a free port."""
    process = start("storescp", "0", "--archive", archive, *arguments, wrapper=wrapper)
    try:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if found := re.search(r":(\d+), storing in", line):
                yield Receiver(process, found[1], archive, said)
                break
        else:
            raise AssertionError(said)
    finally:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll for the effect of another process."""
    deadline = time.monotonic() + 30
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.01)

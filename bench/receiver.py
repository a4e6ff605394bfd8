"""The receiver, run as a user runs it, and its memory."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["COMMAND", "memory_mib", "receiver"]

COMMAND = (sys.executable, "-m", "dicomport")


@contextlib.contextmanager
def receiver(archive: Path, *options: str) -> Iterator[tuple[int, int]]:
    """Run storescp on a free port; yield its process id and the port."""
    command = (*COMMAND, "storescp", "0", "--archive", str(archive), *options)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        greeting = process.stderr.readline() if process.stderr else ""
        found = re.search(r":(\d+),", greeting)
        if found is None:
            raise SystemExit(f"the receiver did not start: {greeting}")
        try:
            yield process.pid, int(found[1])
        finally:
            process.send_signal(signal.SIGTERM)


def memory_mib(pid: int, field: str) -> float:
    """Return the memory of a running process, MiB: "VmRSS" now, "VmHWM" at its peak."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split(f"{field}:")[1].split()[0]) / 1024

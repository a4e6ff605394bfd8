"""Odd file systems for a test (`tests.files.odd_file_system`); without FUSE the test is skipped, or fails in CI."""

import contextlib
import ctypes.util
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.requirements import missing

__all__ = ["mounted", "require_fuse"]


def _obstacle() -> str | None:
    """Return why no file system can be mounted here; None if it can."""
    if os.geteuid() != 0:
        return "only root can mount a file system"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "there is no /dev/fuse"
    if importlib.util.find_spec("fuse") is None:
        return "fusepy is not installed"
    if ctypes.util.find_library("fuse") is None:
        return "libfuse2 is not installed"
    return None


def require_fuse() -> None:
    """Skip the test if no file system can be mounted, or fail if the test is required."""
    reason = _obstacle()
    if reason is not None:
        missing(reason)


@contextlib.contextmanager
def mounted(root: Path, *kinds: str) -> Iterator[Path]:
    """Show the folder `root` as a file system of these kinds, and yield where; unmount it at the end.

    All processes that have a file in it open must have ended before the end. A `forgetful` file system loses power
    then: `root` is left with the synced names and bytes.
    """
    require_fuse()
    root.mkdir(parents=True, exist_ok=True)
    mount = root.with_name(f"{root.name}.mounted")
    mount.mkdir(exist_ok=True)
    program = [
        sys.executable,
        str(Path(__file__).with_name("odd_file_system.py")),
        ",".join(kinds),
        str(root),
        str(mount),
    ]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", "the file system could not be mounted"
            yield mount
        finally:
            process.terminate()
            try:
                process.wait(60)
            finally:
                process.kill()
                # It stays mounted if its process was killed.
                subprocess.run(["umount", "--lazy", mount], stderr=subprocess.DEVNULL, check=False)
    mount.rmdir()

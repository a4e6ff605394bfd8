"""An output that cannot be written is named as such: the fault is neither the archive's nor the peer's."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.cli.commands import FILES, Receiver, dicomport, receiver

CT, MR = FILES / "CT_small.dcm", FILES / "MR_small.dcm"
CT_STUDY: Final = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"
FULL: Final = Path("/dev/full")
MESSAGE: Final = "cannot write the output: No space left on device; free some space on the disk"

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="writing to it fails on Linux")


def to_full(*arguments: str | Path, given: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    with FULL.open("w") as full:
        return dicomport(*arguments, stdout=full, given=given, cwd=cwd)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiver(tmp_path_factory.mktemp("running") / "archive") as found:
        assert dicomport("storescu", "localhost", found.port, CT).returncode == 0
        yield found


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an archive in which each command prints something: one file cannot be read, another is refused."""
    root = tmp_path_factory.mktemp("damaged") / "archive"
    with receiver(root, "--commit-to", "STORESCU=127.0.0.1:9") as found:
        assert dicomport("storescu", "localhost", found.port, CT, MR).returncode == 0
        assert dicomport("storescu", "localhost", found.port, FILES / "MR_truncated.dcm").returncode == 1
        assert found.stop()[0] == 0
    next(path for path in found.kept() if CT_STUDY not in str(path)).write_bytes(b"nothing")
    return root


@pytest.mark.parametrize(
    "command",
    [
        ("ls",),
        ("ls", "--json"),
        ("ls", "--level", "instances", "--json"),
        ("ls", "--quarantine"),
        ("ls", "--quarantine", "--json"),
        ("show", CT_STUDY),
        ("show", CT_STUDY, "--json"),
        ("verify", "--json"),
        ("reindex", "--json"),
        ("commitments", "ls"),
    ],
)
def test_a_command_of_the_archive_names_the_output(damaged: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    root = shutil.copytree(damaged, tmp_path / "archive")
    done = to_full("archive", *command, "--archive", root)
    assert done.returncode == 1
    assert done.stderr == f"Error: {MESSAGE}\n"


def test_a_long_output_is_named_before_the_end_of_the_command(damaged: Path, tmp_path: Path) -> None:
    """It is written when its buffer is full, while the archive is read."""
    root = shutil.copytree(damaged, tmp_path / "archive")
    for number in range(100):
        (root / f"{number}.dcm").touch()
    done = to_full("archive", "verify", "--json", "--archive", root)
    assert done.returncode == 1
    assert done.stderr == f"Error: {MESSAGE}\n"


@pytest.mark.parametrize("number", [1, 40])
def test_a_sender_sends_all_and_names_the_output(running: Receiver, tmp_path: Path, number: int) -> None:
    copies = [shutil.copy(CT, tmp_path / f"{one}.dcm") for one in range(number)]
    done = to_full("storescu", "localhost", running.port, *copies, "--json")
    assert done.returncode == 1
    assert f"{number} of {number} file" in done.stderr
    assert done.stderr.splitlines()[-1] == "the output is incomplete: No space left on device"


@pytest.mark.parametrize("options", [("--json",), ("--explain", "--json")])
def test_a_verification_of_a_connection_names_the_output(running: Receiver, options: tuple[str, ...]) -> None:
    done = to_full("echoscu", "localhost", running.port, *options)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"Error: {MESSAGE}"
    assert "cannot verify" not in done.stderr


def test_the_other_commands_name_the_output(tmp_path: Path) -> None:
    for command in (("password", "user"), ("storescu", "localhost", "1", CT, "--dry-run", "--json")):
        done = to_full(*command, given="secret\n", cwd=tmp_path)
        assert done.returncode == 1, command
        assert done.stderr.splitlines()[-1] == f"Error: {MESSAGE}", command

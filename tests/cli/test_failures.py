"""Errors that end a command: one line with the remedy, in the format of stderr, without a traceback or a value."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Final

import pytest
from tests.cli.commands import FILES, dicomport, receiver, start
from tests.small_disk import fill, small_disk
from tests.users import as_member, give_to_group, shared_folder

from dicomport.cli.failures import report_failure

CT: Final = FILES / "CT_small.dcm"
NAME: Final = "CompressedSamples^CT1"
COMMANDS: Final = (("ls",), ("show", "1.2.3"), ("verify",), ("reindex",), ("export", "1.2.3", "copy"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filled") / "archive"
    with receiver(root) as found:
        assert dicomport("storescu", "localhost", found.port, CT).returncode == 0
        assert found.stop()[0] == 0
    return root


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert NAME not in done.stderr
    [line] = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("damage", "problem"),
    [(b"no database" * 1000, "not a database"), (None, "damaged")],
    ids=["another file", "overwritten pages"],
)
def test_a_damaged_index_is_named_with_its_remedy(
    filled: Path, tmp_path: Path, command: tuple[str, ...], damage: bytes | None, problem: str
) -> None:
    root = shutil.copytree(filled, tmp_path / "archive")
    index = root / ".dicomport" / "index.sqlite"
    data = index.read_bytes()
    index.write_bytes(damage or data[:100] + b"\xff" * (len(data) - 100))
    done = dicomport("archive", *command, "--archive", root, cwd=tmp_path)
    if command == ("reindex",) and done.returncode == 0:
        return
    line = one_line(done)
    assert problem in line
    assert "dicomport archive reindex" in line


def test_a_full_disk_is_named_with_its_remedy(filled: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2 << 20) as disk:
        root = shutil.copytree(filled, disk / "archive")
        fill(disk)
        line = one_line(dicomport("archive", "reindex", "--archive", root))
    assert "free some space" in line


def test_a_receiver_names_a_full_disk_when_it_starts(filled: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2 << 20) as disk:
        root = shutil.copytree(filled, disk / "archive")
        fill(disk)
        line = one_line(dicomport("storescp", "0", "--archive", root, "--min-free", "0"))
    assert "free some space" in line
    assert "another file system" not in line


PATIENT: Final = """
import sys
from dicomport.cli.main import main
from dicomport.files import lock_waiting

lock_waiting.STOPPED_SECONDS = 0.1
main(sys.argv[1:])
"""

HOLDER: Final = """
import sys
from pathlib import Path
from dicomport.files.locking import locked

with locked(Path(sys.argv[1])):
    print(flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux shows the process")
@pytest.mark.parametrize("folder", [".dicomport", ".dicomport/sessions"])
def test_a_start_does_not_wait_for_ever_for_a_stopped_process(filled: Path, tmp_path: Path, folder: str) -> None:
    root = shutil.copytree(filled, tmp_path / "archive")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root / folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
        for arguments in (("storescp", "0"), ("archive", "reindex")):
            done = subprocess.run(
                [sys.executable, "-c", PATIENT, *arguments, "--archive", str(root)],
                check=False,
                capture_output=True,
                text=True,
                timeout=60,
            )
            line = one_line(done)
            assert f"process {holder.pid} holds the lock of {folder.rpartition('/')[2]} and is stopped" in line
            assert f"continue it with kill -CONT {holder.pid}, or end it" in line
    finally:
        holder.kill()
        holder.communicate()
    with receiver(root) as found:
        assert found.stop()[0] == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_permission_is_named_with_its_remedy(filled: Path, command: tuple[str, ...]) -> None:
    with shared_folder() as folder:
        root = shutil.copytree(filled, folder / "archive")
        give_to_group(root)
        own = root / ".dicomport"
        own.chmod(0)
        line = one_line(as_member("archive", *command, "--archive", root))
        own.chmod(0o750)
    assert "Permission denied; check the owner and the mode" in line


def test_a_receiver_on_a_damaged_index_says_what_to_run(filled: Path, tmp_path: Path) -> None:
    root = shutil.copytree(filled, tmp_path / "archive")
    (root / ".dicomport" / "index.sqlite").write_bytes(b"no database" * 1000)
    for workers in ("1", "2"):
        done = dicomport("storescp", "0", "--archive", root, "--workers", workers)
        assert done.returncode == 1
        assert "dicomport archive reindex" in done.stderr
        assert "Traceback" not in done.stderr


RAISING: Final = """
    import logging, sys, threading, warnings
    import dicomport.cli.archive as commands
    from dicomport.cli import main

    def raising(*_, **__):
        threading.Thread(target=fail).start()
        logging.getLogger("pydicom").warning("bad value %s", "Doe^John")
        logging.getLogger("sqlalchemy.pool").error("Doe^John")
        warnings.warn("Doe^John", stacklevel=1)
        Dying()
        fail()

    def fail():
        raise KeyError("Doe^John")

    class Dying:
        def __del__(self):
            fail()

    commands.archive.commands["ls"].callback = raising
    sys.warnoptions.append("default")
    main(["archive", "ls", *sys.argv[1:]])
"""


def test_no_line_of_the_json_format_is_anything_else() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(RAISING), "--log-format", "json"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1
    assert sorted(line["event"] for line in lines) == [
        *("command_failed", "exception_ignored", "library_log", "library_log", "library_log", "thread_failed"),
    ]
    assert all(line["at"] for line in lines)
    assert "Doe" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("storescp", "--no-such-option", "--log-format", "json"),
        ("storescp", "0", "--max-pdu", "many", "--log-format=json"),
        ("storescu", "--log-format", "JSON"),
        ("archive", "ls", "--archive", "nowhere", "--log-format", "json"),
        ("echoscu", "localhost", "1", "--log-format", "json"),
    ],
)
def test_an_error_before_the_option_is_json_too(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = dicomport(*arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["message"]


def test_an_error_in_a_file_that_chooses_json_is_json(tmp_path: Path) -> None:
    (tmp_path / "receiver.toml").write_text('log-format = "json"\nprot = 104\n')
    done = dicomport("storescp", "--config", tmp_path / "receiver.toml")
    assert done.returncode == 2
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["message"]


def test_an_interrupted_command_ends_with_one_json_line() -> None:
    process = start("password", "user", "--log-format", "json", stdin=subprocess.PIPE)
    try:
        # The interpreter has started when the command waits for its stdin, as nothing else opens it.
        wchan = Path(f"/proc/{process.pid}/syscall")
        while not wchan.read_text().startswith(f"{os_read()} 0x0 "):
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert [json.loads(line)["text"] for line in err.splitlines()] == ["interrupted"]


def os_read() -> int:
    """Return the number of the system call `read`."""
    return 0 if os.uname().machine == "x86_64" else 63


def test_output_that_nobody_reads_is_no_traceback(filled: Path) -> None:
    process = start("archive", "ls", "--archive", filled, "--json", "--log-format", "json")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == ""
    process.wait(60)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (SystemExit(), 0, ""),
        (SystemExit(3), 3, ""),
        (SystemExit("reason"), 1, ""),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (EOFError(), 130, "interrupted\n"),
        (OSError(errno.ENOSPC, "No space left on device", "/archive/x"), 1, "/archive/x: No space left on device"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device"),
    ],
)
def test_an_exception_that_ends_a_command_has_a_code_and_at_most_one_line(
    error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report_failure(error) == code
    err = capsys.readouterr().err
    assert text in err
    assert err.count("\n") == bool(text)


UNCAUGHT: Final = """
from dicomport.cli.failures import log_uncaught_exceptions
log_uncaught_exceptions()
raise {error}
"""


@pytest.mark.parametrize(
    ("error", "shown"),
    [('KeyError("Doe^John")', ""), ('OSError(28, "No space left on device", "x")', "x: No space left on device")],
)
def test_an_exception_outside_of_a_command_shows_no_value(error: str, shown: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNCAUGHT.format(error=error)], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert shown in done.stderr
    assert "Doe" not in done.stderr
    assert "Traceback" not in done.stderr

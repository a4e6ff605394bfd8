"""Reading commands: for a member of the group, without permission to write, with and without a running receiver."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.archive.sending import index_locked, instance, receiver
from tests.cli.commands import dicomport, receiver as process
from tests.small_disk import small_disk
from tests.users import as_member, give_to_group, shared_folder, without_coverage

from dicomport.archive import (
    Archive,
    ArchiveOptions,
    BusyIndexError,
    DamagedIndexError,
    Filters,
    Index,
    IndexDatabaseError,
    IndexReader,
    Paths,
    open_archive,
)
from dicomport.archive.file_record import record_of
from dicomport.files import Durability

FLUSH: Final = ArchiveOptions(durability=Durability.FLUSH)
COMMANDS: Final = (("ls",), ("ls", "--level", "instances"), ("show", "1.2.3"), ("verify",), ("ls", "--quarantine"))

MESSAGES: Final = {("verify",): "no discrepancies\n", ("ls", "--quarantine"): "no instances in quarantine\n"}


@pytest.fixture
def shared() -> Iterator[Path]:
    with shared_folder() as folder:
        yield folder / "archive"


def check_reading(root: Path, number: int, tmp: Path) -> None:
    """Run each reading command as a member of the group; nothing in the archive may change."""
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if not path.name.endswith("-shm")}
    for command in COMMANDS:
        done = as_member("archive", *command, "--archive", root)
        assert (done.returncode, done.stderr) == (0, MESSAGES.get(command, "")), command
    listed = as_member("archive", "ls", "--level", "instances", "--json", "--archive", root)
    assert len(listed.stdout.splitlines()) == number
    exported = as_member("archive", "export", "1.2.3", tmp / "copy.zip", "--archive", root)
    assert exported.returncode == 0, exported.stderr
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*") if not path.name.endswith("-shm")}
    assert after == before


def writable_by_all(folder: Path) -> Path:
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def test_a_group_member_reads_without_a_running_receiver(shared: Path) -> None:
    with receiver(shared, FLUSH) as received:
        assert received.send(instance(), instance("1.2.3.5")) == [0, 0]
    assert not list(shared.glob(".dicomport/*-wal"))
    give_to_group(shared)
    check_reading(shared, 2, writable_by_all(shared.parent / "out"))


def test_a_group_member_reads_with_a_running_receiver(shared: Path) -> None:
    with receiver(shared, FLUSH) as received:
        assert received.send(instance(), instance("1.2.3.5")) == [0, 0]
        while len(received.archive.index.instances(Filters())) < 2:
            pass
        assert list(shared.glob(".dicomport/*-wal"))
        give_to_group(shared)
        check_reading(shared, 2, writable_by_all(shared.parent / "out"))
        if os.geteuid() == 0:
            assert received.send(instance("1.2.3.6")) == [0]


def test_a_group_member_reads_after_a_kill(shared: Path) -> None:
    with process(shared) as running:
        sent = dicomport("storescu", "localhost", running.port, *_two_files(shared.parent))
        assert sent.returncode == 0, sent.stderr
        reader = IndexReader(Paths(shared).index)
        while len(reader.instances(Filters())) < 2:
            pass
        running.stop(signal.SIGKILL)
    give_to_group(shared)
    listed = as_member("archive", "ls", "--level", "instances", "--json", "--archive", shared)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert as_member("archive", "verify", "--archive", shared).returncode == 0


@pytest.fixture
def with_log(shared: Path) -> Path:
    """Copy an archive as a backup does after a kill: instances are in the log alone, whose shared memory is missing."""
    source = shared.with_name("source")
    with receiver(source, FLUSH) as received:
        assert received.send(instance()) == [0]
    with receiver(source, FLUSH) as received:
        assert received.send(instance("1.2.3.5")) == [0]
        while len(received.archive.index.instances(Filters())) < 2:
            pass
        shutil.copytree(source, shared, ignore=shutil.ignore_patterns("*-shm", "session-*"))
    assert list(shared.glob(".dicomport/*-wal"))
    assert not list(shared.glob(".dicomport/*-shm"))
    give_to_group(shared)
    return shared


def test_a_group_member_reads_a_log_without_its_shared_memory(with_log: Path) -> None:
    before = sorted(with_log.rglob("*"))
    scratch = writable_by_all(with_log.parent / "scratch")
    for command in COMMANDS[:-1]:
        done = as_member("archive", *command, "--archive", with_log, TMPDIR=str(scratch))
        assert (done.returncode, done.stderr) == (0, MESSAGES.get(command, "")), command
    listed = as_member("archive", "ls", "--level", "instances", "--json", "--archive", with_log, TMPDIR=str(scratch))
    assert (listed.returncode, listed.stderr) == (0, "")
    assert len(listed.stdout.splitlines()) == 2
    # Neither the archive nor the folder of the copies is changed.
    assert sorted(with_log.rglob("*")) == before
    assert list(scratch.iterdir()) == []


def test_a_log_that_cannot_be_copied_is_named_with_its_remedy(with_log: Path) -> None:
    with small_disk(with_log.parent / "scratch", 1 << 20) as scratch:
        scratch.chmod(0o1777)
        with (scratch / "ballast").open("wb") as ballast:
            ballast.write(bytes((1 << 20) - 16384))
        done = as_member("archive", "ls", "--archive", with_log, TMPDIR=str(scratch))
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert "cannot be copied to the folder for temporary files (No space left on device): set TMPDIR" in line
        assert {path.name for path in scratch.iterdir()} == {"ballast"}


def test_the_copy_of_an_index_follows_its_changes(with_log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers that may not create the shared memory: each query sees the present state."""
    run = IndexReader._run

    def refuse(self: IndexReader, path: Path, query: Any, mode: str, copy: Path | None = None) -> Any:
        if copy is None and mode == "mode=ro":
            raise IndexDatabaseError("the index cannot be used: unable to open database file")
        return run(self, path, query, mode, copy)

    monkeypatch.setattr(IndexReader, "_run", refuse)
    reader = IndexReader(Paths(with_log).index)
    assert len(reader.instances(Filters())) == 2
    with receiver(with_log, FLUSH) as received:
        assert received.send(instance("1.2.3.6")) == [0]
    assert len(reader.instances(Filters())) == 3


def _two_files(folder: Path) -> list[Path]:
    with receiver(folder / "source", FLUSH) as received:
        assert received.send(instance(), instance("1.2.3.5")) == [0, 0]
    return sorted((folder / "source").glob("1*/*/*.dcm"))


def test_records_that_stay_in_the_journal_of_a_dead_receiver_are_named(shared: Path) -> None:
    with receiver(shared, FLUSH) as received, index_locked(received.archive):
        assert received.send(instance()) == [0]
        [path] = shared.glob("1*/*/*.dcm")
        [journal] = shared.glob(".dicomport/sessions/*/*.jsonl")
        kept = journal.read_text()
    # As if the receiver had died a while ago, before it could index the instance.
    for file in shared.glob(".dicomport/index*"):
        file.unlink()
    path.rename(shared / "kept")
    Archive(shared).close()
    (shared / "kept").rename(path)
    os.utime(path, ns=(10**18, 10**18))
    dead = shared / ".dicomport/sessions/session-dead"
    dead.mkdir()
    received_at = json.loads(kept)[7]
    (dead / "journal-00000000.jsonl").write_text(kept.replace(received_at, "2001-09-09T01:46:40.000000+00:00"))
    dead.chmod(0o750)
    give_to_group(shared)
    listed = as_member("archive", "ls", "--archive", shared)
    assert listed.returncode == 0
    assert "1 instance of a stopped receiver not in the index (the index cannot be used: " in listed.stderr
    assert f'start a receiver of this archive, or run dicomport archive reindex "{shared}"' in listed.stderr


@pytest.mark.parametrize("command", [*COMMANDS, ("export", "1.2.3", "/tmp/never")])
def test_f15_another_user_is_refused_without_a_traceback(shared: Path, command: tuple[str, ...]) -> None:
    with receiver(shared, FLUSH) as received:
        assert received.send(instance()) == [0]
    give_to_group(shared)
    if os.geteuid():
        shared.chmod(0)
    done = as_member("archive", *command, "--archive", shared, member=False)
    shared.chmod(0o750)
    assert done.returncode in {1, 2}
    assert "Traceback" not in done.stderr
    assert "ermission denied" in done.stderr or "is not readable" in done.stderr


@pytest.mark.parametrize("command", [*COMMANDS[:-1], ("export", "1.2.3", "/tmp/never")])
def test_a_malformed_index_is_named_without_a_traceback(tmp_path: Path, command: tuple[str, ...]) -> None:
    with receiver(tmp_path, FLUSH) as received:
        assert received.send(*(instance(f"1.2.{number}") for number in range(50))) == [0] * 50
    [index] = tmp_path.glob(".dicomport/index*.sqlite")
    data = index.read_bytes()
    index.write_bytes(data[:8192] + b"\xa5" * (len(data) - 8192))
    done = dicomport("archive", *command, "--archive", tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "run dicomport archive reindex" in done.stderr


def test_an_unreadable_file_is_named_and_everything_else_is_read(shared: Path) -> None:
    with receiver(shared, FLUSH) as received:
        assert received.send(instance()) == [0]
    give_to_group(shared)
    [path] = shared.glob("1*/*/*.dcm")
    path.chmod(0)
    codes = {}
    for command in (*COMMANDS, ("export", "1.2.3", "/tmp/never")):
        done = as_member("archive", *command, "--archive", shared)
        assert "Traceback" not in done.stderr
        codes[command[0]] = done.returncode
        if command[0] in {"verify", "export"}:
            assert path.name in done.stdout + done.stderr
            assert "ermission denied" in done.stdout + done.stderr
    assert codes == {"ls": 0, "show": 0, "verify": 1, "export": 1}


def on_terminal(*arguments: str | Path, variables: dict[str, str]) -> tuple[int, bytes]:
    """Run a command on a terminal; return its exit code and all output."""
    terminal, own = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dicomport", *map(str, arguments)],
        stdin=own,
        stdout=own,
        stderr=own,
        env={**os.environ, "TERM": "xterm", **variables},
    )
    os.close(own)
    output = b""
    # The terminal ends with an error when the command has closed it.
    with contextlib.suppress(OSError):
        while data := os.read(terminal, 1 << 16):
            output += data
    os.close(terminal)
    return process.wait(60), output


@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_an_ascii_terminal_shows_everything(tmp_path: Path, variables: dict[str, str]) -> None:
    long = "Ä" * 300
    with receiver(tmp_path, FLUSH) as received:
        assert received.send(instance(patient=long, modality="Ö"), instance("1.2.3.5", patient="B")) == [0, 0]
    for command in (*COMMANDS, ("reindex",)):
        code, output = on_terminal("archive", *command, "--archive", tmp_path, variables=variables)
        assert b"Traceback" not in output, output
        assert code == (1 if command == ("verify",) else 0), output
        assert output.isascii()


def test_a_receiver_that_begins_meanwhile_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is read without locks while no receiver runs: the result counts only if none has begun."""
    with receiver(tmp_path, FLUSH) as received:
        assert received.send(instance()) == [0]
    reader = IndexReader(Paths(tmp_path).index)
    select, begun = IndexReader._select, list[contextlib.ExitStack]()

    def select_and_begin(self: IndexReader, *arguments: object) -> object:
        rows = select(self, *arguments)  # type: ignore[arg-type]
        if not begun:
            begun.append(contextlib.ExitStack())
            running = begun[0].enter_context(receiver(tmp_path, FLUSH))
            assert running.send(instance("1.2.3.5")) == [0]
            while len(running.archive.index.instances(Filters())) < 2:
                pass
        return rows

    monkeypatch.setattr(IndexReader, "_select", select_and_begin)
    try:
        assert len(reader.instances(Filters())) == 2
    finally:
        begun[0].close()
    assert len(reader.instances(Filters())) == 2


def test_readers_work_while_receivers_begin_and_end(tmp_path: Path) -> None:
    with receiver(tmp_path, FLUSH) as received:
        assert received.send(instance("1.1")) == [0]
    stop, read, failures = threading.Event(), 0, list[str]()

    def begin_and_end() -> None:
        number = 1
        while not stop.is_set():
            with receiver(tmp_path, FLUSH) as received:
                number += 1
                if received.send(instance(f"1.{number}")) != [0]:
                    failures.append("refused")

    thread = threading.Thread(target=begin_and_end)
    thread.start()
    try:
        last = 1
        while read < 200:
            with open_archive(tmp_path) as (_, index), contextlib.suppress(BusyIndexError):
                number = len(index.instances(Filters()))
                assert number >= last
                last = number
                read += 1
    finally:
        stop.set()
        thread.join()
    assert failures == []


def test_a_missing_index_is_named(tmp_path: Path) -> None:
    with receiver(tmp_path, FLUSH) as received:
        assert received.send(instance()) == [0]
    [index] = tmp_path.glob(".dicomport/index*")
    index.unlink()
    with pytest.raises(DamagedIndexError, match=r"missing.*reindex"), open_archive(tmp_path):
        pass


def test_a_path_with_special_characters_is_read(tmp_path: Path) -> None:
    root = tmp_path / "a?b#c%41 'd'"
    with receiver(root, FLUSH) as received:
        assert received.send(instance()) == [0]
    with open_archive(root) as (_, index):
        assert len(index.instances(Filters())) == 1
    shutil.rmtree(root)
    assert sqlite3.sqlite_version_info >= (3, 22), "reading a log without its shared memory"


def test_reading_needs_no_space_on_the_disk(tmp_path: Path) -> None:
    """Every write to a file fails, also that of the recovery of a killed receiver."""
    with process(tmp_path / "archive") as running:
        sent = dicomport("storescu", "localhost", running.port, *_two_files(tmp_path))
        assert sent.returncode == 0, sent.stderr
        reader = IndexReader(Paths(tmp_path / "archive").index)
        while len(reader.instances(Filters())) < 2:
            pass
        running.stop(signal.SIGKILL)
    for command in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-m", "dicomport", "archive", *command, "--archive", str(tmp_path / "archive")],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            env=without_coverage(),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),  # no threads run
        )
        assert (done.returncode, done.stderr) == (0, MESSAGES.get(command, "")), command


def test_no_error_of_the_index_has_attribute_values(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret = "SECRET^PATIENT"
    with receiver(tmp_path, FLUSH) as received:
        assert received.send(*(instance(f"1.2.{number}", patient=secret) for number in range(50))) == [0] * 50
    paths = Paths(tmp_path)
    [index] = tmp_path.glob(".dicomport/index*.sqlite")
    record = record_of(paths, next(tmp_path.glob("1*/*/*.dcm")))
    assert record.attributes.patient_id == secret
    opened, reader = Index(paths.index), IndexReader(paths.index)
    data = index.read_bytes()
    index.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))
    errors = []
    for call in (
        lambda: opened.add([record]),
        lambda: opened.instances(Filters(patient_id=secret)),
        lambda: reader.instances(Filters(patient_id=secret)),
        lambda: reader.studies(Filters(patient_id=secret)),
    ):
        with pytest.raises(DamagedIndexError) as raised:
            call()
        errors.append("".join(traceback.format_exception(raised.value, chain=True)))
    opened.close()
    assert len(errors) == 4
    assert not [error for error in errors if secret in error]
    assert secret not in caplog.text

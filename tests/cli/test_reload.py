"""SIGHUP: peers, passwords, TLS, quiet hours and log level are read again, all or nothing, and no process ends."""

from __future__ import annotations

import os
import queue
import re
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from tests.certificates import Files, Identity
from tests.cli.commands import Receiver, receiver, start, wait_until
from tests.commitment.asking import SCU, expect_report
from tests.slow_file import slow_file

from dicomport import ConnectError, RejectedError, blocking, tls_client_context, tls_server_context
from dicomport.cli.options.identity import IdentityItem
from dicomport.scp import hash_password
from dicomport.testing import Peer, ScriptedSCP
from dicomport.wire import Abort, AbortReason, UserIdentityRQ

VERIFICATION: Final = "1.2.840.10008.1.1"
WORKERS: Final = 2


class Reloading:
    """A receiver with a configuration file, and the events that its reloads log."""

    def __init__(self, found: Receiver, settings: Path, processes: int) -> None:
        self.found = found
        self.settings = settings
        self.processes = processes

    def signal(self) -> None:
        os.kill(self.found.process.pid, signal.SIGHUP)

    def lines_until(self, event: str, count: int = 1) -> list[str]:
        """Return the lines of the log up to so many with this text."""
        stream = self.found.process.stderr
        assert stream is not None
        lines = []
        for line in stream:
            lines.append(line)
            count -= event in line
            if not count:
                return lines
        raise AssertionError(lines)

    def reload(self, event: str, count: int) -> str:
        """Send SIGHUP, and return the last of so many events."""
        self.signal()
        return self.lines_until(event, count)[-1]

    def wait_reloaded(self) -> None:
        """Wait until the parent and each worker use new settings."""
        self.lines_until("settings_reloaded", self.processes)

    def reloaded(self, text: str) -> None:
        """Reload valid settings."""
        self.settings.write_text(f"verbose = true\n{text}")
        self.signal()
        self.wait_reloaded()

    def refused(self, text: str) -> str:
        """Reload invalid settings: they are validated once."""
        self.settings.write_text(text)
        return self.reload("reload_failed", 1)

    def accepts(self, title: str, password: str = "") -> bool:
        # Any worker may answer: after a reload, all do so in the same way.
        answers = {self.accepts_once(title, password) for _ in range(4)}
        assert len(answers) == 1
        return answers == {True}

    def accepts_once(self, title: str, password: str = "") -> bool:
        identity: IdentityItem = {}
        if password:
            identity = {"user_identity": UserIdentityRQ(2, True, b"user", password.encode())}
        try:
            with blocking.associate(
                "127.0.0.1",
                int(self.found.port),
                contexts=[VERIFICATION],
                ae_title=title,
                **identity,
            ) as association:
                return association.c_echo().accepted
        except RejectedError:
            return False


@pytest.fixture(params=[1, WORKERS], ids=["one process", "workers"])
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Reloading]:
    settings = tmp_path / "receiver.toml"
    settings.write_text("[peers.ct]\nae-title = 'CT1'\n")
    options = ("--config", settings, "--workers", str(request.param))
    with receiver(tmp_path / "archive", *options) as found:
        assert Reloading(found, settings, request.param).accepts("CT1")
        yield Reloading(found, settings, request.param)


def test_peers_are_reloaded_and_running_associations_stay(running: Reloading) -> None:
    assert not running.accepts("MR1")
    with blocking.associate(
        "localhost", int(running.found.port), contexts=[VERIFICATION], ae_title="CT1"
    ) as association:
        running.reloaded("[peers.mr]\nae-title = 'MR1'\n")
        assert running.accepts("MR1")
        assert not running.accepts("CT1")
        assert association.c_echo().accepted
    code, _, err = running.found.stop()
    assert (code, "Traceback" in err) == (0, False)


def test_a_broken_file_keeps_the_old_settings(running: Reloading) -> None:
    for text, problem in (
        ("[peers.mr]\nae-title = 'MR1'\nnetworks = ['x']\n", "is not an address or network"),
        ("prot = 104\n[peers.mr]\nae-title = 'MR1'\n", "unknown setting"),
        ("[peers.mr]\nae-title = 'MR1'\n[peers", "is not valid TOML"),
        ("passwords = 'nowhere'\n[peers.mr]\nae-title = 'MR1'\n", "does not exist"),
        ("tls-cert = 'nowhere'\n[peers.mr]\nae-title = 'MR1'\n", "--tls-ca FILE"),
        ("[peers.mr]\nae-title = 'MR1'\narchive = 'new'\n", "is new: restart the receiver"),
        ("tls-profile = 'x'", "x"),
    ):
        assert problem in running.refused(text).replace('\\"', '"')
        assert (running.accepts("CT1"), running.accepts("MR1")) == (True, False)
    running.settings.unlink()
    os.kill(running.found.process.pid, signal.SIGHUP)
    assert running.accepts("CT1")
    assert running.found.stop()[0] == 0


def test_a_pipe_is_not_read_again_and_stops_nothing(running: Reloading, tmp_path: Path) -> None:
    # A pipe of the shell, such as --config <(command), has no writer any more: a read would wait for ever.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "pipe is not a regular file" in running.refused("passwords = 'pipe'\n[peers.mr]\nae-title = 'MR1'\n")
    assert (running.accepts("CT1"), running.accepts("MR1")) == (True, False)
    folder = tmp_path / "authorities"
    folder.mkdir()
    os.mkfifo(folder / "pipe.pem")
    assert "pipe.pem is not a regular file" in running.refused("tls-ca = 'authorities'\n[peers.mr]\nae-title = 'MR1'\n")
    pipe.replace(running.settings)
    assert "restart the receiver" in running.reload("reload_failed", 1)
    assert running.accepts("CT1")
    assert running.found.stop()[0] == 0


def test_an_empty_file_of_passwords_keeps_the_old_users(running: Reloading, tmp_path: Path) -> None:
    # As `dicomport password NAME > passwords` leaves it while it asks for the password.
    (tmp_path / "passwords").write_text("# users\n")
    assert "contains no user" in running.refused("passwords = 'passwords'\n[peers.ct]\nae-title = 'CT1'\n")
    assert running.accepts("CT1")


def test_passwords_are_reloaded(running: Reloading, tmp_path: Path) -> None:
    (tmp_path / "users").write_text(hash_password("user", "old") + "\n")
    running.reloaded("passwords = 'users'\n[peers.ct]\nae-title = 'CT1'\n")
    assert not running.accepts("CT1")
    assert running.accepts("CT1", "old")
    (tmp_path / "users").write_text(hash_password("user", "new") + "\n")
    running.reloaded("passwords = 'users'\n[peers.ct]\nae-title = 'CT1'\n")
    assert running.accepts("CT1", "new")
    assert not running.accepts("CT1", "old")
    (tmp_path / "users").write_text("broken\n")
    assert "line 1" in running.reload("reload_failed", 1)
    assert running.accepts("CT1", "new")


def test_a_receiver_without_anything_to_reload_continues(tmp_path: Path) -> None:
    for workers in ("1", "2"):
        with receiver(tmp_path / "archive", "--workers", workers) as found:
            for _ in range(5):
                os.kill(found.process.pid, signal.SIGHUP)
            assert Reloading(found, tmp_path, 1).accepts("ANY")
            assert found.stop()[0] == 0


PASSWORDS: Final = "passwords = 'users'\n[peers.ct]\nae-title = 'CT1'\n"


@pytest.fixture
def users(running: Reloading, tmp_path: Path) -> Path:
    """Return a file of passwords that the next reload reads."""
    path = tmp_path / "users"
    path.write_text(hash_password("user", "new") + "\n")
    running.settings.write_text(f"verbose = true\n{PASSWORDS}")
    return path


def test_a_slow_file_delays_no_association(running: Reloading, users: Path) -> None:
    with slow_file(users) as slow:
        running.signal()
        slow.wait_for_reader()
        assert running.accepts("CT1")
        assert slow.holds_reader()
        slow.release()
    running.wait_reloaded()
    assert (running.accepts("CT1"), running.accepts("CT1", "new")) == (False, True)


def test_a_slow_file_does_not_delay_the_end(running: Reloading, users: Path) -> None:
    with slow_file(users) as slow:
        running.signal()
        slow.wait_for_reader()
        code, _, err = running.found.stop()
        assert (code, "Traceback" in err) == (0, False)
        assert slow.holds_reader()


@pytest.mark.parametrize("running", [WORKERS], ids=["workers"], indirect=True)
def test_a_killed_reading_keeps_the_settings(running: Reloading, users: Path) -> None:
    with slow_file(users) as slow:
        running.signal()
        slow.wait_for_reader()
        parent = running.found.process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        os.kill(max(map(int, children)), signal.SIGKILL)
        assert "the process that reads the settings ended with exit code" in running.lines_until("reload_failed")[-1]
    assert running.accepts("CT1")
    running.signal()
    running.wait_reloaded()
    assert (running.accepts("CT1"), running.accepts("CT1", "new")) == (False, True)


def test_a_file_that_changes_after_its_check_is_not_read_again(running: Reloading, users: Path, tmp_path: Path) -> None:
    with slow_file(users) as slow:
        running.signal()
        slow.wait_for_reader()
        # The reader has found the file; all others would find this one.
        (tmp_path / "other").write_text("broken\n")
        (tmp_path / "other").replace(users)
        slow.release()
    running.wait_reloaded()
    assert (running.accepts("CT1"), running.accepts("CT1", "new")) == (False, True)


def workers_of(found: Receiver) -> set[int]:
    process = found.process.pid
    return {int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()}


@pytest.fixture
def with_workers(tmp_path: Path) -> Iterator[Reloading]:
    settings = tmp_path / "receiver.toml"
    settings.write_text("[peers.ct]\nae-title = 'CT1'\n")
    with receiver(tmp_path / "archive", "--config", settings, "--workers", str(WORKERS)) as found:
        wait_until(lambda: len(workers_of(found)) == WORKERS)
        yield Reloading(found, settings, WORKERS)


def test_settings_that_one_worker_cannot_use_are_used_by_none(with_workers: Reloading) -> None:
    running = with_workers
    stopped = max(workers_of(running.found))
    os.kill(stopped, signal.SIGSTOP)
    answer = running.refused("[peers.mr]\nae-title = 'MR1'\n")
    assert "worker 1 cannot use the settings: it did not answer within" in answer
    os.kill(stopped, signal.SIGCONT)
    assert (running.accepts("CT1"), running.accepts("MR1")) == (True, False)
    running.reloaded("[peers.mr]\nae-title = 'MR1'\n")
    assert (running.accepts("CT1"), running.accepts("MR1")) == (False, True)


def test_a_worker_that_dies_during_a_reload_does_not_stop_it(with_workers: Reloading) -> None:
    running = with_workers
    dying = max(workers_of(running.found))
    os.kill(dying, signal.SIGSTOP)
    running.settings.write_text("verbose = true\n[peers.mr]\nae-title = 'MR1'\n")
    running.signal()
    os.kill(dying, signal.SIGKILL)
    running.lines_until("settings_reloaded")
    wait_until(lambda: len(workers_of(running.found) - {dying}) == WORKERS)
    assert (running.accepts("CT1"), running.accepts("MR1")) == (False, True)
    assert running.found.stop()[0] == 0


def test_a_worker_that_starts_later_has_the_settings_of_the_others(with_workers: Reloading, tmp_path: Path) -> None:
    running, users = with_workers, tmp_path / "users"
    users.write_text(hash_password("user", "new") + "\n")
    running.reloaded(PASSWORDS)
    users.write_text("broken\n")
    before = workers_of(running.found)
    for process in before:
        os.kill(process, signal.SIGKILL)
    wait_until(lambda: len(workers_of(running.found) - before) == WORKERS)
    assert (running.accepts("CT1"), running.accepts("CT1", "new")) == (False, True)


def serves(found: Receiver, authority: Path) -> bool:
    """Return whether the receiver has a certificate of an authority; any worker may answer."""
    answers = set()
    for _ in range(4):
        try:
            tls = tls_client_context(authorities=authority)
            with blocking.associate("127.0.0.1", int(found.port), contexts=[VERIFICATION], tls=tls) as association:
                answers.add(association.c_echo().accepted)
        except ConnectError:
            answers.add(False)
    assert len(answers) == 1
    return answers == {True}


def tls_settings(identity: Identity) -> str:
    return f"verbose = true\ntls-cert = '{identity.certificate}'\ntls-key = '{identity.key}'\n"


@pytest.mark.parametrize("processes", [1, WORKERS])
def test_all_processes_use_the_certificate_and_key_that_were_checked(tmp_path: Path, processes: int) -> None:
    old, new = Files(tmp_path / "old"), Files(tmp_path / "new")
    renewed, settings = new.issue("127.0.0.1"), tmp_path / "receiver.toml"
    anonymous = "tls-anonymous-clients = true\n"
    settings.write_text(tls_settings(old.issue("127.0.0.1")) + anonymous)
    with receiver(tmp_path / "archive", "--config", settings, "--workers", str(processes)) as found:
        running = Reloading(found, settings, processes)
        assert serves(found, old.authority)
        settings.write_text(tls_settings(renewed) + anonymous)
        with slow_file(renewed.key) as slow:
            running.signal()
            slow.wait_for_reader()
            for path in (renewed.certificate, renewed.key):
                path.unlink()
            slow.release()
        running.wait_reloaded()
        assert (serves(found, new.authority), serves(found, old.authority)) == (True, False)
        # They are still used by a worker that starts later.
        before = workers_of(found)
        if before:
            os.kill(min(before), signal.SIGKILL)
            wait_until(lambda: len(workers_of(found) - {min(before)}) == processes)
        assert serves(found, new.authority)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("max-associations = 7", "--max-associations"),
        ("ae-title = 'OTHER'", "--ae-title"),
        ("require-called-aet = true", "--require-called-aet"),
        ("commit-to = ['CT1=192.0.2.7:104']", "--commit-to"),
        ("log-format = 'json'", "--log-format"),
        ("layout = '{study}/{instance}'\nmin-free = '5G'", "--layout, --min-free"),
    ],
)
def test_a_setting_that_needs_a_restart_is_named(running: Reloading, text: str, name: str) -> None:
    assert f"cannot change {name} in a running receiver: restart it" in running.refused(
        f"{text}\n[peers.mr]\nae-title = 'MR1'\n"
    )
    assert (running.accepts("CT1"), running.accepts("MR1")) == (True, False)


def test_quiet_hours_are_reloaded(running: Reloading) -> None:
    now = datetime.now()  # noqa: DTZ005  # local time
    start, end = (f"{now + timedelta(hours=hours):%H:%M}" for hours in (-6, 6))
    hours = f"[verify]\nstart = '{start}'\nend = '{end}'\nrate = '{{}}'\n"
    running.settings.write_text("verbose = true\n[peers.ct]\nae-title = 'CT1'\n" + hours.format("10M"))
    running.reload("verification_finished", 1)
    # Other quiet hours, and then none.
    running.settings.write_text("verbose = true\n[peers.ct]\nae-title = 'CT1'\n" + hours.format("20M"))
    running.reload("verification_finished", 1)
    running.reloaded("[peers.ct]\nae-title = 'CT1'\n")
    assert running.accepts("CT1")
    code, _, err = running.found.stop()
    assert (code, "Traceback" in err, "verification_begun" in err) == (0, False, False)


def test_the_log_level_is_reloaded(running: Reloading) -> None:
    events = []
    for level in ("debug", "verbose"):
        running.settings.write_text(f"{level} = true\n[peers.ct]\nae-title = 'CT1'\n")
        running.signal()
        running.wait_reloaded()
        assert running.accepts("CT1")
        events.append("".join(running.lines_until("association_ended", 4)))
    assert ["pdu_received" in text for text in events] == [True, False]


def test_a_quiet_receiver_logs_errors_only(tmp_path: Path) -> None:
    settings = tmp_path / "receiver.toml"
    settings.write_text("verbose = true\n[peers.ct]\nae-title = 'CT1'\n")
    with receiver(tmp_path / "archive", "--config", settings) as found:
        running = Reloading(found, settings, 1)
        settings.write_text("quiet = true\n[peers.mr]\nae-title = 'MR1'\n")
        running.signal()
        wait_until(lambda: running.accepts_once("MR1"))
        running.refused("x = 1")
        assert not running.accepts("CT1")
        running.signal()
        [line] = running.lines_until("reload_failed")
        assert "ERROR" in line


def test_reports_use_the_reloaded_certificate(tmp_path: Path) -> None:
    old, new, reports = Files(tmp_path / "old"), Files(tmp_path / "new"), queue.SimpleQueue[str]()
    ours, renewed, theirs = old.issue("127.0.0.1"), new.issue("127.0.0.1"), new.issue("modality.example")
    trusted, settings = tmp_path / "trusted.pem", tmp_path / "receiver.toml"
    trusted.write_bytes(old.authority.read_bytes() + new.authority.read_bytes())

    def listen(peer: Peer) -> None:
        peer.accept()
        reports.put(expect_report(peer)[1].transaction_uid)
        assert list(peer.requests()) == []

    # It accepts certificates of the new authority only.
    listening = tls_server_context(renewed.certificate, renewed.key, authorities=new.authority)
    client = tls_client_context(certificate=theirs.certificate, key=theirs.key, authorities=new.authority)
    with ScriptedSCP(listen, tls=listening) as peer:
        text = f"tls-ca = '{trusted}'\ncommit-to = ['SCRIPTED=127.0.0.1:{peer.port}']\n"
        settings.write_text(tls_settings(ours) + text)
        with receiver(tmp_path / "archive", "--config", settings) as found:
            running = Reloading(found, settings, 1)
            settings.write_text(tls_settings(renewed) + text)
            running.signal()
            running.wait_reloaded()
            with SCU(int(found.port), tls=client) as scu:
                assert scu.ask("1.2.3", "1.2.4") == 0x0000
                scu.send(Abort(AbortReason.SERVICE_USER))
            assert reports.get(timeout=60) == "1.2.3"
            assert found.stop()[0] == 0


def test_a_reload_is_logged_once_by_each_process(running: Reloading, tmp_path: Path) -> None:
    (tmp_path / "users").write_text(hash_password("user", "new") + "\n")
    running.reloaded(PASSWORDS)
    code, _, err = running.found.stop()
    assert (code, "settings_reloaded" in err) == (0, False)


def test_a_reload_has_no_line_outside_the_log(running: Reloading, tmp_path: Path) -> None:
    (tmp_path / "users").write_text(hash_password("user", "new") + "\n")
    running.settings.write_text(f"verbose = true\n{PASSWORDS}")
    running.signal()
    lines = running.lines_until("settings_reloaded", running.processes)
    [_] = [line for line in lines if "passwords_unencrypted" in line]
    assert all(re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T", line) for line in lines)
    workers = {match[1] for line in lines if (match := re.search(r"settings_reloaded.* worker=([0-9])", line))}
    assert workers == (set() if running.processes == 1 else {"0", "1"})


@pytest.mark.parametrize("key", ["archive", "output-directory"])
def test_a_setting_with_two_names_is_named_as_in_the_file(key: str, tmp_path: Path) -> None:
    settings = tmp_path / "receiver.toml"
    settings.write_text(f"{key} = 'one'\n")
    process = start("storescp", "0", "--config", settings)
    try:
        assert process.stderr is not None
        assert any("storing in" in line for line in process.stderr)
        settings.write_text(f"{key} = 'other'\n")
        process.send_signal(signal.SIGHUP)
        failed = next(line for line in process.stderr if "reload_failed" in line)
        assert f"cannot change --{key} in a running receiver" in failed
    finally:
        process.kill()
        process.communicate()

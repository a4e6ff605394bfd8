"""SIGHUP: peers, passwords, TLS and the log level are read again, all or nothing, and no process ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.cli.commands import Receiver, receiver

from dicomport import RejectedError, blocking
from dicomport.cli.options.identity import IdentityItem
from dicomport.scp import hash_password
from dicomport.wire import UserIdentityRQ

VERIFICATION: Final = "1.2.840.10008.1.1"
WORKERS: Final = 2


class Reloading:
    """A receiver with a configuration file, and the events that its reloads log."""

    def __init__(self, found: Receiver, settings: Path, processes: int) -> None:
        self.found = found
        self.settings = settings
        self.processes = processes

    def reload(self, event: str, count: int) -> str:
        """Send SIGHUP, and return the last of so many events."""
        os.kill(self.found.process.pid, signal.SIGHUP)
        stream = self.found.process.stderr
        assert stream is not None
        lines = (line for line in stream if event in line)
        return [next(lines) for _ in range(count)][-1]

    def reloaded(self, text: str) -> None:
        """Reload valid settings: the parent and each worker have them then."""
        self.settings.write_text(f"verbose = true\n{text}")
        self.reload("settings_reloaded", 1 if self.processes == 1 else 1 + self.processes)

    def refused(self, text: str) -> str:
        """Reload invalid settings: they are validated once."""
        self.settings.write_text(text)
        return self.reload("reload_failed", 1)

    def accepts(self, title: str, password: str = "") -> bool:
        # Any worker may answer: after a reload, all do so in the same way.
        answers = {self._accepts(title, password) for _ in range(4)}
        assert len(answers) == 1
        return answers == {True}

    def _accepts(self, title: str, password: str) -> bool:
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

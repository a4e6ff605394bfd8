"""One honest sender and seven hostile peers at once: its slowest C-STORE stays quick, and no instance is refused.

This is the one test of a time: a bound that is relative to the same sender without the others, or half a second.
"""

import contextlib
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from tests.cli.commands import Receiver, dicomport, receiver
from tests.robustness.attacks import data_set
from tests.robustness.hostile import ATTACKS, CT, PASSWORD, USER

from dicomport.scp import hash_password
from dicomport.testing import Peer, association_request
from dicomport.wire import AssociateAC, UserIdentityRQ

TIMES: Final = 5
SECONDS: Final = 0.5
"""The slowest C-STORE takes at most so many times the slowest one before the attacks, or so many seconds."""

UNDISTURBED: Final = 300
DISTURBED: Final = 600
AN_ASSOCIATION: Final = 100
"""Instances of each association of the honest sender."""

PIXELS: Final = bytes(50_000)


class Honest:
    """A sender that measures its C-STOREs."""

    def __init__(self, port: int) -> None:
        self.stored: list[str] = []
        self._port = port

    def store(self, count: int) -> Iterator[float]:
        """Store instances on one association, and yield the seconds of each."""
        with self._associated() as peer:
            for _ in range(count):
                uid = f"1.2.9.{len(self.stored)}"
                data = data_set(uid, PIXELS, study="1.2.9")
                began = time.monotonic()
                response = peer.store(uid, data)
                yield time.monotonic() - began
                assert response.status == 0x0000
                self.stored.append(uid)
            peer.release()

    @contextlib.contextmanager
    def _associated(self) -> Iterator[Peer]:
        request = association_request(CT, calling="HONEST")
        identity = UserIdentityRQ(2, positive_response_requested=False, primary_field=USER, secondary_field=PASSWORD)
        sock = socket.create_connection(("127.0.0.1", self._port))
        with contextlib.closing(Peer(sock)) as peer:
            peer.send(replace(request, user_information=replace(request.user_information, user_identity=identity)))
            peer.expect(AssociateAC)
            yield peer


class Hostile:
    """The hostile peers, in a separate process."""

    def __init__(self, port: str) -> None:
        command = [sys.executable, "-m", "tests.robustness.hostile", port]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._lines = self._process.stdout
        self.proven: set[str] = set()

    def prove(self) -> None:
        """Wait until one more attack has proven itself."""
        self.proven.add(self._lines.readline().strip())

    def stop(self) -> dict[str, int]:
        """End the attacks and return their counts."""
        out, _ = self._process.communicate("", timeout=60)
        return {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", out)}

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.mark.timeout(400)
def test_hostile_peers_do_not_hold_up_an_honest_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Measuring the coverage would slow the receiver down.
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    passwords = tmp_path / "passwords"
    passwords.write_text(hash_password(USER.decode(), PASSWORD.decode()) + "\n")
    # The reports to this address are never taken.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = ("--passwords", passwords, "--commit-to", f"REFERENCES=127.0.0.1:{silent.getsockname()[1]}")
        with receiver(tmp_path / "archive", *options) as target:
            with _log_of(target):
                undisturbed, disturbed = _measure(target)
                memory = _peak_memory(target.process.pid)
                target.process.terminate()
            code = target.process.wait(timeout=60)
    bound = max(TIMES * max(undisturbed), SECONDS)
    assert max(disturbed) < bound, sorted(disturbed)[-10:]
    assert memory < 400 << 20
    assert code == 0
    verified = dicomport("archive", "verify", "--archive", tmp_path / "archive")
    assert verified.returncode == 0, verified.stdout[-2000:] + verified.stderr[-2000:]


@contextlib.contextmanager
def _log_of(target: Receiver) -> Iterator[None]:
    """Read the log until its end, so that the receiver does not wait for a reader."""
    assert target.process.stderr is not None
    reader = threading.Thread(target=target.process.stderr.read)
    reader.start()
    yield
    reader.join()


def _measure(target: Receiver) -> tuple[list[float], list[float]]:
    """Return the seconds of the honest C-STOREs before and during the attacks."""
    honest = Honest(int(target.port))
    undisturbed = [*honest.store(UNDISTURBED)]
    hostile = Hostile(target.port)
    try:
        disturbed: list[float] = []
        while hostile.proven != {*ATTACKS} or len(disturbed) < DISTURBED:
            disturbed += honest.store(AN_ASSOCIATION)
            if hostile.proven != {*ATTACKS}:
                hostile.prove()
        counts = hostile.stop()
    finally:
        hostile.kill()
    sys.stdout.write(f"slowest {max(undisturbed):.3f} s, then {max(disturbed):.3f} s of {len(disturbed)} {counts}\n")
    assert [name for name, (_, enough) in ATTACKS.items() if counts[name] < enough] == []
    return undisturbed, disturbed


def _peak_memory(pid: int) -> int:
    """Return the most memory that a process has ever held, bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) << 10

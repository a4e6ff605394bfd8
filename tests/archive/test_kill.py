"""Nothing acknowledged is ever lost: a receiver under load is killed, and started again (row F11).

DICOMPORT_KILLS says how often; `make kill` asks for the 200 that a release takes.
"""

import contextlib
import itertools
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from blake3 import blake3
from tests.archive.sending import CT, bytes_of, findings, instance, left_over, rows, stored_bytes
from tests.encoding.encode import EXPLICIT

from dicomport import AssociationError, blocking
from dicomport.scu import Instance

KILLS: Final = int(os.environ.get("DICOMPORT_KILLS", "8"))
KILLS_OF_ONE_ARCHIVE: Final = 20
SENDERS: Final = 4
TIMEOUT: Final = 60.0
PIXELS: Final = random.Random(11).randbytes(4_000_000)


class Process:
    """A receiver, which imports its modules before it gets its arguments."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("receiver.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def go(self, root: Path) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{root}\n")
        self._process.stdin.flush()

    def port(self) -> int:
        """Wait until it serves: the recovery has ended then."""
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()

    def end(self) -> int:
        self._process.communicate()
        return self._process.returncode


@dataclass
class Load:
    """The instances that four senders have sent to one archive, and the responses."""

    rng: random.Random
    sent: dict[str, str] = field(default_factory=dict)
    """Digests by UID."""
    acknowledged: dict[str, str] = field(default_factory=dict)
    answers: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    errors: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send_until_lost(self, port: int) -> list[threading.Thread]:
        threads = [threading.Thread(target=self._send, args=(port,)) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        return threads

    def _send(self, port: int) -> None:
        with (
            contextlib.suppress(AssociationError, OSError),
            blocking.associate("127.0.0.1", port, contexts=[(CT, EXPLICIT)]) as association,
        ):
            while True:
                what, truncated = self._next()
                response = association.c_store(what)
                self._told(what, response.status.code, 0xC210 if truncated else 0x0000)

    def _next(self) -> tuple[Instance, bool]:
        with self._lock:
            number, rng = next(self._numbers), self.rng
            size = rng.choice((2_000, 20_000, 20_000, 200_000, 3_000_000)) + rng.randrange(1000) * 2
            start = rng.randrange(len(PIXELS) - size)
            uid = f"1.2.3.{number}"
            what = instance(
                uid, PIXELS[start : start + size], study=f"1.2.{number % 3}", series=f"1.2.{number % 3}.{number % 2}"
            )
            if rng.random() < 0.05:
                data = bytes_of(what)
                return Instance(CT, uid, EXPLICIT, data[: len(data) // 4 * 2]), True
            self.sent[uid] = blake3(bytes_of(what)).hexdigest()
            return what, False

    def _told(self, what: Instance, status: int, expected: int) -> None:
        with self._lock:
            if status != expected:
                self.errors.append(f"{what.sop_instance_uid}: {status:04X} for {expected:04X}")
            elif status == 0:
                self.acknowledged[what.sop_instance_uid] = self.sent[what.sop_instance_uid]
        self.answers.release()

    def check(self, root: Path) -> None:
        """Check an archive whose receiver was restarted and is idle."""
        assert self.errors == []
        assert findings(root) == []
        known = {str(row["sop_instance_uid"]): row for row in rows(root)}
        assert {uid: known[uid]["digest"] for uid in self.acknowledged if uid in known} == self.acknowledged
        # Instances without a response may exist, but then they are complete.
        assert {uid: row["digest"] for uid, row in known.items()} == {uid: self.sent[uid] for uid in known}
        for uid in self.acknowledged:
            number = int(uid.rpartition(".")[2])
            path = root / f"1.2.{number % 3}" / f"1.2.{number % 3}.{number % 2}" / f"{uid}.dcm"
            assert blake3(stored_bytes(path)).hexdigest() == self.sent[uid]
        assert left_over(root) == []
        [session] = (root / ".dicomport" / "sessions").glob("session-*")
        assert sorted(path.name for path in session.iterdir()) == ["journal-00000000.jsonl", "lock"]


@pytest.mark.parametrize("first", range(0, KILLS, KILLS_OF_ONE_ARCHIVE))
def test_f11_acknowledged_instances_survive_kills(
    tmp_path: Path, first: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(f"kills from {first}")
    load = Load(rng)
    running, spare = Process(), Process()
    try:
        running.go(tmp_path)
        for _ in range(first, min(first + KILLS_OF_ONE_ARCHIVE, KILLS)):
            if rng.random() < 0.15:
                # While it starts, and puts right what was left.
                threading.Event().wait(rng.random() * 0.1)
                running.kill()
            else:
                port = running.port()
                load.check(tmp_path)
                threads = load.send_until_lost(port)
                if rng.random() < 0.5:
                    for _ in range(rng.randrange(100)):
                        load.answers.acquire(timeout=TIMEOUT)
                else:
                    threading.Event().wait(rng.random() * 0.4)
                running.kill()
                for thread in threads:
                    thread.join()
            running, spare = spare, Process()
            running.go(tmp_path)
        running.port()
        load.check(tmp_path)
        assert running.end() == 0
        assert list((tmp_path / ".dicomport" / "sessions").glob("session-*")) == []
        assert findings(tmp_path) == []
    finally:
        running.kill()
        spare.kill()
    assert load.acknowledged
    with capsys.disabled():
        if KILLS > KILLS_OF_ONE_ARCHIVE:
            sys.stdout.write(f"\nkills from {first}: {len(load.acknowledged)} of {len(load.sent)} were acknowledged\n")

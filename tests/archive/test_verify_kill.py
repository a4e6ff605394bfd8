"""`verify` under load: it is killed while a receiver stores, nothing is harmed, and the next one is clean.

DICOMPORT_KILLS states four times the number of kills: 50 for `make kill`, 10 in CI.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

import pytest
from tests.archive.sending import CT, findings, instance, rows
from tests.cli.commands import receiver
from tests.encoding.encode import EXPLICIT

from dicomport import blocking

KILLS: Final = max(2, int(os.environ.get("DICOMPORT_KILLS", "8")) // 4)
SENDERS: Final = 2
STORED_BEFORE: Final = 300
TIMEOUT: Final = 120.0
PIXELS: Final = random.Random(13).randbytes(100_000)

pytestmark = pytest.mark.timeout(120 + 20 * KILLS)


class Senders:
    """Threads that store instances until they are stopped; all of them must succeed."""

    def __init__(self, port: int) -> None:
        self.acknowledged: list[str] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._stored = threading.Condition()
        self._threads = [threading.Thread(target=self._send, args=(port, one)) for one in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def _send(self, port: int, sender: int) -> None:
        number = 0
        try:
            with blocking.associate("127.0.0.1", port, contexts=[(CT, EXPLICIT)]) as association:
                while not self._stop.is_set():
                    number += 1
                    uid = f"1.2.{sender}.{number}"
                    pixels = PIXELS[: 2 * (number * 7919 % 50_000)]
                    what = instance(uid, pixels, study=f"1.2.{number % 3}", series=f"1.2.{number % 3}.{sender}")
                    status = association.c_store(what).status.code
                    with self._stored:
                        (self.acknowledged if status == 0 else self.failures).append(uid)
                        self._stored.notify_all()
        except Exception as error:  # noqa: BLE001  # the test reports it
            with self._stored:
                self.failures.append(repr(error))
                self._stored.notify_all()

    def wait_for(self, number: int) -> None:
        """Wait until more instances are stored."""
        with self._stored:
            wanted = len(self.acknowledged) + number
            assert self._stored.wait_for(lambda: self.failures or len(self.acknowledged) >= wanted, TIMEOUT)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def start_verify(root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dicomport", "archive", "verify", "--archive", str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_verify_harms_nothing(tmp_path: Path) -> None:
    rng = random.Random("verify is killed")
    root = tmp_path / "archive"
    with receiver(root) as running:
        senders = Senders(int(running.port))
        try:
            senders.wait_for(STORED_BEFORE)
            for _ in range(KILLS):
                verifying = start_verify(root)
                # At any point between its start and its end, measured in stored instances.
                senders.wait_for(rng.randrange(1, 150))
                verifying.kill()
                out, err = verifying.communicate()
                assert "Traceback" not in err
                assert (out, err) in {("", ""), ("", "no discrepancies\n")}
            # One runs to its end, still while instances are stored.
            clean = start_verify(root)
            _, err = clean.communicate(timeout=TIMEOUT)
            assert (clean.returncode, err) == (0, "no discrepancies\n")
        finally:
            senders.stop()
        assert senders.failures == []
        assert running.stop()[0] == 0
    assert findings(root) == []
    assert {str(row["sop_instance_uid"]) for row in rows(root)} >= set(senders.acknowledged)
    assert list((root / ".dicomport" / "sessions").glob("session-*")) == []

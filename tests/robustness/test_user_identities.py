"""Row A14: requests with more user identities than the receiver can check."""

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import pytest
from tests.cli.commands import start
from tests.robustness.attacks import Log
from tests.scp.messages import request

from dicomport import blocking
from dicomport.scp import hash_password
from dicomport.testing import ScriptedSCU
from dicomport.wire import AssociateRJ, RejectReason, UserIdentityRQ, UserInformation

VERIFICATION: Final = "1.2.840.10008.1.1"
INVALID: Final = AssociateRJ(RejectReason.ACSE_NO_REASON)
TOO_MANY: Final = AssociateRJ(RejectReason.LOCAL_LIMIT_EXCEEDED, transient=True)


def identity(password: str) -> UserIdentityRQ:
    return UserIdentityRQ(2, False, b"jane", password.encode())  # no response is requested


class Flood:
    """Twenty connections from each of some addresses, which send a wrong password again and again."""

    def __init__(self, port: int, *sources: str) -> None:
        self.answers: Counter[object] = Counter()
        """Number of answers, by the answer."""
        self.answered = threading.Semaphore(0)
        self._port = port
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(source,)) for source in sources for _ in range(20)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _send(self, source: str) -> None:
        items = UserInformation(maximum_length=16384, user_identity=identity("wrong"))
        while not self._ended.is_set():
            with contextlib.suppress(OSError), ScriptedSCU("127.0.0.1", self._port, source=source) as peer:
                peer.send(request(items=items))
                self.answers[peer.receive()] += 1
                self.answered.release()


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Run a receiver for the user "jane"; its log is read all the time, as a flood fills any pipe."""
    passwords = tmp_path / "passwords"
    passwords.write_text(hash_password("jane", "hunter2") + "\n", encoding="utf-8")
    arguments = ("--archive", tmp_path / "archive", "--passwords", passwords, "--log-format", "json")
    with start("storescp", "0", *arguments) as process:
        try:
            log = Log(process)
            # The first message says that passwords are sent unencrypted.
            first, second = (str(log.wait_for(number, event="message")["text"]) for number in range(2))
            yield int(re.findall(r":(\d+), storing", first + second)[0])
        finally:
            process.kill()
            log.end()


def test_a14_a_flood_of_wrong_passwords_keeps_no_user_out(port: int) -> None:
    with Flood(port, "127.0.0.2", "127.0.0.3") as flood:
        for _ in range(20):
            assert flood.answered.acquire(timeout=60)
        for _ in range(2):
            with blocking.associate(
                "127.0.0.1", port, contexts=[VERIFICATION], user_identity=identity("hunter2")
            ) as association:
                assert association.c_echo().accepted
    assert set(flood.answers) == {INVALID, TOO_MANY}

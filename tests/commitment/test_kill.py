"""A request that was answered is reported on, though the receiver is killed at any instant in between."""

import contextlib
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.cli.commands import FILES, Receiver, receiver
from tests.commitment.asking import CT, MAX_BYTES, SCU

from dicomport import SOPReference, blocking
from dicomport.commitment.data_sets import CommitmentRequest, CommitmentResult
from dicomport.scu import instance_from_path
from dicomport.testing import GoneError, Peer, ScriptedSCP
from dicomport.wire import Abort, AbortReason, NEventReportRQ

KILLS: Final = int(os.environ.get("DICOMPORT_KILLS", "8")) // 2
TIMEOUT: Final = 60.0
STORED: Final = instance_from_path(FILES / "CT_small.dcm")
REFERENCES: Final = (SOPReference(CT, STORED.sop_instance_uid), SOPReference(CT, "1.2.3.4"))


class Listener:
    """Takes reports, and answers them where it may."""

    def __init__(self) -> None:
        self.answering = True
        self.reported: Counter[str] = Counter()
        """Number of answered reports of each transaction."""
        self._changed = threading.Condition()
        self._results: list[CommitmentResult] = []

    def __call__(self, peer: Peer) -> None:
        try:
            peer.accept()
        except GoneError:
            return  # The receiver was killed between its connection and its request.
        for message in peer.requests():
            assert isinstance(message.command, NEventReportRQ)
            result = CommitmentResult.decode(message.data, peer.contexts[message.context_id].transfer_syntax, MAX_BYTES)
            with self._changed:
                self._results.append(result)
                self._changed.notify_all()
            if self.answering:
                peer.answer(message)
                self.reported[result.transaction_uid] += 1

    def result(self, number: int) -> CommitmentResult:
        """Wait for a report, by its number."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._results) > number, TIMEOUT)
            return self._results[number]

    def await_all(self, transactions: set[str]) -> None:
        with self._changed:
            assert self._changed.wait_for(
                lambda: transactions <= {result.transaction_uid for result in self._results}, TIMEOUT
            )


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def port(listener: Listener) -> Iterator[int]:
    with ScriptedSCP(listener) as peer:
        yield peer.port


@contextlib.contextmanager
def running(archive: Path, port: int) -> Iterator[Receiver]:
    with receiver(archive, "--commit-to", f"SCRIPTED=127.0.0.1:{port}") as found:
        yield found


def kill(found: Receiver) -> None:
    found.process.send_signal(signal.SIGKILL)
    found.process.wait()


def store(found: Receiver) -> None:
    with blocking.associate("127.0.0.1", int(found.port), contexts=[(CT, STORED.transfer_syntax_uid)]) as association:
        assert association.c_store(STORED).status.code == 0x0000


def ask(found: Receiver, transaction: str) -> None:
    """Send a request, read the response, and disconnect."""
    with SCU(int(found.port)) as scu:
        assert scu.act(CommitmentRequest(transaction, REFERENCES).encode(scu.context.transfer_syntax)) == 0x0000
        scu.send(Abort(AbortReason.SERVICE_USER))


def left(archive: Path) -> list[Path]:
    return list((archive / ".dicomport" / "commitments").rglob("*.json"))


def until_forgotten(archive: Path) -> None:
    """Wait until all has been answered, as far as the receiver knows."""
    for _ in range(int(TIMEOUT * 50)):
        if not left(archive):
            return
        threading.Event().wait(0.02)
    assert left(archive) == []


def test_a_report_that_was_not_answered_comes_again(tmp_path: Path, listener: Listener, port: int) -> None:
    archive = tmp_path / "archive"
    listener.answering = False
    with running(archive, port) as found:
        store(found)
        ask(found, "1.2.3")
        first = listener.result(0)
        kill(found)
    assert len(left(archive)) == 1
    listener.answering = True
    with running(archive, port) as found:
        assert listener.result(1) == first
        assert first.committed == REFERENCES[:1]
        assert [(one, status.code) for one, status in first.failed] == [(REFERENCES[1], 0x0112)]
        until_forgotten(archive)
        assert found.stop()[0] == 0


def test_every_request_that_was_answered_is_reported_on(tmp_path: Path, listener: Listener, port: int) -> None:
    rng = random.Random(5)
    archive = tmp_path / "archive"
    transactions = set()
    for number in range(KILLS):
        with running(archive, port) as found:
            if number == 0:
                store(found)
            transactions.add(f"1.2.{number}")
            ask(found, f"1.2.{number}")
            threading.Event().wait(rng.random() * 0.03)
            kill(found)
    with running(archive, port) as found:
        listener.await_all(transactions)
        until_forgotten(archive)
        assert found.stop()[0] == 0
    assert set(listener.reported) == transactions

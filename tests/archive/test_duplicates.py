"""Duplicates are compared outside the committer's thread, in turns of the peers, by size and indexed digest first."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.archive.sending import LONG, Receiver, bytes_of, files, findings, instance, receiver, rows, stored_bytes

from dicomport.archive import ArchiveOptions, Duplicates
from dicomport.archive.commit import duplicates as duplicates_module
from dicomport.archive.commit.duplicates import Comparisons
from dicomport.files import MAX_COPIES, system
from dicomport.standard import Status

NAME: Final = "1.2.3/1.2.3.1/1.2.3.4.dcm"
SAME_SIZE: Final = random.Random(8).randbytes(len(LONG))


@pytest.fixture
def received(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path / "archive") as opened:
        yield opened


def wait_for_rows(root: Path, number: int) -> None:
    while len(rows(root)) < number:
        threading.Event().wait(0.01)


class Reads:
    """The reads of blocks of stored files; they can be held."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.entered = threading.Event()
        self.go = threading.Event()
        self.go.set()
        real = system.preadv

        def preadv(descriptor: int, buffers: Any, offset: int) -> int:
            self.count += 1
            self.entered.set()
            assert self.go.wait(60)
            return real(descriptor, buffers, offset)

        monkeypatch.setattr(system, "preadv", preadv)


@pytest.mark.parametrize("pixels", [LONG[:1000], SAME_SIZE], ids=["another size", "another digest"])
def test_a_file_that_differs_by_size_or_indexed_digest_is_not_read(
    received: Receiver, monkeypatch: pytest.MonkeyPatch, pixels: bytes
) -> None:
    assert received.send(instance(pixels=LONG)) == [0]
    wait_for_rows(received.root, 1)
    reads = Reads(monkeypatch)
    assert received.send(instance(pixels=pixels)) == [0]
    assert reads.count == 0
    assert stored_bytes(received.root / NAME.replace(".dcm", "~2.dcm")) == bytes_of(instance(pixels=pixels))


def test_a_changed_file_is_read_despite_its_digest_in_the_index(received: Receiver) -> None:
    """The index does not describe the file any more, so it does not decide."""
    assert received.send(instance(pixels=LONG)) == [0]
    wait_for_rows(received.root, 1)
    path = received.root / NAME
    path.write_bytes(path.read_bytes().replace(LONG, SAME_SIZE))
    assert received.send(instance(pixels=SAME_SIZE)) == [0]
    assert files(received.root) == [NAME]


def test_reading_a_duplicate_does_not_delay_another_sender(received: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    assert received.send(instance(pixels=LONG)) == [0]
    reads = Reads(monkeypatch)
    reads.go.clear()
    answers: list[list[int]] = []
    duplicate = threading.Thread(target=lambda: answers.append(received.send(instance(pixels=LONG))))
    duplicate.start()
    assert reads.entered.wait(60)
    assert received.send(instance("1.2.3.5"), instance("1.2.3.6")) == [0, 0]
    assert answers == []
    reads.go.set()
    duplicate.join()
    assert answers == [[0]]
    assert files(received.root) == [NAME, "1.2.3/1.2.3.1/1.2.3.5.dcm", "1.2.3/1.2.3.1/1.2.3.6.dcm"]


def test_the_copies_of_one_uid_are_limited(received: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates_module, "MAX_COPIES", 3)
    sent = [instance(pixels=bytes([number] * 4)) for number in range(5)]
    with received.association() as association:
        answers = [association.c_store(one) for one in sent]
        assert [answer.status.code for answer in answers] == [0, 0, 0, 0x0111, 0x0111]
        assert answers[-1].error_comment == "too many instances with this UID are already stored"
        # Identical instances and other UIDs are accepted.
        assert [association.c_store(one).status.code for one in (*sent[:3], instance("1.2.3.5"))] == [0, 0, 0, 0]
    received.close()
    assert len(files(received.root)) == 4
    assert findings(received.root) == []
    assert MAX_COPIES == 100


@pytest.mark.parametrize("policy", list(Duplicates))
def test_duplicates_sent_at_the_same_time_are_all_decided(tmp_path: Path, policy: Duplicates) -> None:
    sent = [instance(pixels=bytes([number % 4] * 4)) for number in range(40)]
    codes: list[int] = []
    with receiver(tmp_path, ArchiveOptions(duplicates=policy)) as received:
        threads = [
            threading.Thread(target=lambda part=part: codes.extend(received.send(*part)))
            for part in (sent[at::4] for at in range(4))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(codes) == 40
    stored = [stored_bytes(tmp_path / name) for name in files(tmp_path)]
    assert len(stored) == (4 if policy is Duplicates.KEEP_BOTH else 1)
    assert set(codes) == ({0, 0x0111} if policy is Duplicates.REJECT else {0})
    assert {bytes(one) for one in stored} <= {bytes_of(one) for one in sent}
    assert len(set(stored)) == len(stored)
    assert findings(tmp_path) == []


class Pretended:
    """A duplicate of a peer."""

    def __init__(self, name: str, address: str, ended: list[str], size: int) -> None:
        self.name, self.address, self.ended, self.size = name, address, ended, size
        self.number, self.overwrites = 1, False
        self.sop_instance_uid, self.digest = "1.2.3.4", name

    def end(self, result: Status | Exception) -> None:
        self.ended.append(self.name)


def test_peers_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small duplicate of one peer does not wait for the large ones that another peer has sent before."""
    with receiver(tmp_path) as received:
        assert received.send(instance("1.1", pixels=LONG * 4), instance("1.2", pixels=b"12")) == [0, 0]
    reads = Reads(monkeypatch)
    reads.go.clear()
    ended: list[str] = []
    comparisons = Comparisons(str(tmp_path), Duplicates.REJECT, syncs=False, find=lambda _: {}, is_free=lambda _: False)
    large, small = len(bytes_of(instance("1.1", pixels=LONG * 4))), len(bytes_of(instance("1.2", pixels=b"12")))
    for number in range(5):
        comparisons.put(Pretended(f"large {number}", "A", ended, large), "1.2.3/1.2.3.1", "1.1", lambda: None)
    assert reads.entered.wait(60)
    comparisons.put(Pretended("small", "B", ended, small), "1.2.3/1.2.3.1", "1.2", lambda: None)
    reads.go.set()
    comparisons.close()
    assert ended == ["small", *(f"large {number}" for number in range(5))]


def test_an_instance_is_stored_beside_a_file_that_is_none(received: Receiver) -> None:
    other, content = received.root / NAME, b"no instance " * 1000
    other.parent.mkdir(parents=True)
    other.write_bytes(content)
    assert received.send(instance()) == [0]
    assert other.read_bytes() == content
    [name] = set(files(received.root)) - {NAME}
    assert stored_bytes(received.root / name) == bytes_of(instance())

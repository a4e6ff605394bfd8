"""The quarantine: constant work for a refusal, limits of the bytes on the disk, and no loss by a clock or a kill.

DICOMPORT_KILLS says how often it is killed: a quarter of it, 50 in `make kill`.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from tests.archive.sending import CT, bytes_of, instance, left_over, receiver, stored_bytes
from tests.encoding.encode import EXPLICIT

from dicomport import AssociationError, blocking
from dicomport.archive import Archive, ArchiveOptions, quarantined
from dicomport.files import system
from dicomport.scu import Instance

KILLS: Final = max(int(os.environ.get("DICOMPORT_KILLS", "8")) // 4, 2)
DAY: Final = 86_400.0


def refused(number: int, pixels: bytes = b"1234") -> Instance:
    return instance(f"1.2.5.{number}", pixels, said=f"1.2.6.{number}")


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


def uids(root: Path) -> list[str]:
    return [entry.sop_instance_uid for entry in quarantined(root / ".dicomport" / "quarantine")]


class Calls:
    """The number of calls on files, which do not depend on the speed of the machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for name in ("open_descriptor", "scandir", "unlink", "link", "read", "pread", "write"):
            self._watch(monkeypatch, system, name)
        self._watch(monkeypatch, Path, "stat")

    def _watch(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, counted)


def test_a_refusal_does_not_depend_on_the_number_of_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for entries in (10, 500):
        root = tmp_path / str(entries)
        with receiver(root, ArchiveOptions(quarantine_entries=entries)) as received, received.association() as peer:
            for number in range(entries):
                assert peer.c_store(refused(number)).status.code == 0xA900
            with monkeypatch.context() as patched:
                calls = Calls(patched)
                # Each of these displaces one.
                for number in range(entries, entries + 10):
                    assert peer.c_store(refused(number)).status.code == 0xA900
            counts.append(calls.count)
            assert len(uids(root)) == entries
    assert counts[1] <= counts[0] * 1.2


def test_the_limits_are_those_of_the_disk(tmp_path: Path) -> None:
    """Small files occupy blocks, and each entry has two of them."""
    limit = 400_000
    with receiver(tmp_path, ArchiveOptions(quarantine_bytes=limit)) as received:
        assert received.send(*(refused(number) for number in range(100))) == [0xA900] * 100
        assert on_disk(received.archive.paths.quarantine) <= limit
        assert uids(tmp_path) == [f"1.2.6.{number}" for number in range(100 - limit // 8192, 100)]


def test_entries_are_limited_across_processes_and_starts(tmp_path: Path) -> None:
    options = ArchiveOptions(quarantine_entries=20)
    with receiver(tmp_path, options) as one, receiver(tmp_path, options) as other:
        for number in range(60):
            assert (one, other)[number % 2].send(refused(number)) == [0xA900]
            assert len(uids(tmp_path)) <= 20
        assert "1.2.6.59" in uids(tmp_path)
    with receiver(tmp_path, ArchiveOptions(quarantine_entries=5)) as received:
        assert len(uids(tmp_path)) == 5
        assert received.send(refused(99)) == [0xA900]
    assert uids(tmp_path)[-1] == "1.2.6.99"
    assert len(uids(tmp_path)) == 5


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"nothing" * 100, b'{"bytes": 7}'])
def test_a_damaged_count_is_counted_again(tmp_path: Path, content: bytes) -> None:
    options = ArchiveOptions(quarantine_entries=5)
    with receiver(tmp_path, options) as received:
        assert received.send(*(refused(number) for number in range(5))) == [0xA900] * 5
    (tmp_path / ".dicomport" / "quarantine.json").write_bytes(content)
    with receiver(tmp_path, options) as received:
        assert received.send(refused(7), refused(8)) == [0xA900] * 2
    assert uids(tmp_path) == ["1.2.6.2", "1.2.6.3", "1.2.6.4", "1.2.6.7", "1.2.6.8"]


def test_a_clock_that_jumps_neither_empties_nor_reorders_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, ahead = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    options = ArchiveOptions(quarantine_entries=5, quarantine_days=90.0)
    with receiver(tmp_path, options) as received:
        assert received.send(refused(0), refused(1)) == [0xA900] * 2
        ahead = 400 * DAY
        assert received.send(refused(2)) == [0xA900]
        assert len(uids(tmp_path)) == 3
    with receiver(tmp_path, options) as received:
        assert len(uids(tmp_path)) == 3
        ahead = -400 * DAY
        assert received.send(*(refused(number) for number in range(3, 7))) == [0xA900] * 4
    # The first entry was removed, not the entry with the earliest time.
    assert uids(tmp_path) == [f"1.2.6.{number}" for number in range(2, 7)]


def test_entries_expire_when_the_time_has_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, realtime, passed = time.time, time.monotonic, 0.0
    with receiver(tmp_path, ArchiveOptions(quarantine_days=90.0)) as received:
        assert received.send(refused(0), refused(1)) == [0xA900] * 2
        monkeypatch.setattr("dicomport.archive.quarantine.time.time", lambda: real() + passed)
        received.archive.quarantine._opened -= 91 * DAY
        passed = 91 * DAY
        assert received.send(refused(2)) == [0xA900]
        assert uids(tmp_path) == ["1.2.6.2"]
    assert realtime() > 0


def test_an_entry_that_was_removed_keeps_no_later_one_from_expiring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver(tmp_path, ArchiveOptions(quarantine_days=90.0)) as received:
        assert received.send(refused(0), refused(1)) == [0xA900] * 2
        [first, _] = sorted(received.archive.paths.quarantine.glob("*.dcm"))
        first.unlink()
        real = time.time
        monkeypatch.setattr("dicomport.archive.quarantine.time.time", lambda: real() + 91 * DAY)
        received.archive.quarantine._opened -= 91 * DAY
        assert received.send(refused(2)) == [0xA900]
        assert uids(tmp_path) == ["1.2.6.2"]


def test_a_file_of_another_origin_does_not_stop_the_receiver(tmp_path: Path) -> None:
    """It is neither counted nor removed."""
    folder = tmp_path / ".dicomport" / "quarantine"
    folder.mkdir(parents=True)
    (folder / "copy of 1.2.3.dcm").write_bytes(b"by hand")
    with receiver(tmp_path, ArchiveOptions(quarantine_entries=3)) as received:
        assert received.send(*map(refused, range(4))) == [0xA900] * 4
        assert uids(tmp_path) == ["1.2.6.1", "1.2.6.2", "1.2.6.3"]
    with receiver(tmp_path, ArchiveOptions(quarantine_entries=3)) as received:
        assert received.send(refused(4)) == [0xA900]
    assert uids(tmp_path) == ["1.2.6.2", "1.2.6.3", "1.2.6.4"]
    assert (folder / "copy of 1.2.3.dcm").read_bytes() == b"by hand"


def test_quarantined_instances_survive_kills(tmp_path: Path) -> None:
    """After each kill, the last refused instances are in quarantine, byte for byte, and the limit holds."""
    limit, at_once = 40, 4
    told: list[str] = []
    sent: dict[str, Instance] = {}
    lock = threading.Lock()
    numbers = iter(range(1_000_000))

    def send(port: int) -> None:
        with (
            contextlib.suppress(AssociationError, OSError),
            blocking.associate("127.0.0.1", port, contexts=[(CT, EXPLICIT)]) as association,
        ):
            while True:
                with lock:
                    number = next(numbers)
                    what = refused(number, os.urandom(2 + number % 5000 * 2))
                    sent[what.sop_instance_uid] = what
                assert association.c_store(what).status.code == 0xA900
                with lock:
                    told.append(what.sop_instance_uid)

    for kill in range(KILLS):
        command = [sys.executable, str(Path(__file__).with_name("receiver.py"))]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{tmp_path}\t\t{limit}\n")
            process.stdin.flush()
            port = int(process.stdout.readline())
            check(tmp_path, limit, told, sent, at_once)
            threads = [threading.Thread(target=send, args=(port,)) for _ in range(at_once)]
            for thread in threads:
                thread.start()
            wanted = len(told) + 20 + kill * 7 % 50
            while len(told) < wanted:
                threading.Event().wait(0.001)
            process.kill()
            for thread in threads:
                thread.join()
    Archive(tmp_path, ArchiveOptions(quarantine_entries=limit)).close()
    check(tmp_path, limit, told, sent, at_once)
    assert left_over(tmp_path) == []


def check(root: Path, limit: int, told: list[str], sent: dict[str, Instance], at_once: int) -> None:
    folder = root / ".dicomport" / "quarantine"
    entries = list(quarantined(folder))
    assert len(entries) <= limit
    assert len(list(folder.glob("*.dcm"))) == len(entries)
    for entry in entries:
        assert stored_bytes(folder / entry.file) == bytes_of(sent[entry.sop_instance_uid])
    # Others may have been written without a response, and some may be missing because of those in flight.
    kept = {entry.sop_instance_uid for entry in entries}
    assert set(told[-(limit - 3 * at_once) :]) <= kept

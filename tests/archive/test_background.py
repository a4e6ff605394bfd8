"""Verification by a running receiver: in quiet hours, at a rate, from where it stopped; the clock is the test's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import stat
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Final

import pytest
from tests.archive.sending import instance, receiver

from dicomport.archive import (
    Archive,
    ArchiveOptions,
    BackgroundVerification,
    IndexReader,
    Paths,
    QuietHours,
    reindex,
    verified_times,
)
from dicomport.archive.verification.progress import VerificationProgress
from dicomport.files import Durability
from dicomport.files.locking import locked

MIDNIGHT: Final = datetime(2026, 3, 2)  # noqa: DTZ001  # local time
NIGHT: Final = QuietHours(time(1), time(3), 1000)
SIZE: Final = 150
"""Bytes of a data set of these tests."""


class Clock:
    """The local time, which moves when the verification waits for the rate, sleeps, or a file was read."""

    def __init__(self, hour: float = 1) -> None:
        self.now = MIDNIGHT + timedelta(hours=hour)
        self.slept: list[float] = []
        self.waited = 0.0
        self.on_wait: Callable[[], object] = lambda: None
        self.on_sleep: Callable[[], object] = lambda: None

    def seconds(self) -> float:
        return self.now.timestamp()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)
        self.on_sleep()
        await asyncio.sleep(0)

    def wait(self, stopping: threading.Event, seconds: float) -> bool:
        self.waited += seconds
        self.now += timedelta(seconds=seconds)
        self.on_wait()
        return stopping.is_set()


def verification(*roots: Path, clock: Clock, hours: QuietHours = NIGHT) -> BackgroundVerification:
    return BackgroundVerification(
        [(paths, IndexReader(paths.index)) for paths in map(Paths, roots)],
        hours,
        now=lambda: clock.now,
        clock=clock.seconds,
        sleep=clock.sleep,
        wait=clock.wait,
    )


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "dicomport.archive"]


def names(numbers: Sequence[int]) -> list[str]:
    return [f"1.2.3/1.2.3.1/1.2.3.{number}.dcm" for number in numbers]


@pytest.fixture
def root(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Path:
    caplog.set_level(logging.INFO, "dicomport.archive")
    with receiver(tmp_path, ArchiveOptions(durability=Durability.FLUSH)) as received:
        assert received.send(*(instance(f"1.2.3.{number}") for number in range(1, 9))) == [0] * 8
    return tmp_path


@pytest.mark.parametrize(
    ("hours", "now", "until_start", "until_end"),
    [
        (("01:00", "03:00"), "00:30", 1800, 0),
        (("01:00", "03:00"), "01:00", 0, 7200),
        (("01:00", "03:00"), "02:59", 0, 60),
        (("01:00", "03:00"), "03:00", 22 * 3600, 0),
        (("22:00", "05:00"), "21:00", 3600, 0),
        (("22:00", "05:00"), "23:00", 0, 6 * 3600),
        (("22:00", "05:00"), "04:00", 0, 3600),
        (("22:00", "05:00"), "05:00", 17 * 3600, 0),
        # Equal times: the whole day.
        (("00:00", "00:00"), "13:00", 0, 11 * 3600),
        (("22:00", "22:00"), "21:00", 0, 3600),
        (("22:00", "22:00"), "22:00", 0, 24 * 3600),
    ],
)
def test_quiet_hours(hours: tuple[str, str], now: str, until_start: int, until_end: int) -> None:
    quiet = QuietHours(time.fromisoformat(hours[0]), time.fromisoformat(hours[1]), 1)
    at = datetime.combine(MIDNIGHT, time.fromisoformat(now))
    assert (quiet.seconds_until_start(at), quiet.seconds_until_end(at)) == (until_start, until_end)


def test_each_file_is_verified_at_the_rate_and_its_time_kept(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    verification(root, clock=clock).verify_until_end()
    assert set(verified_times(Paths(root), [*names(range(1, 9)), "other"])) == set(names(range(1, 9)))
    assert clock.waited == pytest.approx(8 * SIZE / NIGHT.rate, abs=1.0)
    assert events(caplog) == ["verification_begun", "verification_finished discrepancies=0 verified=8"]


def test_verification_continues_in_the_next_quiet_hours(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    slow = QuietHours(NIGHT.start, NIGHT.end, 1)
    nights, clock = 0, Clock()
    paths, seen = Paths(root), list[int]()
    while "verification_finished discrepancies=0" not in " ".join(events(caplog)):
        nights += 1
        # The hours end while the third file is read.
        clock.now = MIDNIGHT + timedelta(days=nights, hours=3) - timedelta(seconds=2 * SIZE + 1)
        verification(root, clock=clock, hours=slow).verify_until_end()
        seen.append(len(verified_times(paths, names(range(1, 9)))))
        assert nights < 9
    assert seen == sorted(set(seen)), "each night verified other files"
    assert len(seen) > 2
    assert seen[-1] == 8


def test_each_archive_is_verified_before_one_is_verified_again(tmp_path: Path) -> None:
    archives = [tmp_path / "first", tmp_path / "second"]
    for archive in archives:
        with receiver(archive, ArchiveOptions(durability=Durability.FLUSH)) as received:
            assert received.send(*(instance(f"1.2.3.{number}") for number in range(1, 9))) == [0] * 8
    slow, clock = QuietHours(NIGHT.start, NIGHT.end, 1), Clock()
    for night in (1, 2):
        # The hours end after nine files: all of the first archive, and one of the second.
        clock.now = MIDNIGHT + timedelta(days=night, hours=3) - timedelta(seconds=8 * SIZE + 60)
        verification(*archives, clock=clock, hours=slow).verify_until_end()
        found = [len(verified_times(Paths(archive), names(range(1, 9)))) for archive in archives]
        assert found == ([8, 1] if night == 1 else [8, 8])


def test_discrepancies_are_logged_without_paths(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    verification(root, clock=Clock()).verify_until_end()
    before = verified_times(Paths(root), names([3]))
    data = bytearray((root / names([3])[0]).read_bytes())
    data[-1] ^= 1
    (root / names([3])[0]).write_bytes(data)
    (root / names([5])[0]).unlink()
    caplog.clear()
    verification(root, clock=Clock()).verify_until_end()
    assert [event for event in events(caplog) if "discrepancy_found" in event] == [
        'discrepancy_found reason="the data set differs from the received data set" sop_instance_uid=1.2.3.3',
        'discrepancy_found reason="in the index, but the file does not exist" sop_instance_uid=1.2.3.5',
    ]
    # A backup must be older than the damage: the time of the last success remains.
    assert verified_times(Paths(root), names([3, 5])) == before


def test_the_progress_survives_reindex(root: Path) -> None:
    verification(root, clock=Clock()).verify_until_end()
    before = verified_times(Paths(root), names(range(1, 9)))
    assert list(reindex(Paths(root), lambda _: None)) == []
    assert verified_times(Paths(root), names(range(1, 9))) == before
    assert len(before) == 8


def test_a_damaged_progress_is_begun_again(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = Paths(root)
    verification(root, clock=Clock()).verify_until_end()
    (paths.verification / "verified.sqlite").write_bytes(b"\xa5" * 9000)
    assert verified_times(paths, names([1])) == {}
    verification(root, clock=Clock()).verify_until_end()
    assert len(verified_times(paths, names(range(1, 9)))) == 8
    assert "verification_failed" not in " ".join(events(caplog))
    for path in (paths.verification, *paths.verification.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == (0o750 if path.is_dir() else 0o640)


def test_only_one_process_verifies_an_archive(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = Paths(root)
    VerificationProgress(paths).close()
    with locked(paths.verification):
        verification(root, clock=Clock()).verify_until_end()
    assert events(caplog) == []


def test_an_archive_that_cannot_be_verified_keeps_no_other_from_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archives = [tmp_path / name for name in ("damaged", "without folder", "sound")]
    for archive in archives:
        with receiver(archive, ArchiveOptions(durability=Durability.FLUSH)) as received:
            assert received.send(instance()) == [0]
    background = verification(*archives, clock=Clock())
    [index] = archives[0].glob(".dicomport/index*.sqlite")
    index.write_bytes(b"\xa5" * 9000)
    Paths(archives[1]).verification.write_bytes(b"")
    background.verify_until_end()
    failed = [event for event in events(caplog) if "verification_failed" in event]
    assert len(failed) == 2
    assert any("the index is damaged" in event for event in failed)
    [file] = archives[2].glob("1*/*/*.dcm")
    assert len(verified_times(Paths(archives[2]), [file.relative_to(archives[2]).as_posix()])) == 1


def test_hours_of_a_whole_day_begin_again_each_day(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(hour=12)
    background = verification(root, clock=clock, hours=QuietHours(time(22), time(22), 1 << 30))

    async def main() -> None:
        passed = asyncio.Event()
        clock.on_sleep = lambda: passed.set() if len(clock.slept) >= 60 else None
        async with background:
            await passed.wait()

    asyncio.run(main())
    # It sleeps for an hour at most: from noon, sixty hours have the ends of three days.
    assert events(caplog).count("verification_finished discrepancies=0 verified=8") >= 4


def test_a_receiver_verifies_each_night_and_stops_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dicomport.archive")
    with receiver(tmp_path, ArchiveOptions(durability=Durability.FLUSH)) as received:
        assert received.send(*(instance(f"1.2.3.{number}") for number in range(1, 9))) == [0] * 8
    clock = Clock(hour=12)
    reading, nights = threading.Event(), list[int]()

    def on_wait() -> None:
        nights.append(clock.now.day)
        if clock.now.day >= MIDNIGHT.day + 3:
            reading.set()
            clock.now = MIDNIGHT + timedelta(days=3, hours=1)  # It would read for ever.

    clock.on_wait = on_wait

    async def main(archive: Archive) -> None:
        background = BackgroundVerification(
            [(archive.paths, archive.index)],
            QuietHours(NIGHT.start, NIGHT.end, 1),
            now=lambda: clock.now,
            clock=clock.seconds,
            sleep=clock.sleep,
            wait=clock.wait,
        )
        async with background:
            await asyncio.to_thread(reading.wait, 60)
            assert reading.is_set()
        assert not [one for one in threading.enumerate() if one.name.startswith("dicomport-verify")]

    with contextlib.closing(Archive(tmp_path)) as archive:
        asyncio.run(main(archive))
    assert {MIDNIGHT.day + 1, MIDNIGHT.day + 2} <= set(nights)
    assert max(clock.slept) <= 3600.0
    # From noon to one o'clock, and from the end of a run to the next night.
    assert clock.slept[:13] == [3600.0] * 13
    assert events(caplog).count("verification_finished discrepancies=0 verified=8") >= 2


def test_an_error_of_the_program_does_not_stop_the_verification(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()

    def fail() -> None:
        clock.on_wait = lambda: None
        raise KeyError("Name^P-1")

    clock.on_wait = fail
    background = verification(root, clock=clock)
    background.verify_until_end()
    assert "verification_failed reason=KeyError" in events(caplog)
    assert "Name" not in " ".join(events(caplog))
    background.verify_until_end()
    assert "verification_finished discrepancies=0" in events(caplog)[-1]


def test_the_progress_of_a_long_run_is_stored_meanwhile(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was killed has not verified them in vain."""
    monkeypatch.setattr("dicomport.archive.verification.background._FILES_PER_TRANSACTION", 3)
    clock, seen = Clock(), list[int]()
    clock.on_wait = lambda: seen.append(len(verified_times(Paths(root), names(range(1, 9)))))
    verification(root, clock=clock).verify_until_end()
    assert set(seen) >= {0, 3, 6}


def test_a_progress_that_cannot_be_stored_is_not_replaced(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Only a damaged file is; the reason for any other failure is logged, and each night tries again."""
    paths = Paths(root)
    VerificationProgress(paths).close()
    stored = paths.verification / "verified.sqlite"
    with contextlib.closing(sqlite3.connect(stored, isolation_level=None)) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON files BEGIN SELECT RAISE(ABORT, 'the disk is full'); END")
        verification(root, clock=Clock()).verify_until_end()
        assert any("verification_failed" in event and "the disk is full" in event for event in events(caplog))
        assert verified_times(paths, names([1])) == {}
        other.execute("DROP TRIGGER full")
    verification(root, clock=Clock()).verify_until_end()
    assert len(verified_times(paths, names(range(1, 9)))) == 8


def test_progress_that_another_program_has_locked_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a damaged file is created again."""
    monkeypatch.setattr("dicomport.archive.verification.progress._BUSY_SECONDS", 0.0)
    paths = Paths(tmp_path)
    with contextlib.closing(VerificationProgress(paths)) as progress:
        progress.add(["1.dcm"], "1.dcm", "2026-03-02")
    file = paths.verification / "verified.sqlite"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            VerificationProgress(paths)
        other.execute("ROLLBACK")
    assert list(verified_times(paths, ["1.dcm"])) == ["1.dcm"]

"""Verification by a running receiver, in quiet hours.

Theory of operation
-------------------
One task waits for the beginning of the quiet hours and then starts the work in a separate thread, so that no other
work of the receiver waits for it. The thread verifies one file after another, at a limited rate, and stores its
position: the next quiet hours continue there. When all files are verified, it compares the rows of the index, ends the
run, and a new run begins in the next quiet hours. Of several archives, the one whose last run ended first is the next.
The thread stops between two files at the end of the quiet hours, and inside a file when the receiver stops. A lock
ensures that only one process verifies an archive.

The time of day may change at any time. So the task wakes up at least every hour, and compares the clock again.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, time, timedelta
from time import monotonic
from typing import Final, Self

from dicomport.archive.database.queries import Queries
from dicomport.archive.database.sqlite import IndexDatabaseError
from dicomport.archive.entries import entries_of
from dicomport.archive.paths import Paths
from dicomport.archive.verification.comparison import Discrepancy, Verifier
from dicomport.archive.verification.progress import VerificationProgress, last_finished
from dicomport.archive.verification.rate import RateLimit
from dicomport.files import Durability, make_own_folder
from dicomport.files.locking import locked
from dicomport.logs import get_logger, reason_of
from dicomport.values import frozen

log = get_logger("archive")

_MAX_SLEEP_SECONDS: Final = 3600.0
"""Time after which the clock is compared again."""

_FILES_PER_TRANSACTION: Final = 100
"""Verified files that are stored together; after a kill, at most so many are verified again."""

_DAY: Final = timedelta(days=1)


@frozen
class QuietHours:
    """Daily hours for verification, in local time; `start` may be later than `end`. Equal times are the whole day."""

    start: time
    end: time
    rate: int
    """Bytes to read per second."""

    def seconds_until_start(self, now: datetime) -> float:
        """Return the seconds until the hours begin, 0 inside them."""
        if self.present_start(now):
            return 0.0
        start = datetime.combine(now.date(), self.start)
        return (start + (_DAY if start <= now else timedelta()) - now).total_seconds()

    def seconds_until_end(self, now: datetime) -> float:
        """Return the seconds until the hours end, 0 outside them."""
        start = self.present_start(now)
        return (self._end(start) - now).total_seconds() if start else 0.0

    def present_start(self, now: datetime) -> datetime | None:
        """Return when the present hours began; None outside them."""
        starts = (datetime.combine(day, self.start) for day in (now.date() - _DAY, now.date()))
        return next((start for start in starts if start <= now < self._end(start)), None)

    def _end(self, start: datetime) -> datetime:
        end = datetime.combine(start.date(), self.end)
        return end + _DAY if end <= start else end


class _StoppedError(Exception):
    """The receiver stops."""


class BackgroundVerification:
    """Verifies archives in quiet hours. Use it as an asynchronous context manager while the archives are open."""

    def __init__(
        self,
        archives: Sequence[tuple[Paths, Queries]],
        hours: QuietHours,
        *,
        now: Callable[[], datetime] = datetime.now,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        """`now` returns the local time, `clock` seconds for the rate; `sleep` and `wait` are called with seconds."""
        self._archives = archives
        self._hours = hours
        self._now = now
        self._clock = clock
        self._sleep = sleep
        self._wait = wait
        self._stopping = threading.Event()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "dicomport-verify")
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.run(), name="dicomport-verify")
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._stopping.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        # The thread notices within one read, and uses the archives until then.
        await asyncio.to_thread(self._thread.shutdown)

    async def run(self) -> None:
        """Verify in the quiet hours of each day, until the task is cancelled."""
        while True:
            while not (begun := self._hours.present_start(now := self._now())):
                await self._sleep(min(self._hours.seconds_until_start(now), _MAX_SLEEP_SECONDS))
            await asyncio.get_running_loop().run_in_executor(self._thread, self.verify_until_end)
            # Hours of a whole day are followed by the next ones without a pause.
            while self._hours.present_start(now := self._now()) == begun:
                await self._sleep(min(self._hours.seconds_until_end(now), _MAX_SLEEP_SECONDS))

    def verify_until_end(self) -> None:
        """Verify the archives until all are verified or the quiet hours end."""
        # Each is verified before one is verified again.
        for paths, index in sorted(self._archives, key=lambda archive: last_finished(archive[0])):
            try:
                make_own_folder(paths.verification, Durability.FLUSH)
                with locked(paths.verification, wait=False):
                    self._verify(paths, index)
            except _StoppedError:
                return
            except BlockingIOError:
                continue  # Another process verifies this archive.
            except (OSError, sqlite3.Error, IndexDatabaseError) as error:
                reason = reason_of(error) if isinstance(error, OSError) else str(error)
                log.warning("verification_failed", reason=reason)
            except Exception as error:
                log.exception("verification_failed", reason=type(error).__name__)

    def _verify(self, paths: Paths, index: Queries) -> None:
        with contextlib.closing(VerificationProgress(paths)) as progress:
            self._verify_from(progress, paths, index)

    def _verify_from(self, progress: VerificationProgress, paths: Paths, index: Queries) -> None:
        rate = RateLimit(self._hours.rate, clock=self._clock, wait=self._pause)
        verifier = Verifier(paths, index, rate)
        run = _Run(progress)
        if not progress.position:
            progress.begin(_utc_now())
        log.info("verification_begun")
        try:
            for entry in entries_of(paths, after=progress.position):
                if not self._hours.seconds_until_end(self._now()):
                    return
                is_file = not (entry.is_link or entry.problem)
                run.add(entry.path if is_file else "", list(verifier.compare_files([entry])))
            run.report(list(verifier.compare_rows()))
            run.report(list(verifier.patient_conflicts()))
            run.store()
            progress.finish(_utc_now())
            log.info("verification_finished", discrepancies=run.discrepancies, verified=run.files)
        finally:
            run.store()

    def _pause(self, seconds: float) -> None:
        if self._wait(self._stopping, seconds):
            raise _StoppedError


class _Run:
    """The files that were verified since the progress was stored."""

    def __init__(self, progress: VerificationProgress) -> None:
        self._progress = progress
        self._verified: list[str] = []
        self._position = ""
        self.files = 0
        self.discrepancies = 0

    def add(self, path: str, discrepancies: Sequence[Discrepancy]) -> None:
        """Add the result of a file; for a link or a folder, `path` is empty."""
        self.report(discrepancies)
        if not path:
            return
        self.files += 1
        self._position = path
        if not discrepancies:
            self._verified.append(path)
        if len(self._verified) >= _FILES_PER_TRANSACTION:
            self.store()

    def report(self, discrepancies: Sequence[Discrepancy]) -> None:
        self.discrepancies += len(discrepancies)
        for one in discrepancies:
            # Without the path, which contains values of attributes in some layouts.
            log.error("discrepancy_found", reason=str(one.kind), sop_instance_uid=one.sop_instance_uid or None)

    def store(self) -> None:
        if self._position:
            self._progress.add(self._verified, self._position, _utc_now())
            self._verified, self._position = [], ""


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")

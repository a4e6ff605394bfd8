"""Callbacks for each stored instance, and for each study once it is complete.

Theory of operation
-------------------
Everything here runs on the event loop of the receiver. The sink reports each stored instance, and the receiver reports
the end of each association. Callbacks run in separate tasks, so that no sender waits for them; the number of running
calls, the number of waiting calls and the duration of a call are limited. An open study knows the associations that
sent to it. When the last of them has ended, a timer starts; a new instance cancels the timer, and when it expires the
study is complete.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import field
from typing import Final, Generic, Self, TypeVar

from dicomport.archive.records import Record
from dicomport.containment import as_exception
from dicomport.errors import DicomportError
from dicomport.logs import get_logger
from dicomport.values import frozen, slotted

log = get_logger("archive")

_MAX_OPEN: Final = 10_000
"""Limit of studies that are not complete yet: one association may send any number of studies, for hours."""

T = TypeVar("T")


class HookError(DicomportError):
    """Raised by a callback that failed. Its text is written to the log, so it must not contain secrets."""


@frozen(kw_only=True)
class CompleteStudy:
    """A summary of the instances of a study that were received since the study was opened."""

    study_instance_uid: str
    instances: int
    """Number of instances that were stored, without those that were in the archive already."""
    size: int
    """Size of their data sets, bytes."""
    calling_ae_titles: tuple[str, ...]
    """Calling AE titles of the senders, sorted."""
    first_received: str
    """UTC, ISO 8601, as in `Record`."""
    last_received: str


@slotted
class _OpenStudy:
    first_received: str
    last_received: str = ""
    instances: int = 0
    size: int = 0
    calling_ae_titles: set[str] = field(default_factory=set)
    senders: set[Hashable] = field(default_factory=set)
    """Open associations that sent to the study."""
    latest: float = 0.0
    """Time of the latest instance, by the loop's clock."""
    timer: asyncio.TimerHandle | None = None
    """Runs while the study has no senders."""

    def add(self, record: Record, association: Hashable, now: float) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.last_received = record.received
        self.instances += 1
        self.size += record.size
        self.calling_ae_titles.add(record.calling_ae_title)
        self.senders.add(association)
        self.latest = now


class Hooks:
    """Calls callbacks for each instance that an archive has stored, and for each study that is complete.

    A study is complete when all associations that sent to it have ended and no instance arrived for `study_timeout`
    seconds; a later instance opens it again. Pass `association_ended` to `StorageSCP` as `on_association_end`:
    otherwise no study becomes complete. An `async with` block closes the hooks at its end.

    Call all methods on the event loop of the receiver. If several processes share an archive, each has its own hooks.
    """

    def __init__(
        self,
        *,
        on_instance: Callable[[Record], Awaitable[object]] | None = None,
        on_study: Callable[[CompleteStudy], Awaitable[object]] | None = None,
        study_timeout: float = 60.0,
        seconds: float = 300.0,
        at_once: int = 4,
        max_waiting: int = 10_000,
        max_open: int = _MAX_OPEN,
    ) -> None:
        """Set the callbacks and their limits. Each callback has its own limits, so that neither waits for the other.

        A call is cancelled after `seconds`. At most `at_once` calls run, and at most `max_waiting` calls wait; further
        calls are skipped and logged. If more than `max_open` studies are open, the study that has waited longest for
        an instance is treated as complete.
        """
        self._instances = (
            None if on_instance is None else _Calls("on_instance", on_instance, seconds, at_once, max_waiting)
        )
        self._studies = None if on_study is None else _Calls("on_study", on_study, seconds, at_once, max_waiting)
        self._study_timeout = study_timeout
        self._max_open = max_open
        self._open: dict[str, _OpenStudy] = {}
        """Open studies by Study Instance UID, in the order of their latest instances."""
        self._sent_to: dict[Hashable, set[str]] = {}
        """UIDs of open studies, by association."""

    def instance(self, record: Record, association: Hashable) -> None:
        """Report an instance that was stored; not one that was in the archive already."""
        if self._instances is not None:
            self._instances.put(record, record.attributes.sop_instance_uid)
        uid = record.attributes.study_instance_uid
        if self._studies is None or not uid:
            return
        study = self._open.pop(uid, None) or _OpenStudy(record.received)
        study.add(record, association, asyncio.get_running_loop().time())
        self._open[uid] = study
        self._sent_to.setdefault(association, set()).add(uid)
        if len(self._open) > self._max_open:
            oldest = next(iter(self._open))
            log.warning("study_completed_early", study_instance_uid=oldest, open=self._max_open)
            self._complete(oldest)

    def association_ended(self, association: Hashable) -> None:
        """Report the end of an association."""
        loop = asyncio.get_running_loop()
        for uid in self._sent_to.pop(association, ()):
            study = self._open[uid]
            study.senders.discard(association)
            if not study.senders:
                study.timer = loop.call_at(study.latest + self._study_timeout, self._complete, uid)

    async def close(self, within: float = 10.0) -> None:
        """Wait at most `within` seconds for the calls to end, and cancel the others.

        Call this after all associations have ended: all open studies are complete then.
        """
        for uid in list(self._open):
            self._complete(uid)
        both = [calls for calls in (self._instances, self._studies) if calls is not None]
        try:
            async with asyncio.timeout(within):
                for calls in both:
                    await calls.idle()
        except TimeoutError:
            pass
        for calls in both:
            await calls.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _complete(self, uid: str) -> None:
        study = self._open.pop(uid)
        if study.timer is not None:
            study.timer.cancel()
        for sender in study.senders:
            self._sent_to[sender].discard(uid)
        if self._studies is not None:
            complete = CompleteStudy(
                study_instance_uid=uid,
                instances=study.instances,
                size=study.size,
                calling_ae_titles=tuple(sorted(study.calling_ae_titles)),
                first_received=study.first_received,
                last_received=study.last_received,
            )
            self._studies.put(complete, uid)


class _Calls(Generic[T]):
    """The calls of one callback: the running calls, each in a task, and the waiting calls."""

    def __init__(
        self, name: str, callback: Callable[[T], Awaitable[object]], seconds: float, at_once: int, max_waiting: int
    ) -> None:
        self._name = name
        self._callback = callback
        self._seconds = seconds
        self._at_once = at_once
        self._max_waiting = max_waiting
        self._running: set[asyncio.Task[None]] = set()
        self._waiting: deque[tuple[T, str]] = deque()
        self._skipped = 0

    def put(self, subject: T, uid: str) -> None:
        """Queue a call, or skip it if the queue is full."""
        if len(self._running) >= self._at_once and len(self._waiting) >= self._max_waiting:
            self._skipped += 1
            if self._skipped == 1:
                log.warning("hooks_skipped", hook=self._name, first_uid=uid, waiting=len(self._waiting))
            return
        self._waiting.append((subject, uid))
        self._start()

    async def idle(self) -> None:
        """Wait until all calls have ended."""
        while self._running:
            await asyncio.wait(self._running)

    async def stop(self) -> None:
        """Cancel the running calls and skip the waiting calls."""
        self._skipped += len(self._waiting)
        self._waiting.clear()
        for task in self._running:
            log.warning("hook_cancelled", hook=self._name, uid=task.get_name())
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._log_skipped()

    def _start(self) -> None:
        while self._waiting and len(self._running) < self._at_once:
            subject, uid = self._waiting.popleft()
            task = asyncio.create_task(self._call(subject, uid), name=uid)
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()
        if not self._running:
            self._log_skipped()

    def _log_skipped(self) -> None:
        if self._skipped:
            log.warning("hooks_skipped_total", hook=self._name, skipped=self._skipped)
            self._skipped = 0

    async def _call(self, subject: T, uid: str) -> None:
        limit = asyncio.timeout(self._seconds)
        try:
            async with limit:
                await self._callback(subject)
        except HookError as error:
            log.warning("hook_failed", hook=self._name, uid=uid, reason=str(error))
        except BaseException as error:  # a callback is the user's code: its exception ends only this call
            raised = as_exception(error)
            if limit.expired():
                log.warning("hook_failed", hook=self._name, uid=uid, reason=f"timeout after {self._seconds:g} s")
            else:
                log.exception("hook_raised", hook=self._name, uid=uid, exc_info=raised)

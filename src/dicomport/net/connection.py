"""The asyncio runner: runs step generators for one core on one stream."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

from dicomport.core import Association, CoreEvent, Role
from dicomport.net.errors import TimerExpiredError, check_deadline
from dicomport.net.generators import Receive, Steps, T, next_event
from dicomport.net.limits.counters import Counters
from dicomport.net.stream import Stream
from dicomport.net.timers import ArtimTimer, Deadline, Timeouts, Timer

_EVENTS_IN_A_TURN: Final = 256
"""Events before other tasks run, even if more are buffered: a fragment can be as short as one byte."""

_MAX_SILENCE: Final = 1.0
"""Seconds without bytes after which `drive` ends, so that the timers of single waits are started."""


class Connection:
    """Runs step generators for one association, in the task that owns it."""

    def __init__(
        self,
        stream: Stream,
        core: Association,
        timeouts: Timeouts,
        *,
        counters: Counters | None = None,
    ) -> None:
        self.core = core
        self.timeouts = timeouts
        self.stream = stream
        self.counters = Counters() if counters is None else counters
        self.progress = timeouts.progression()
        """The rate of the peer's bytes, measured in every wait."""
        self.expired: TimerExpiredError | None = None
        """The error of the last timer that expired, ARTIM included, which the core handles."""
        self._quiet_since: float | None = None
        self._is_requestor = core.role is Role.REQUESTOR
        self._events = 0
        self._partial_write = False
        """Whether a PDU was sent in part: the peer would read any later PDU, even an A-ABORT, as its rest."""
        self.is_interruptible = self._receiving = False
        self.interruption: Exception | None = None
        """The error that ends the next wait for bytes."""
        self._stall = timeouts.timer("write")
        shortest = min(timeouts.timer("idle").seconds, self.progress.seconds)
        self._silence = Timer("silence", min(shortest, _MAX_SILENCE))
        self._artim = ArtimTimer(core, timeouts.timer("artim").seconds)

    async def run(self, steps: Steps[T]) -> T:
        """Run a step generator and return its result; errors of the transport connection are raised inside it."""
        try:
            wait = next(steps)
            while True:
                try:
                    if isinstance(wait, Receive):
                        await self._receive_in_time(wait.timer)
                    elif self.core.has_output:
                        await self.flush(wait.timer)
                except TimerExpiredError as expired:
                    # A new error without a traceback, whose frames would refer to this connection.
                    self.expired = TimerExpiredError(expired.timer)
                    self.counters.timer(expired.timer)
                    wait = steps.throw(expired)
                except OSError as error:
                    wait = steps.throw(error)
                else:
                    wait = next(steps)
        except StopIteration as done:
            result: T = done.value
            return result

    def next_event_nowait(self) -> CoreEvent | None:
        """Return the next event if it is buffered and nothing must be sent first, otherwise None.

        Also returns None every 256 events, so that other tasks run in `next_event`. Output that the event causes, an
        A-ABORT, is sent with the next wait.
        """
        if self._events == _EVENTS_IN_A_TURN or self.core.has_output:
            return None
        self._events += 1
        return self.core.next_event()

    async def next_event(self, timer: Deadline) -> CoreEvent | None:
        """Wait for the next event of the core, as `generators.next_event` does."""
        if self._events == _EVENTS_IN_A_TURN:
            self._events = 0
            await asyncio.sleep(0)
        return await self.run(next_event(self.core, timer))

    async def flush(self, timer: Deadline | None = None) -> None:
        """Send the core's output; `timer` (default: write) bounds each time without progress.

        Raises `OSError` and `TimerExpiredError`.
        """
        output = self.core.take_output()
        if output and not self._partial_write:
            self._partial_write = True
            await self.stream.send(output, timer or self._stall)
            self._partial_write = False
            if self._is_requestor:
                self.stream.send_queue.record_message()

    async def drive(self, take: Callable[[memoryview], bytes | None], unread: bytes) -> None:
        """Pass the peer's bytes to `take`, as `Stream.drive` does, until they stop for a moment or it is interrupted.

        The minimum rate is measured here, too; the next wait raises its expiry. Raises what `take` raises, and
        `OSError`.
        """
        served_at = time.monotonic()

        def take_in_time(view: memoryview) -> bytes | None:
            nonlocal served_at
            self.progress.record_wait(time.monotonic() - served_at, len(view))
            left = take(view)
            served_at = time.monotonic()
            return left if self.progress.left > 0 else None

        self._receiving = self.is_interruptible = True
        try:
            await self.stream.drive(take_in_time, self._silence, unread)
        except TimerExpiredError:
            self.progress.record_wait(time.monotonic() - served_at, 0)
        except Exception as error:
            if error is not self.interruption:
                raise
        finally:
            self._receiving = self.is_interruptible = False
            self.interruption = None
            self._quiet_since = served_at

    async def await_responses(self, take: Callable[[memoryview], bytes | None], silence: Timer, unread: bytes) -> None:
        """Pass the peer's bytes to `take`, as `Stream.drive` does, until they stop for `silence`.

        Raises what `take` raises, and `OSError`. A requestor's peer has no minimum rate.
        """
        with contextlib.suppress(TimerExpiredError):
            await self.stream.drive(take, silence, unread)

    def take_quiet_since(self) -> float | None:
        """Return, once, the time of the last bytes of `drive` on the monotonic clock; None if other bytes followed."""
        since, self._quiet_since = self._quiet_since, None
        return since

    def interruptible(self) -> _Interruptible:
        """Return a context in which `interrupt` ends waits for the peer's bytes; outside it does nothing."""
        return _Interruptible(self)

    def interrupt(self, error: Exception) -> None:
        """End the current or the next wait for bytes with `error`; sending is not interrupted.

        Call it in the same event loop only.
        """
        if self.is_interruptible:
            self.interruption = error
            if self._receiving:
                self.stream.interrupt(error)

    def close(self) -> None:
        """Close the transport connection."""
        self.stream.close()

    async def _receive_in_time(self, timer: Deadline) -> None:
        while True:
            try:
                await self._receive(timer)
            except TimerExpiredError as expired:
                # The response timer starts when the request has left the system's send queue.
                if not (isinstance(expired.timer, Timer) and self._is_sending()):
                    raise
                timer = expired.timer.started()
            else:
                return

    def _is_sending(self) -> bool:
        """Return whether the peer is still receiving a requestor's earlier bytes."""
        return self._is_requestor and self.core.artim == 0 and self.stream.send_queue.drained()

    async def _receive(self, timer: Deadline) -> None:
        deadline = check_deadline(self._artim.deadline(timer))
        began = time.monotonic()
        if self.interruption is not None:
            raise self.interruption
        self._receiving = True
        try:
            data = await self.stream.receive(deadline)
        finally:
            self._receiving = False
        self.progress.record_wait(time.monotonic() - began, len(data))
        self._quiet_since = None
        if data:
            self.core.receive(data)
        else:
            self.core.transport_closed()


class _Interruptible:
    """A block in which waits can be interrupted. Used once per message, so not a generator, which would be slower."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.is_interruptible = True

    def __exit__(self, *_: object) -> None:
        self._connection.is_interruptible = False
        self._connection.interruption = None

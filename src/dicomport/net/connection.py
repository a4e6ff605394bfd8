"""The asyncio runner: one core on one stream."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from dicomport.core import Association, CoreEvent, Role
from dicomport.net.errors import TimerExpiredError, check_deadline
from dicomport.net.generators import Receive, Steps, T, next_event
from dicomport.net.limits.counters import Counters
from dicomport.net.stream import Stream
from dicomport.net.timers import ArtimClock, Deadline, Timeouts, Timer

__all__ = ["Connection"]

_EVENTS_IN_A_TURN: Final = 256
"""Events before others have their turn, though there may be bytes for more: fragments can be as short as a byte."""


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
        """How fast the peer's bytes come, whatever else they are waited for with."""
        self.expired: TimerExpiredError | None = None
        """The last timer that expired, ARTIM too, which the core deals with."""
        self._asks = core.role is Role.REQUESTOR
        self._events = 0
        self._partial_write = False
        """Whether a PDU was sent in part: what is sent after that, an A-ABORT too, would be read as its rest."""
        self.is_interruptible = self._receiving = False
        self.interruption: Exception | None = None
        """What the next wait for bytes ends with."""
        self._stall = timeouts.timer("write")
        self._artim = ArtimClock(core, timeouts.timer("artim").seconds)

    async def run(self, steps: Steps[T]) -> T:
        """Do what the steps wait for until they are done; errors of the transport connection are raised inside them."""
        try:
            wait = next(steps)
            while True:
                try:
                    if isinstance(wait, Receive):
                        await self._receive_in_time(wait.timer)
                    elif self.core.has_output:
                        await self.flush(wait.timer)
                except TimerExpiredError as expired:
                    # Another one, as this one is on its way through frames that have this connection in them.
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
        """Give the next event if it has come with the one before and nothing is to be sent first, else None.

        None comes every once in a while too, so that others have their turn in `next_event`. What the event makes the
        core send, an A-ABORT, is sent with the next wait.
        """
        if self._events == _EVENTS_IN_A_TURN or self.core.has_output:
            return None
        self._events += 1
        return self.core.next_event()

    async def next_event(self, timer: Deadline) -> CoreEvent | None:
        """Wait for the next event of the core, as `steps.next_event` has it."""
        if self._events == _EVENTS_IN_A_TURN:
            self._events = 0
            await asyncio.sleep(0)
        return await self.run(next_event(self.core, timer))

    async def flush(self, timer: Deadline | None = None) -> None:
        """Send what the core wants to send; raises `OSError` and `TimerExpiredError`."""
        output = self.core.take_output()
        if output and not self._partial_write:
            self._partial_write = True
            await self.stream.send(output, timer or self._stall)
            self._partial_write = False
            if self._asks:
                self.stream.backlog.note_message()

    def interruptible(self) -> _Interruptible:
        """Let `interrupt` end waits for bytes of the peer within a `with` block; anywhere else it does nothing."""
        return _Interruptible(self)

    def interrupt(self, error: Exception) -> None:
        """Let the wait for bytes that goes on, or else the next one, end with `error`. What is being sent still is.

        To be called from callbacks of the same event loop.
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
                # Who waits for a response waits from when its request has left, not from when the system took it.
                if not (isinstance(expired.timer, Timer) and self._is_sending()):
                    raise
                timer = expired.timer.started()
            else:
                return

    def _is_sending(self) -> bool:
        """Whether the peer still takes what a requestor has sent."""
        return self._asks and self.core.artim == 0 and self.stream.backlog.drained()

    async def _receive(self, timer: Deadline) -> None:
        bound = check_deadline(self._artim.bound(timer))
        began = time.monotonic()
        if self.interruption is not None:
            raise self.interruption
        self._receiving = True
        try:
            data = await self.stream.receive(bound)
        finally:
            self._receiving = False
        self.progress.waited(time.monotonic() - began, len(data))
        if data:
            self.core.receive(data)
        else:
            self.core.transport_closed()


class _Interruptible:
    """A block in which waits can be interrupted. There is one for each message: no generator, that takes longer."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.is_interruptible = True

    def __exit__(self, *_: object) -> None:
        self._connection.is_interruptible = False
        self._connection.interruption = None

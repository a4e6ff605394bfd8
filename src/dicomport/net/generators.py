"""Step generators: each wait of a requestor or acceptor, written once for asyncio and for blocking sockets.

Theory of operation
-------------------
A step generator drives the core and contains no I/O. It yields a `Wait` when it needs bytes from the peer (`Receive`)
or when the core's output must be sent first (`Flush`). A runner does the wait and resumes the generator: `Connection`
(connection.py) in the asyncio task that owns the association, `BlockingConnection` (blocking.py) in the caller's
thread. The runner raises timeouts and errors of the transport connection inside the generator, at the `yield`. One
generator at a time runs on a core, so the core needs no lock.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, NamedTuple, TypeAlias, TypeVar

from dicomport.core import Association, CoreEvent, State
from dicomport.net.errors import TimerExpiredError
from dicomport.net.timers import ARTIM, Deadline, Timer
from dicomport.wire import strip_traceback


class Flush(NamedTuple):
    """Wait until the core's output is sent; `timer`, by default the write timer, bounds each time without progress."""

    timer: Timer | None = None


class Receive(NamedTuple):
    """Wait until the core has received bytes, the transport connection is closed, or `timer` has expired."""

    timer: Deadline


FLUSH: Final = Flush()

Wait: TypeAlias = Flush | Receive

T = TypeVar("T")

Steps: TypeAlias = Generator[Wait, None, T]


def next_event(core: Association, timer: Deadline, event: CoreEvent | None = None) -> Steps[CoreEvent | None]:
    """Return the core's next event; None after the association and its transport connection have ended.

    An `event` that the core has already returned is returned after the output is sent. While ARTIM runs, it replaces
    `timer`; the core handles its expiry (Evt18). An error of the transport connection is its end (Evt17). Raises
    `TimerExpiredError`.
    """
    while True:
        event = event or core.next_event()
        unsent: OSError | None = None
        try:
            yield FLUSH
        except TimerExpiredError:
            raise
        except OSError as error:
            # A peer that does not read any more may have sent the reason before: its bytes are read to the end.
            unsent = error
        if event is not None:
            return event
        if core.closing or core.state is State.STA1:
            if unsent is not None:
                core.transport_closed(strip_traceback(unsent))
            # The last event, if any, is the loss of the connection, which the flush has just detected.
            return core.next_event()
        try:
            yield Receive(timer)
        except TimerExpiredError as expired:
            if expired.timer.name != ARTIM:
                raise
            core.artim_expired()
        except OSError as error:
            core.transport_closed(strip_traceback(error))

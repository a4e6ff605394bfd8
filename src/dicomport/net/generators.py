"""What happens on an association, as generators that say what they wait for and leave the waiting to others.

A step generator drives the core and yields a `Wait` where it can't go on: for bytes from the peer, or until what the
core wants to send is sent. Two small runners do the waiting, one on asyncio (`connection.py`), one on a blocking
socket (`blocking.py`): so each thing that a requestor or acceptor does is written once.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, NamedTuple, TypeAlias, TypeVar

from dicomport.core import Association, CoreEvent, State
from dicomport.net.errors import TimerExpiredError
from dicomport.net.timers import ARTIM, Deadline, Timer
from dicomport.wire import strip_traceback

__all__ = ["FLUSH", "Flush", "Receive", "Steps", "Wait", "next_event"]


class Flush(NamedTuple):
    """Until the core's output has left; `timer`, by default the write timer, bounds each time without progress."""

    timer: Timer | None = None


class Receive(NamedTuple):
    """Until bytes were lent to the core, or the transport connection has closed, or `timer` has expired."""

    timer: Deadline


FLUSH: Final = Flush()

Wait: TypeAlias = Flush | Receive

T = TypeVar("T")

Steps: TypeAlias = Generator[Wait, None, T]


def next_event(core: Association, timer: Deadline, event: CoreEvent | None = None) -> Steps[CoreEvent | None]:
    """Wait for the core's next event; None once the association and its transport connection are over.

    Where the core has given it already, it is `event`, and there is only the output to be sent. While ARTIM runs it
    takes the place of `timer`; its expiry is the core's business (Evt18). An error of the transport connection is its
    end (Evt17). Raises `TimerExpiredError`.
    """
    while True:
        event = event or core.next_event()
        unsent: OSError | None = None
        try:
            yield FLUSH
        except TimerExpiredError:
            raise
        except OSError as error:
            # A peer that reads no more may have said why before: what it has sent is read to its end.
            unsent = error
        if event is not None:
            return event
        if core.closing or core.state is State.STA1:
            if unsent is not None:
                core.transport_closed(strip_traceback(unsent))
            # The last word, if there is one, is the loss of the connection that the flush has just found out.
            return core.next_event()
        try:
            yield Receive(timer)
        except TimerExpiredError as expired:
            if expired.timer.name != ARTIM:
                raise
            core.artim_expired()
        except OSError as error:
            core.transport_closed(strip_traceback(error))

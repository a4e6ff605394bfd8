"""The DICOM Upper Layer state machine (PS3.8 9.2), driven by the transition table.

Theory of operation
-------------------
`step` looks up the action and the next state for an event in `TRANSITIONS`; `_EFFECTS` lists the effects of each
action. Effects do no I/O. They append bytes to the outbox and events to the indications, start or stop ARTIM, and set
`closing`. The driver, which owns the socket and the clock, reads these after every call: it sends the outbox, runs
ARTIM, and closes the connection when the outbox is empty. One task calls a machine, so there is no lock. The state
changes after the effects, so a request that the state does not allow changes nothing.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from dicomport.core.errors import StateError
from dicomport.core.events import Aborted, CoreEvent
from dicomport.core.states import TRANSITIONS, Action, Event, State
from dicomport.wire import Abort, AbortReason, Buffer


class _Effect(enum.Enum):
    SEND = enum.auto()
    """Send the PDUs of the event."""
    USER_ABORT = enum.auto()
    """Send A-ABORT with the service-user as its source (PS3.8 9.3.8)."""
    PROVIDER_ABORT = enum.auto()
    """Send A-ABORT with the service-provider as its source, and the reason of the event."""
    INDICATE = enum.auto()
    """Queue the indication of the event for the local user."""
    INDICATE_ABORT = enum.auto()
    """Queue an A-P-ABORT indication for the local user."""
    START_ARTIM = enum.auto()
    STOP_ARTIM = enum.auto()
    CLOSE = enum.auto()
    """Close the transport connection after the output is sent."""


_E = _Effect

# PS3.8 Tables 9-6 to 9-9.
_EFFECTS: Final[Mapping[Action, tuple[_Effect, ...]]] = {
    Action.AE_1: (),
    Action.AE_2: (_E.SEND,),
    Action.AE_3: (_E.INDICATE,),
    Action.AE_4: (_E.INDICATE, _E.CLOSE),
    Action.AE_5: (_E.START_ARTIM,),
    Action.AE_6: (_E.STOP_ARTIM, _E.INDICATE),
    Action.AE_7: (_E.SEND,),
    Action.AE_8: (_E.SEND, _E.START_ARTIM),
    Action.DT_1: (_E.SEND,),
    Action.DT_2: (_E.INDICATE,),
    Action.AR_1: (_E.SEND,),
    Action.AR_2: (_E.INDICATE,),
    Action.AR_3: (_E.INDICATE, _E.CLOSE),
    Action.AR_4: (_E.SEND, _E.START_ARTIM),
    Action.AR_5: (_E.STOP_ARTIM,),
    Action.AR_6: (_E.INDICATE,),
    Action.AR_7: (_E.SEND,),
    Action.AR_8: (_E.INDICATE,),
    Action.AR_9: (_E.SEND,),
    Action.AR_10: (_E.INDICATE,),
    Action.AA_1: (_E.USER_ABORT, _E.START_ARTIM),
    Action.AA_2: (_E.STOP_ARTIM, _E.CLOSE),
    Action.AA_3: (_E.INDICATE, _E.CLOSE),
    Action.AA_4: (_E.INDICATE,),
    Action.AA_5: (_E.STOP_ARTIM,),
    Action.AA_6: (),
    Action.AA_7: (_E.PROVIDER_ABORT,),
    Action.AA_8: (_E.PROVIDER_ABORT, _E.INDICATE_ABORT, _E.START_ARTIM),
    Action.REFUSE: (),
    Action.IGNORE: (),
}


_ABORTING: Final = frozenset(
    action for action, effects in _EFFECTS.items() if _E.INDICATE_ABORT in effects or _E.PROVIDER_ABORT in effects
)
_REFUSE: Final = Action.REFUSE


class Machine:
    """State, outbox, indications and ARTIM of one side of one association."""

    __slots__ = ("_artim_starts", "artim", "closing", "indications", "outbox", "state")

    def __init__(self) -> None:
        self.state = State.STA1
        self.outbox: list[Buffer] = []
        """Bytes to send, in order; the driver removes them."""
        self.indications: deque[CoreEvent] = deque()
        self.artim = 0
        """0 while ARTIM is stopped, otherwise a number that changes with each start."""
        self.closing = False
        """Whether to close the transport connection when the outbox is empty."""
        self._artim_starts = 0

    def step(
        self,
        event: Event,
        *,
        send: Iterable[Buffer] = (),
        indicate: CoreEvent | None = None,
        reason: AbortReason = AbortReason.NOT_SPECIFIED,
        detail: str = "",
    ) -> Action:
        """Perform the action for an event, change to the next state, and return the action.

        `send` and `indicate` are the event's PDUs and indication. If the action aborts, `reason` and `detail` describe
        the peer's error; the default detail is that the event is not allowed in this state. Raises `StateError`,
        with nothing changed, for a local request that the state does not allow.
        """
        action, following = TRANSITIONS[self.state, event]
        if action is _REFUSE:
            raise StateError(f"{event.meaning} is not allowed in this state: {self.state.meaning}")
        effects = _EFFECTS[action]
        aborted = None
        if action in _ABORTING:
            aborted = Aborted(reason, by_peer=False, detail=detail or describe_unexpected(event, self.state))
        self._perform(effects, send, indicate, aborted)
        self.state = following
        return action

    def reject_as_provider(self, rejection: Buffer) -> None:
        """Perform the second half of AE-6: the service-provider itself rejects the request (PS3.8 Table 9-6)."""
        self._perform(_EFFECTS[Action.AE_8], (rejection,), None, None)
        self.state = State.STA13

    def collide_as_acceptor(self) -> None:
        """Perform the second half of AR-8: the acceptor's next state in a release collision (PS3.8 Table 9-8)."""
        self.state = State.STA10

    def _perform(
        self,
        effects: Iterable[_Effect],
        send: Iterable[Buffer],
        indicate: CoreEvent | None,
        aborted: Aborted | None,
    ) -> None:
        for effect in effects:
            match effect:
                case _Effect.SEND:
                    self.outbox += send
                case _Effect.INDICATE if indicate is not None:
                    self.indications.append(indicate)
                case _Effect.INDICATE_ABORT if aborted is not None:
                    self.indications.append(aborted)
                case _Effect.USER_ABORT:
                    self.outbox.append(Abort(AbortReason.SERVICE_USER).encode())
                case _Effect.PROVIDER_ABORT if aborted is not None:
                    self.outbox.append(Abort(aborted.reason).encode())
                case _Effect.START_ARTIM:
                    self._artim_starts += 1
                    self.artim = self._artim_starts
                case _Effect.STOP_ARTIM:
                    self.artim = 0
                case _Effect.CLOSE:
                    self.closing = True


def describe_unexpected(event: Event, state: State) -> str:
    """Return the description of an event in a state that does not allow it."""
    return f"{event.meaning}; {state.meaning}"

"""The state machine of PS3.8 9.2 as a table, and nothing else.

`TRANSITIONS` is a literal copy of Table 9-10, made total; nothing else decides the meaning of an event in a state. It
knows neither bytes nor time. The effects of each action are a table too, in `machine.py`.

The standard leaves 124 of the 247 pairs blank. Two actions fill them, so that every pair has an action:

    REFUSE   the local user's request is not allowed in this state: `StateError`, nothing changes
    IGNORE   the event has no meaning in this state (no connection, or a timer that expired late): nothing changes
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class _Meant(enum.Enum):
    """A member whose value is its meaning."""

    # Each member exists once: looking it up by identity is five times as fast as by name.
    __hash__ = object.__hash__

    @property
    def meaning(self) -> str:
        """Meaning of the member (PS3.8 9.2)."""
        return str(self.value)


@enum.unique
class State(_Meant):
    """PS3.8 9.2.1, Tables 9-1 to 9-5."""

    STA1 = "idle"
    STA2 = "transport connection open, awaiting A-ASSOCIATE-RQ"
    STA3 = "awaiting the local A-ASSOCIATE response"
    STA4 = "awaiting the transport connection"
    STA5 = "awaiting A-ASSOCIATE-AC or A-ASSOCIATE-RJ"
    STA6 = "association established, ready for data transfer"
    STA7 = "awaiting A-RELEASE-RP"
    STA8 = "awaiting the local A-RELEASE response"
    STA9 = "release collision, requestor: awaiting the local A-RELEASE response"
    STA10 = "release collision, acceptor: awaiting A-RELEASE-RP"
    STA11 = "release collision, requestor: awaiting A-RELEASE-RP"
    STA12 = "release collision, acceptor: awaiting the local A-RELEASE response"
    STA13 = "awaiting the close of the transport connection"


@enum.unique
class Event(_Meant):
    """PS3.8 9.2.2, the rows of Table 9-10."""

    EVT1 = "A-ASSOCIATE request (local user)"
    EVT2 = "transport connection confirmed"
    EVT3 = "A-ASSOCIATE-AC received"
    EVT4 = "A-ASSOCIATE-RJ received"
    EVT5 = "transport connection indicated"
    EVT6 = "A-ASSOCIATE-RQ received"
    EVT7 = "A-ASSOCIATE response, accepting (local user)"
    EVT8 = "A-ASSOCIATE response, rejecting (local user)"
    EVT9 = "P-DATA request (local user)"
    EVT10 = "P-DATA-TF received"
    EVT11 = "A-RELEASE request (local user)"
    EVT12 = "A-RELEASE-RQ received"
    EVT13 = "A-RELEASE-RP received"
    EVT14 = "A-RELEASE response (local user)"
    EVT15 = "A-ABORT request (local user)"
    EVT16 = "A-ABORT received"
    EVT17 = "transport connection closed"
    EVT18 = "ARTIM timer expired"
    EVT19 = "unrecognized or invalid PDU received"


@enum.unique
class Action(_Meant):
    """PS3.8 9.2.2, Tables 9-6 to 9-9, and two actions for the blank pairs."""

    AE_1 = "open the transport connection"
    AE_2 = "send A-ASSOCIATE-RQ"
    AE_3 = "confirm the association"
    AE_4 = "confirm the rejection, close the transport connection"
    AE_5 = "accept the transport connection, start ARTIM"
    AE_6 = "stop ARTIM, indicate the request; or send A-ASSOCIATE-RJ and start ARTIM"
    AE_7 = "send A-ASSOCIATE-AC"
    AE_8 = "send A-ASSOCIATE-RJ, start ARTIM"
    DT_1 = "send P-DATA-TF"
    DT_2 = "indicate the data"
    AR_1 = "send A-RELEASE-RQ"
    AR_2 = "indicate the release"
    AR_3 = "confirm the release, close the transport connection"
    AR_4 = "send A-RELEASE-RP, start ARTIM"
    AR_5 = "the transport connection is closed as expected: stop ARTIM"
    AR_6 = "indicate the data, although a release was requested"
    AR_7 = "send P-DATA-TF, although a release was requested"
    AR_8 = "indicate the release: a collision"
    AR_9 = "send A-RELEASE-RP"
    AR_10 = "confirm the release"
    AA_1 = "send A-ABORT as the service-user, restart ARTIM"
    AA_2 = "stop ARTIM, close the transport connection"
    AA_3 = "indicate the peer's abort, close the transport connection"
    AA_4 = "indicate the loss of the connection"
    AA_5 = "the transport connection is closed before any request: stop ARTIM"
    AA_6 = "ignore the PDU"
    AA_7 = "send A-ABORT"
    AA_8 = "send A-ABORT as the service-provider, indicate it, start ARTIM"
    REFUSE = "refuse the local user's request"
    IGNORE = "do nothing"


_LOCAL_REQUESTS: Final = frozenset(
    (Event.EVT1, Event.EVT7, Event.EVT8, Event.EVT9, Event.EVT11, Event.EVT14, Event.EVT15)
)

# fmt: off
_TABLE_9_10: Final = {
    #             Sta1   Sta2   Sta3   Sta4   Sta5   Sta6   Sta7   Sta8   Sta9   Sta10  Sta11  Sta12  Sta13
    Event.EVT1:  "AE1/4  -      -      -      -      -      -      -      -      -      -      -      -",
    Event.EVT2:  "-      -      -      AE2/5  -      -      -      -      -      -      -      -      -",
    Event.EVT3:  "-      AA1/13 AA8/13 -      AE3/6  AA8/13 AA8/13 AA8/13 AA8/13 AA8/13 AA8/13 AA8/13 AA6/13",
    Event.EVT4:  "-      AA1/13 AA8/13 -      AE4/1  AA8/13 AA8/13 AA8/13 AA8/13 AA8/13 AA8/13 AA8/13 AA6/13",
    Event.EVT5:  "AE5/2  -      -      -      -      -      -      -      -      -      -      -      -",
    # The next state of AE-6 is Sta13 if the provider itself rejects the request.
    Event.EVT6:  "-      AE6/3  AA8/13 -      AA8/13 AA8/13 AA8/13 AA8/13 AA8/13 AA8/13 AA8/13 AA8/13 AA7/13",
    Event.EVT7:  "-      -      AE7/6  -      -      -      -      -      -      -      -      -      -",
    Event.EVT8:  "-      -      AE8/13 -      -      -      -      -      -      -      -      -      -",
    Event.EVT9:  "-      -      -      -      -      DT1/6  -      AR7/8  -      -      -      -      -",
    Event.EVT10: "-      AA1/13 AA8/13 -      AA8/13 DT2/6  AR6/7  AA8/13 AA8/13 AA8/13 AA8/13 AA8/13 AA6/13",
    Event.EVT11: "-      -      -      -      -      AR1/7  -      -      -      -      -      -      -",
    # The next state of AR-8 is Sta10 on the acceptor's side.
    Event.EVT12: "-      AA1/13 AA8/13 -      AA8/13 AR2/8  AR8/9  AA8/13 AA8/13 AA8/13 AA8/13 AA8/13 AA6/13",
    Event.EVT13: "-      AA1/13 AA8/13 -      AA8/13 AA8/13 AR3/1  AA8/13 AA8/13 AR10/12 AR3/1  AA8/13 AA6/13",
    Event.EVT14: "-      -      -      -      -      -      -      AR4/13 AR9/11 -      -      AR4/13 -",
    Event.EVT15: "-      -      AA1/13 AA2/1  AA1/13 AA1/13 AA1/13 AA1/13 AA1/13 AA1/13 AA1/13 AA1/13 -",
    Event.EVT16: "-      AA2/1  AA3/1  -      AA3/1  AA3/1  AA3/1  AA3/1  AA3/1  AA3/1  AA3/1  AA3/1  AA2/1",
    Event.EVT17: "-      AA5/1  AA4/1  AA4/1  AA4/1  AA4/1  AA4/1  AA4/1  AA4/1  AA4/1  AA4/1  AA4/1  AR5/1",
    Event.EVT18: "-      AA2/1  -      -      -      -      -      -      -      -      -      -      AA2/1",
    Event.EVT19: "-      AA1/13 AA8/13 -      AA8/13 AA8/13 AA8/13 AA8/13 AA8/13 AA8/13 AA8/13 AA8/13 AA7/13",
}
# fmt: on


def _row(event: Event, cells: str) -> dict[tuple[State, Event], tuple[Action, State]]:
    """Parse one row of the table: for each state an action and the number of the next state, or a blank."""
    row = {}
    for state, cell in zip(State, cells.split(), strict=True):
        if cell == "-":
            blank = Action.REFUSE if event in _LOCAL_REQUESTS else Action.IGNORE
            row[state, event] = (blank, state)
        else:
            action, following = cell.split("/")
            row[state, event] = (Action[f"{action[:2]}_{action[2:]}"], State[f"STA{following}"])
    return row


TRANSITIONS: Final[Mapping[tuple[State, Event], tuple[Action, State]]] = {
    pair: outcome for event, cells in _TABLE_9_10.items() for pair, outcome in _row(event, cells).items()
}
"""The action and the next state for every pair of state and event (PS3.8 Table 9-10)."""

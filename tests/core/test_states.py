"""The upper layer's state machine against PS3.8 Table 9-10, typed here independently a second time.

The grid stands as the standard prints it: a row for each event, a column for each state, a dot for a
pair that the standard leaves blank. Nothing in it is taken from the code it judges.
"""

from enum import Enum
from typing import Final

import pytest

from dicomport.core.states import TRANSITIONS, Action, Event, State

# PS3.8, Table 9-10.
TABLE_9_10: Final = """
event  Sta1  Sta2  Sta3  Sta4  Sta5  Sta6  Sta7  Sta8  Sta9  Sta10 Sta11 Sta12 Sta13
Evt1   AE-1  .     .     .     .     .     .     .     .     .     .     .     .
Evt2   .     .     .     AE-2  .     .     .     .     .     .     .     .     .
Evt3   .     AA-1  AA-8  .     AE-3  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt4   .     AA-1  AA-8  .     AE-4  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt5   AE-5  .     .     .     .     .     .     .     .     .     .     .     .
Evt6   .     AE-6  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
Evt7   .     .     AE-7  .     .     .     .     .     .     .     .     .     .
Evt8   .     .     AE-8  .     .     .     .     .     .     .     .     .     .
Evt9   .     .     .     .     .     DT-1  .     AR-7  .     .     .     .     .
Evt10  .     AA-1  AA-8  .     AA-8  DT-2  AR-6  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt11  .     .     .     .     .     AR-1  .     .     .     .     .     .     .
Evt12  .     AA-1  AA-8  .     AA-8  AR-2  AR-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt13  .     AA-1  AA-8  .     AA-8  AA-8  AR-3  AA-8  AA-8  AR-10 AR-3  AA-8  AA-6
Evt14  .     .     .     .     .     .     .     AR-4  AR-9  .     .     AR-4  .
Evt15  .     .     AA-1  AA-2  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  .
Evt16  .     AA-2  AA-3  .     AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-2
Evt17  .     AA-5  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AR-5
Evt18  .     AA-2  .     .     .     .     .     .     .     .     .     .     AA-2
Evt19  .     AA-1  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
"""

# PS3.8, Tables 9-6 to 9-9: the state that each action leads to. Two have a choice: AE-6 by whether the
# provider accepts the request, AR-8 by which side requested the association.
NEXT_STATES: Final[dict[str, frozenset[str]]] = {
    action: frozenset(states.split())
    for action, states in {
        "AE-1": "Sta4",
        "AE-2": "Sta5",
        "AE-3": "Sta6",
        "AE-4": "Sta1",
        "AE-5": "Sta2",
        "AE-6": "Sta3 Sta13",
        "AE-7": "Sta6",
        "AE-8": "Sta13",
        "DT-1": "Sta6",
        "DT-2": "Sta6",
        "AR-1": "Sta7",
        "AR-2": "Sta8",
        "AR-3": "Sta1",
        "AR-4": "Sta13",
        "AR-5": "Sta1",
        "AR-6": "Sta7",
        "AR-7": "Sta8",
        "AR-8": "Sta9 Sta10",
        "AR-9": "Sta11",
        "AR-10": "Sta12",
        "AA-1": "Sta13",
        "AA-2": "Sta1",
        "AA-3": "Sta1",
        "AA-4": "Sta1",
        "AA-5": "Sta1",
        "AA-6": "Sta13",
        "AA-7": "Sta13",
        "AA-8": "Sta13",
    }.items()
}

# The primitives of the local user (PS3.8, 9.2.1): out of place, they are an error of the caller; every
# other event that the table leaves blank passes without effect.
LOCAL_PRIMITIVES: Final = frozenset({"Evt1", "Evt7", "Evt8", "Evt9", "Evt11", "Evt14", "Evt15"})


def read_grid(text: str) -> dict[tuple[str, str], str]:
    """Read every cell of the grid by its state and event, a blank one as a dot."""
    head, *rows = (line.split() for line in text.strip().splitlines())
    states = head[1:]
    return {(state, event): cell for event, *cells in rows for state, cell in zip(states, cells, strict=True)}


GRID: Final = read_grid(TABLE_9_10)


def member_name(printed: str) -> str:
    """Return the name of the enum member for the standard's spelling: AE_1 for AE-1, STA1 for Sta1."""
    return printed.replace("-", "_").upper()


def expected(state: str, event: str) -> tuple[Action, frozenset[State]]:
    """Return the action of a pair, and its possible next states."""
    cell = GRID[state, event]
    if cell == ".":
        action = Action.REFUSE if event in LOCAL_PRIMITIVES else Action.IGNORE
        return action, frozenset({State[member_name(state)]})
    return Action[member_name(cell)], frozenset(State[member_name(name)] for name in NEXT_STATES[cell])


def test_the_grid_is_whole() -> None:
    assert len(GRID) == 13 * 19 == 247
    assert len({state for state, _ in GRID}) == 13
    assert len({event for _, event in GRID}) == 19
    assert sum(cell != "." for cell in GRID.values()) == 123


def test_every_action_of_the_standard_is_in_the_grid() -> None:
    assert {cell for cell in GRID.values() if cell != "."} == set(NEXT_STATES)


@pytest.mark.parametrize(
    ("members", "names"),
    [
        (State, {f"STA{number}" for number in range(1, 14)}),
        (Event, {f"EVT{number}" for number in range(1, 20)}),
        (Action, {member_name(name) for name in NEXT_STATES} | {"REFUSE", "IGNORE"}),
    ],
    ids=["states", "events", "actions"],
)
def test_the_enums_hold_the_standard_s_names_and_no_others(members: type[Enum], names: set[str]) -> None:
    assert set(members.__members__) == names


def test_the_transitions_are_total() -> None:
    assert len(TRANSITIONS) == 247
    assert set(TRANSITIONS) == {(state, event) for state in State for event in Event}


def test_each_transition_performs_its_action() -> None:
    blank = {Action.REFUSE, Action.IGNORE}
    assert sum(action not in blank for action, _ in TRANSITIONS.values()) == 123


@pytest.mark.parametrize(("state", "event"), list(GRID), ids=[f"{state}-{event}" for state, event in GRID])
def test_a_transition_is_the_standard_s(state: str, event: str) -> None:
    want_action, want_states = expected(state, event)
    action, next_state = TRANSITIONS[State[member_name(state)], Event[member_name(event)]]
    assert action is want_action
    assert next_state in want_states


@pytest.mark.parametrize("members", [State, Event, Action], ids=["states", "events", "actions"])
def test_each_member_has_a_meaning(members: type[State | Event | Action]) -> None:
    for member in members:
        assert isinstance(member.meaning, str)
        assert member.meaning.strip()

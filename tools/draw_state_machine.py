"""Draw docs/state-machine.md from the table that the code runs on, so that the two can't disagree.

`--check` writes nothing and exits with 1 when the page is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from dicomport.core import TRANSITIONS, Action, Event, State

PAGE = Path(__file__).parent.parent / "docs" / "state-machine.md"

_BLANK = frozenset((Action.REFUSE, Action.IGNORE))


def page() -> str:
    """Give the whole page."""
    return "\n".join((*_diagram(), *_table(), *_meanings()))


def _diagram() -> Iterator[str]:
    yield "# The DICOM Upper Layer state machine"
    yield ""
    yield "Drawn by `tools/draw_state_machine.py` from `dicomport.core.states.TRANSITIONS` (PS3.8 9.2, Table 9-10)."
    yield "The diagram leaves out what ends in an abort or a loss of the connection; the table below has every pair."
    yield ""
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {_short(State.STA1)}"
    for (state, event), (action, following) in TRANSITIONS.items():
        if action not in _BLANK and not action.name.startswith("AA_") and event is not Event.EVT17:
            yield f"    {_short(state)} --> {_short(following)}: {_short(event)} {_short(action)}"
        if action is Action.AR_8:
            yield f"    {_short(state)} --> {_short(State.STA10)}: {_short(event)} {_short(action)}, acceptor"
        if action is Action.AE_6:
            yield f"    {_short(state)} --> {_short(State.STA13)}: {_short(event)} {_short(action)}, rejected"
    yield "```"
    yield ""


def _table() -> Iterator[str]:
    yield "| | " + " | ".join(map(_short, State)) + " |"
    yield "|---" * (len(State) + 1) + "|"
    for event in Event:
        cells = (TRANSITIONS[state, event] for state in State)
        yield f"| {_short(event)} | " + " | ".join(_cell(action, following) for action, following in cells) + " |"
    yield ""
    yield "An empty cell is blank in the standard too: there a local request is refused, and anything else ignored."
    yield ""


def _cell(action: Action, following: State) -> str:
    return "" if action in _BLANK else f"{_short(action)} {_short(following)}"


def _meanings() -> Iterator[str]:
    for heading, members in (("States", State), ("Events", Event), ("Actions", Action)):
        yield f"## {heading}"
        yield ""
        yield "| | |"
        yield "|---|---|"
        for member in members:
            yield f"| {_short(member)} | {member.meaning} |"
        yield ""


def _short(member: State | Event | Action) -> str:
    """Write a member as the standard does: Sta1, Evt1, AE-1."""
    name = member.name
    return name.replace("_", "-") if isinstance(member, Action) else name.capitalize()


def main() -> int:
    """Write the page, or check it."""
    drawn = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(drawn, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == drawn:
        return 0
    print(f"{PAGE.name} is stale: run python tools/draw_state_machine.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

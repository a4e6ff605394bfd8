"""The rooms and the names of the source tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

SOURCE: Final = Path(__file__).parent.parent / "src" / "dicomport"

REPLACED: Final = {
    "scu": """Desk Exchange _Flight lose _courier _Setbacks Delivery Load PlannedAssociation Spent Preparation Sendable
        Stamp OpenUnchanged curious taken_instead _patience Forward Unpacker untried _gone _silent _unreached""",
    "net": """Visitor Admission dismiss Attempt _torn event_at_hand shrank Bound unexpired LostError Identity spoken
        without_frames""",
    "core": "settle Outcome Identity fragments announce spoken without_frames foreign",
    "wire": "spoken without_frames FOREIGN_BYTES",
    "scp": "settle Peer decide Refusal judge StorageOnly Verdict on_over on_answer _Over _Woken normalized_bytes",
    "commitment": "Custody Courier _Over",
    "dimse": "settle is_over",
    "archive": """Sender InstanceFacts Commission Model Models Finding look_at came_at claim quick GuardedReader
        read_stretch Custody""",
    "encoding": "Model Models over",
    "files": "claim quick Memory GuardedReader read_stretch",
    "cli": "Seat _Parent Outlets tell Commitments Committing ask association_over be_worker talkative untried",
    "testing": "Harm Way PATIENCE patience over",
}
"""Names that a room no longer uses; each has a successor in the words of the standard or of Python."""

MAXIMUM_FILES: Final = 15


def _names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield each name that a module defines, imports, takes as a parameter or exports, with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.alias(name=name, asname=alias):
                yield node.lineno, name
                if alias:
                    yield node.lineno, alias
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List(elts=exported)):
                yield from ((item.lineno, str(item.value)) for item in exported if isinstance(item, ast.Constant))


def _modules(room: str) -> list[Path]:
    return sorted((SOURCE / room).rglob("*.py"))


@pytest.mark.parametrize("room", REPLACED)
def test_a_room_does_not_use_its_replaced_names(room: str) -> None:
    replaced = set(REPLACED[room].split())
    found = [
        f"{path.relative_to(SOURCE)}:{line}: {name}"
        for path in _modules(room)
        for line, name in _names(ast.parse(path.read_text(encoding="utf-8")))
        if name in replaced
    ]
    assert found == []


def test_limits_are_named_by_max() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{line}: {name}"
        for path in SOURCE.rglob("*.py")
        for line, name in _names(ast.parse(path.read_text(encoding="utf-8")))
        if name.strip("_").lower().startswith(("most_", "longest_")) or name.strip("_") in {"MOST", "LONGEST"}
    ]
    assert found == []


def test_no_room_has_more_files_on_one_level_than_a_newcomer_can_survey() -> None:
    rooms = {path.parent for path in SOURCE.rglob("*.py")}
    crowded = {
        str(room.relative_to(SOURCE)): count
        for room in rooms
        if room.relative_to(SOURCE).parts[:1] not in {("cli",), ("testing",)}
        if (count := sum(path.name != "__init__.py" for path in room.glob("*.py"))) > MAXIMUM_FILES
    }
    assert crowded == {}


def test_each_frozen_class_with_slots_is_a_value() -> None:
    """Check that none is made by `dataclass`: `dicomport.values.frozen` takes less time."""
    generated = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and {"frozen", "slots"} <= {keyword.arg for keyword in node.keywords}
    ]

    assert generated == []

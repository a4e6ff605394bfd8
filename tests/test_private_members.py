"""The rooms of the source: no class and no module uses the private members of another room.

ruff's SLF001 finds `other._member` inside a room too; it cannot see a subclass that uses its base's private members.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

import dicomport

SOURCE: Final = Path(dicomport.__file__).parent


@dataclass(frozen=True)
class Class:
    room: str
    node: ast.ClassDef

    @property
    def bases(self) -> list[str]:
        return [name for base in self.node.bases if (name := _last_name(base))]

    @property
    def defined(self) -> set[str]:
        """The private members that the class defines: methods, fields, and attributes of `self`."""
        names = {
            target.id if isinstance(target, ast.Name) else getattr(target, "name", "")
            for statement in self.node.body
            for target in _targets(statement)
        }
        return {name for name in names | self._of_self(ast.Store) if _is_private(name)}

    @property
    def used(self) -> set[str]:
        """The private members of `self` that the class uses or sets."""
        return self._of_self(ast.Load) | self._of_self(ast.Store)

    def _of_self(self, context: type[ast.expr_context]) -> set[str]:
        return {
            node.attr
            for node in ast.walk(self.node)
            if isinstance(node, ast.Attribute)
            and isinstance(node.ctx, context)
            and isinstance(node.value, ast.Name)
            and node.value.id in {"self", "cls"}
            and _is_private(node.attr)
        }


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _last_name(node: ast.expr) -> str:
    match node:
        case ast.Name(name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value):
            return _last_name(value)
    return ""


def _targets(statement: ast.stmt) -> list[ast.AST]:
    match statement:
        case ast.Assign(targets):
            return list(targets)
        case ast.AnnAssign(target):
            return [target]
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [statement]
    return []


def _room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def _modules(source: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in source.rglob("*.py"):
        yield _room(path), ast.parse(path.read_text(encoding="utf-8"))


def foreign_imports(room: str, module: ast.Module) -> list[str]:
    """Return the private names that a module imports from another room."""
    return [
        f"{room}: from {node.module} import {alias.name}"
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dicomport.")
        for alias in node.names
        if _is_private(alias.name) and (node.module or "").split(".")[1] != room
    ]


def foreign_members(classes: list[Class]) -> list[str]:
    """Return the private members that classes use of, or share with, their base classes in other rooms."""
    by_name: dict[str, list[Class]] = {}
    for one in classes:
        by_name.setdefault(one.node.name, []).append(one)

    def ancestors(one: Class) -> Iterator[Class]:
        for name in one.bases:
            candidates = by_name.get(name, [])
            # A class of the same room and name hides those of other rooms.
            for base in [c for c in candidates if c.room == one.room and c is not one] or candidates:
                if base is not one:
                    yield base
                    yield from ancestors(base)

    return [
        f"{one.room}: {one.node.name} uses {member} of {base.room}'s {base.node.name}"
        for one in classes
        for base in ancestors(one)
        if base.room != one.room
        for member in sorted(one.used & base.defined)
    ]


def test_no_private_name_is_imported_from_another_room() -> None:
    assert [found for room, module in _modules(SOURCE) for found in foreign_imports(room, module)] == []


def test_no_class_uses_private_members_of_another_room() -> None:
    classes = [
        Class(room, node)
        for room, module in _modules(SOURCE)
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef)
    ]

    assert foreign_members(classes) == []


def test_private_names_of_another_room_are_found() -> None:
    module = ast.parse("from dicomport.net.timers import _COARSER\nfrom dicomport.scu.plan import _mine\n")

    assert foreign_imports("scu", module) == ["scu: from dicomport.net.timers import _COARSER"]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("self._timer = 1", ["_timer"]),
        ("return self._next()", ["_next"]),
        ("return self.next() + self._own", []),
    ],
)
def test_private_members_of_a_base_class_are_found(body: str, found: list[str]) -> None:
    base = ast.parse("class Base:\n    _timer: int\n    def _next(self): ...\n    def next(self): self._x = 1").body[0]
    middle = ast.parse("class Middle(Base): ...").body[0]
    derived = ast.parse(f"class Derived(rooms.Middle):\n    def run(self):\n        {body}").body[0]
    assert isinstance(base, ast.ClassDef)
    assert isinstance(middle, ast.ClassDef)
    assert isinstance(derived, ast.ClassDef)

    classes = [Class("dimse", base), Class("scu", middle), Class("scu", derived)]

    assert foreign_members(classes) == [f"scu: Derived uses {name} of dimse's Base" for name in found]

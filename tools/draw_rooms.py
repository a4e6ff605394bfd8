"""Draw the rooms of the package from their imports, into docs/architecture.md: python -m tools.draw_rooms [--check].

`--check` writes nothing and exits with 1 if the page is stale. The text of the page outside the two marks is free.
"""

from __future__ import annotations

import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Set as AbstractSet
from pathlib import Path

import grimp
from tools.import_contracts import Rooms

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
_BEGIN = "<!-- rooms:begin -->"
_END = "<!-- rooms:end -->"

Imports = Mapping[str, AbstractSet[str]]
"""The rooms that each room imports."""


def drawing(imports: Imports) -> str:
    """Return the picture and the floors, in Markdown."""
    return "\n".join((*_picture(imports), "", *_table(imports)))


def floors(imports: Imports) -> list[list[str]]:
    """Return the rooms of each floor, bottom up. A room is one floor above the highest room that it imports."""
    found: dict[str, int] = {}

    def floor(room: str) -> int:
        if room not in found:
            found[room] = 1 + max((floor(other) for other in imports[room]), default=-1)
        return found[room]

    rows: list[list[str]] = [[] for _ in range(1 + max(map(floor, imports)))]
    for room in sorted(imports):
        rows[floor(room)].append(room)
    return rows


def arrows(imports: Imports) -> Iterator[tuple[str, str]]:
    """Yield the imports that do not follow from others: if a imports b and b imports c, a -> c is left out."""

    def reached(room: str) -> set[str]:
        return {*imports[room], *(name for other in imports[room] for name in reached(other))}

    for room in sorted(imports):
        indirect = {name for other in imports[room] for name in reached(other)}
        yield from ((room, other) for other in sorted(imports[room] - indirect))


def _picture(imports: Imports) -> Iterator[str]:
    yield (
        "Drawn by `tools/draw_rooms.py` from the imports. An arrow leads from a room to a room that it imports; arrows "
        "that follow from others are left out."
    )
    yield ""
    yield "```mermaid"
    yield "flowchart TB"
    for room, other in arrows(imports):
        yield f"    {room} --> {other}"
    yield "```"


def _table(imports: Imports) -> Iterator[str]:
    yield "| floor | rooms |"
    yield "|---|---|"
    for number, row in reversed(list(enumerate(floors(imports)))):
        yield f"| {number} | {', '.join(f'`{room}`' for room in row)} |"


def read_imports() -> Imports:
    """Return the imports between the packages and modules right below the root package."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    [root] = settings["root_packages"]
    [contract] = settings["contracts"]
    rooms = Rooms(root, contract["allowed"])
    found: dict[str, set[str]] = defaultdict(set)
    for room, imports in rooms.imports(grimp.build_graph(root, cache_dir=None)).items():
        if room not in (root, f"{root}.__main__"):
            names = {name.split(".")[1] for name in imports if name != root}
            found[room.split(".")[1]] |= names - {room.split(".")[1]}
    return found


def main() -> int:
    """Write the page, or check it."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    drawn = f"{before}{_BEGIN}\n{drawing(read_imports())}\n{_END}{after}"
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(drawn, encoding="utf-8")
        return 0
    if page == drawn:
        return 0
    print(f"{PAGE.name} is stale: run python -m tools.draw_rooms", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

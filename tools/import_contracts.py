"""A contract type for import-linter: each room of the package has a list of all modules that it may import.

A room is a package or a module with an entry in the contract's table `allowed`. Each module of the root package belongs
to the room with the longest name that contains it; the root package itself is a room of one module. The list names
rooms, packages from elsewhere and modules of the standard library; `everywhere` is part of each list. Imports inside a
room are free. Imports inside functions and those for type checkers count like any other.

The table runs bottom up: a list may name only rooms above its own line, so no circle can be allowed. A name that the
room does not import is a mistake too, so the lists stay short.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from grimp import ImportGraph
from importlinter.application import output
from importlinter.domain import fields
from importlinter.domain.contract import Contract, ContractCheck, InvalidContractOptions

__all__ = ["AllowedImports", "Rooms", "RoomsContract"]

AllowedImports = Mapping[str, Sequence[str]]
"""The names that each room may import, by room, bottom up."""


class _AllowedField(fields.Field[AllowedImports]):
    """A table of lists of names."""

    def parse(self, raw_data: object) -> AllowedImports:
        if not isinstance(raw_data, dict) or not all(isinstance(names, list) for names in raw_data.values()):
            raise fields.ValidationError("Expected a table with a list of names for each room.")
        return raw_data


@dataclass(frozen=True)
class Import:
    """An import of one module by another; `line` is the first one."""

    importer: str
    imported: str
    line: int


class Rooms:
    """The rooms of a package and the imports between them."""

    def __init__(self, root: str, allowed: AllowedImports) -> None:
        self._root = root
        self.allowed = allowed

    def of(self, module: str) -> str | None:
        """Return the room of a module; for a module from elsewhere, its top-level package; None if it has no room."""
        if module.split(".", maxsplit=1)[0] != self._root:
            return module.split(".", maxsplit=1)[0]
        if module == self._root:
            return module if module in self.allowed else None
        names = [module, *(module.rsplit(".", depth)[0] for depth in range(1, module.count(".")))]
        return next((name for name in names if name in self.allowed), None)

    def imports(self, graph: ImportGraph) -> dict[str, dict[str, list[Import]]]:
        """Return the imports of each room from other rooms and packages, by room and imported name."""
        found: dict[str, dict[str, list[Import]]] = {room: defaultdict(list) for room in self.allowed}
        for module in sorted(graph.modules):
            room = self.of(module)
            if room not in found:
                continue
            for imported in sorted(graph.find_modules_directly_imported_by(module)):
                other = self.of(imported)
                if other is not None and other != room:
                    details = graph.get_import_details(importer=module, imported=imported)
                    line = min((detail["line_number"] for detail in details), default=0)
                    found[room][other].append(Import(module, imported, line))
        return found

    def homeless(self, graph: ImportGraph) -> list[str]:
        """Return the modules of the package without a room."""
        return sorted(module for module in graph.modules if self.of(module) is None)


class RoomsContract(Contract):
    """Each room imports only the names on its list."""

    type_name = "rooms"

    allowed = _AllowedField()
    everywhere = fields.ListField(subfield=fields.StringField(), required=False, default=[])

    def validate(self) -> None:
        """Check that the table runs bottom up. Raises `InvalidContractOptions`."""
        [root] = self.session_options["root_packages"]
        below: set[str] = set()
        errors = []
        for room, names in self._table.items():
            errors += [
                f"{room} may not import {name}: only rooms listed before {room} can be allowed."
                for name in names
                if name.split(".")[0] == root and name not in below
            ]
            below.add(room)
        if errors:
            raise InvalidContractOptions({"allowed": " ".join(errors)})

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: FBT001  # the signature of the base class
        """Compare all imports with the lists."""
        [root] = self.session_options["root_packages"]
        problems = list(self._problems(Rooms(root, self._table), graph))
        return ContractCheck(kept=not problems, metadata={"problems": problems})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print each problem on a line."""
        for problem in check.metadata["problems"]:
            output.print_error(problem)

    @property
    def _table(self) -> AllowedImports:
        # A type checker knows the fields as fields, not as their values.
        allowed: AllowedImports = self.contract_options["allowed"]
        return allowed

    def _problems(self, rooms: Rooms, graph: ImportGraph) -> Iterator[str]:
        everywhere = frozenset(self.contract_options.get("everywhere", ()))
        for module in rooms.homeless(graph):
            yield f"{module} belongs to no room: list the modules that it may import in pyproject.toml"
        for room, imports in rooms.imports(graph).items():
            allowed = sorted({*rooms.allowed[room], *everywhere})
            for name, found in imports.items():
                if name not in allowed:
                    for one in found:
                        yield (
                            f"{room} may not import {name}: {one.importer} imports {one.imported} in line {one.line}; "
                            f"allowed: {', '.join(allowed)}"
                        )
            for name in rooms.allowed[room]:
                if name in everywhere:
                    yield f"{room} lists {name}, which each room may import"
                elif name not in imports:
                    yield f"{room} lists {name} but does not import it"

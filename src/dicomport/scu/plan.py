"""What is to be sent, before anything is: the instances, what can't go, and the associations that the rest needs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from dicomport.scu.contexts import MOST_CONTEXTS
from dicomport.scu.instances import Instance, NotSendableError, instance_of
from dicomport.scu.report import InstanceResult
from dicomport.standard import IMPLICIT_VR_LITTLE_ENDIAN, find_transfer_syntax

if TYPE_CHECKING:
    import pydicom

__all__ = ["PlannedAssociation", "Scan", "Sendable", "plan_associations", "scan"]

Sendable: TypeAlias = "str | Path | Instance | pydicom.Dataset"
"""A file, a folder (walked), an instance or a data set."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found."""

    instances: tuple[Instance, ...]
    refused: tuple[InstanceResult, ...]
    """Files that can't go, each with the reason."""

    @property
    def size(self) -> int:
        """Length of all data sets together, bytes."""
        return sum(instance.size for instance in self.instances)


def scan(what: Iterable[Sendable]) -> Scan:
    """Find the instances in files and folders by their file meta. Files that hold none are named, not skipped."""
    instances: list[Instance] = []
    refused: list[InstanceResult] = []
    for item in what:
        for found in _walk(Path(item)) if isinstance(item, str | Path) else (item,):
            try:
                instances.append(instance_of(found))
            except NotSendableError as error:
                path = found if isinstance(found, Path) else None
                refused.append(InstanceResult(path=path, reason=str(error)))
    return Scan(tuple(instances), tuple(refused))


def _walk(path: Path) -> Iterator[Path]:
    """Give a file, or all files below a folder in the order of their names; links to folders are not followed.

    Folders that can't be listed come last: reading them will say why.
    """
    if not os.path.isdir(path):  # noqa: PTH112  # Path.is_dir raises for a name that is too long
        yield path
        return
    unlisted: list[Path] = []
    for folder, folders, files in os.walk(path, onerror=lambda error: unlisted.append(Path(error.filename))):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(files))
    yield from unlisted


@dataclass(frozen=True, slots=True)
class PlannedAssociation:
    """The Presentation Contexts of one association, as pairs of abstract and transfer syntax, and what goes over it."""

    contexts: tuple[tuple[str, str], ...]
    instances: tuple[Instance, ...]


def plan_associations(instances: Iterable[Instance]) -> list[PlannedAssociation]:
    """Derive the contexts that the instances need, and split them where one association can't have them all.

    Each pair of SOP Class and transfer syntax has a context of its own, so that no peer can choose a syntax that an
    instance is not in. An uncompressed one is followed by one for Implicit VR Little Endian, the default that PS3.5
    10.1 asks a
    requestor to offer.
    """
    groups: dict[tuple[str, str], list[tuple[int, Instance]]] = {}
    for number, instance in enumerate(instances):
        groups.setdefault((instance.sop_class_uid, instance.transfer_syntax_uid), []).append((number, instance))
    planned: list[PlannedAssociation] = []
    contexts: dict[tuple[str, str], None] = {}
    members: list[tuple[int, Instance]] = []
    for pair, group in groups.items():
        needed = dict.fromkeys((pair, *_fallback(*pair)))
        if len(contexts | needed) > MOST_CONTEXTS:
            planned.append(_planned(contexts, members))
            contexts, members = {}, []
        contexts |= needed
        members += group
    if members:
        planned.append(_planned(contexts, members))
    return planned


def _planned(contexts: dict[tuple[str, str], None], members: list[tuple[int, Instance]]) -> PlannedAssociation:
    in_order = sorted(members, key=lambda member: member[0])
    return PlannedAssociation(tuple(contexts), tuple(instance for _, instance in in_order))


def _fallback(sop_class_uid: str, transfer_syntax_uid: str) -> tuple[tuple[str, str], ...]:
    syntax = find_transfer_syntax(transfer_syntax_uid)
    return ((sop_class_uid, IMPLICIT_VR_LITTLE_ENDIAN.uid),) if syntax is not None and syntax.uncompressed else ()

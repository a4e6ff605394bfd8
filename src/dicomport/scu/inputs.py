"""TEMPORARY: replaced by the real walk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from dicomport.scu.instances import Instance, NotSendableError, instance_of
from dicomport.scu.report import InstanceResult

if TYPE_CHECKING:
    import pydicom

__all__ = ["Sendable", "find"]

Sendable: TypeAlias = "str | Path | Instance | pydicom.Dataset"
"""A file, a folder (walked), an instance or a data set."""


def find(what: Iterable[Sendable]) -> Iterator[Instance | InstanceResult]:
    """Find the instances in files and folders by their file meta. Files that hold none are named, not skipped."""
    for item in what:
        for found in _walk(Path(item)) if isinstance(item, str | Path) else (item,):
            try:
                yield instance_of(found)
            except NotSendableError as error:
                path = found if isinstance(found, Path) else None
                yield InstanceResult(path=path, reason=str(error))


def _walk(path: Path) -> Iterator[Path]:
    if not os.path.isdir(path):  # noqa: PTH112  # Path.is_dir raises for a name that is too long
        yield path
        return
    unlisted: list[Path] = []
    for folder, folders, files in os.walk(path, onerror=lambda error: unlisted.append(Path(error.filename))):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(files))
    yield from unlisted

"""The files in an archive's folders, in a fixed order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from dicomport.archive.paths import Paths
from dicomport.logs import reason_of

_LAST: Final = chr(0x10FFFF)
"""Greater than any name."""


class Entry(NamedTuple):
    """A file of an instance, a link, or a folder that cannot be read."""

    path: str
    """Relative to the archive, with slashes."""
    is_link: bool = False
    problem: str = ""
    """Reason why a folder cannot be read."""


def entries_of(paths: Paths, after: str = "") -> Iterator[Entry]:
    """Yield the entries of an archive; names of the archive's other files begin with a dot.

    The files of a folder come before its subfolders. Links are not followed. `after` is the path of a file: only later
    entries are yielded.
    """
    *before, last_name = after.split("/") if after else ("",)
    errors: list[OSError] = []
    for folder, folders, names in os.walk(paths.root, onerror=errors.append):
        yield from _problems(paths.root, errors)
        parts = Path(folder).relative_to(paths.root).parts
        prefix = "".join(f"{part}/" for part in parts)
        first_folder = first_name = ""
        below = False
        if after and list(parts) == before[: len(parts)]:
            # The walk resumes in this folder or below it.
            below = len(parts) < len(before)
            first_folder, first_name = (before[len(parts)], _LAST) if below else ("", last_name)
        for name in sorted(names):
            if name.endswith(".dcm") and not name.startswith(".") and name > first_name:
                yield Entry(prefix + name, is_link=Path(folder, name).is_symlink())
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name >= first_folder)
        links = {name for name in folders if Path(folder, name).is_symlink()}
        if not below:
            yield from (Entry(prefix + name, is_link=True) for name in folders if name in links)
        folders[:] = (name for name in folders if name not in links)
    yield from _problems(paths.root, errors)


def _problems(root: Path, errors: list[OSError]) -> Iterator[Entry]:
    for error in errors:
        if not isinstance(error, FileNotFoundError):  # The folder was removed after it was listed.
            yield Entry(Path(error.filename).relative_to(root).as_posix(), problem=reason_of(error))
    errors.clear()


def files_of(paths: Paths) -> Iterator[Path]:
    """Yield the files of all instances, in a fixed order."""
    return (paths.root / entry.path for entry in entries_of(paths) if not (entry.is_link or entry.problem))


def has_instances(paths: Paths) -> bool:
    """Return whether the archive has a file of an instance."""
    return next(files_of(paths), None) is not None

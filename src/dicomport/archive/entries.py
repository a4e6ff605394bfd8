"""The files in an archive's folders, in a fixed order."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from dicomport.archive.paths import Paths
from dicomport.archive.records import is_absence
from dicomport.files import LOST_AND_FOUND
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
    entries are yielded. A folder can be read if its names can be listed and opened.
    """
    *before, last_name = after.split("/") if after else ("",)
    errors: list[OSError] = []
    for folder, folders, names in os.walk(paths.root, onerror=errors.append):
        yield from _problems(paths.root, errors)
        if (error := _search_error(folder)) is not None:
            errors.append(error)
            folders.clear()
            continue
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
                yield Entry(prefix + name, is_link=_is_link(f"{folder}/{name}"))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name >= first_folder)
        if not parts and LOST_AND_FOUND in folders:
            folders.remove(LOST_AND_FOUND)
        links = {name for name in folders if _is_link(f"{folder}/{name}")}
        if not below:
            yield from (Entry(prefix + name, is_link=True) for name in folders if name in links)
        folders[:] = (name for name in folders if name not in links)
    yield from _problems(paths.root, errors)


def _is_link(path: str) -> bool:
    """Return whether a path is known to be a symbolic link."""
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except OSError:
        return False  # Reading it fails, too, and that is reported.


def _search_error(folder: str) -> OSError | None:
    """Return the error if the names in a folder cannot be opened: listing them needs another permission."""
    try:
        os.lstat(f"{folder}/.")
    except OSError as error:
        return type(error)(error.errno, error.strerror, folder)
    return None


def _problems(root: Path, errors: list[OSError]) -> Iterator[Entry]:
    for error in errors:
        if not is_absence(error):  # The folder was removed after it was listed.
            yield Entry(Path(error.filename).relative_to(root).as_posix(), problem=reason_of(error))
    errors.clear()


def path_of(paths: Paths, entry: Entry) -> Path | None:
    """Return the path of an entry if it is the file of an instance."""
    return None if entry.is_link or entry.problem else paths.root / entry.path


def files_of(paths: Paths) -> Iterator[Path]:
    """Yield the files of all instances that can be listed, in a fixed order."""
    return (path for entry in entries_of(paths) if (path := path_of(paths, entry)) is not None)


def has_instances(paths: Paths) -> bool:
    """Return whether the archive has a file of an instance in a folder that can be read."""
    return next(files_of(paths), None) is not None


def may_have_instances(paths: Paths) -> bool:
    """Return whether the archive has a file of an instance, or a folder that cannot be read."""
    return any(not entry.is_link for entry in entries_of(paths))

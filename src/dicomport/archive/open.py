"""Open an archive without storing instances in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from dicomport.archive.commit.recovery import recover
from dicomport.archive.index import Index
from dicomport.archive.paths import Paths


@contextlib.contextmanager
def open_archive(root: str | Path, *, discard_older: bool = False) -> Iterator[tuple[Paths, Index]]:
    """Open the index of an archive, after recovering the sessions of processes that died.

    Raises `FileNotFoundError` if the folder is not an archive, and `SchemaError` if another version of dicomport
    created the index; but `discard_older` empties the index of an older version.
    """
    paths = Paths(Path(root).resolve())
    if not paths.sessions.is_dir():
        raise FileNotFoundError(f"{root} is not an archive")
    index = Index(paths.index, discard_older=discard_older)
    try:
        recover(paths, index)
        yield paths, index
    finally:
        index.close()

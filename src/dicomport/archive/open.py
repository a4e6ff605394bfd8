"""Opening an archive to look at it, without taking part in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from dicomport.archive.index import Index
from dicomport.archive.paths import Paths
from dicomport.archive.storage import recover

__all__ = ["open_archive"]


@contextlib.contextmanager
def open_archive(root: str | Path) -> Iterator[tuple[Paths, Index]]:
    """Open an archive's index; what a process that died left behind is put right first.

    Raises `FileNotFoundError` where there is no archive, and `SchemaError` for one of a later version.
    """
    paths = Paths(Path(root).resolve())
    if not paths.sessions.is_dir():
        raise FileNotFoundError(f"there is no archive in {root}")
    index = Index(paths.index)
    try:
        recover(paths, index)
        yield paths, index
    finally:
        index.close()

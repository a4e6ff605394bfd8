"""Open an archive without storing instances in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from dicomport.archive.commit.recovery import recover
from dicomport.archive.index import Index
from dicomport.archive.paths import Paths
from dicomport.archive.verification.walking import has_instances


@contextlib.contextmanager
def open_archive(root: str | Path) -> Iterator[tuple[Paths, Index]]:
    """Open the index of an archive, after recovering the sessions of processes that died.

    Raises `FileNotFoundError` if the folder is not an archive; `DamagedIndexError` if the index is damaged or missing;
    `SchemaError` if another version of dicomport created it; `IndexDatabaseError` if it can't be used now; `OSError`.
    """
    paths = Paths(Path(root).resolve())
    if not paths.sessions.is_dir():
        raise FileNotFoundError(f"{root} is not an archive")
    index = Index(paths.index, creates=lambda: not has_instances(paths))
    try:
        recover(paths, index)
        yield paths, index
    finally:
        index.close()

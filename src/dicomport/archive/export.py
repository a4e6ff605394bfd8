"""Export a study from the archive to a folder or a zip file."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from dicomport.archive.index import Index
from dicomport.archive.paths import Paths
from dicomport.archive.queries import Filters


def export(paths: Paths, index: Index, study_instance_uid: str, destination: Path) -> Iterator[str]:
    """Copy a study's files unchanged to a new folder, or to a new zip file if the name ends in ".zip".

    Yields the path of each file after copying it. Raises `KeyError` if the study is unknown, `FileExistsError` if the
    destination exists, and `OSError`.
    """
    rows = index.instances(Filters(study_instance_uid=study_instance_uid))
    if not rows:
        raise KeyError(study_instance_uid)
    names = [str(row["path"]) for row in rows]
    if destination.suffix.lower() == ".zip":
        yield from _into_zip(paths, names, destination)
    else:
        yield from _into_folder(paths, names, destination)


def _into_folder(paths: Paths, names: Sequence[str], destination: Path) -> Iterator[str]:
    destination.mkdir(parents=True)
    for name in names:
        target = destination / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(paths.root / name, target)
        yield name


def _into_zip(paths: Paths, names: Sequence[str], destination: Path) -> Iterator[str]:
    # Without compression: pixel data hardly shrinks, and the purpose of the zip file is to be one file.
    with zipfile.ZipFile(destination, "x", zipfile.ZIP_STORED) as archive:
        for name in names:
            archive.write(paths.root / name, name)
            yield name

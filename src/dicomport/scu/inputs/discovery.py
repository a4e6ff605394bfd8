"""From what a caller names to what can be sent: files, folders, DICOMDIRs, archives, globs, lists, as they are found.

Nothing is collected but the names of one folder at a time, and what the threads have read ahead.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import os
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from dicomport.files import open_regular, read_part10, system
from dicomport.scu.inputs.containers import SNIFFED_BYTES, ArchiveKind, archive_kind
from dicomport.scu.inputs.found import Found, refused
from dicomport.scu.inputs.instance import Instance, NotSendableError, instance_of, read_instance
from dicomport.scu.inputs.paths import is_glob, listed, matches, walk
from dicomport.scu.results import InstanceResult
from dicomport.standard import MEDIA_STORAGE_DIRECTORY

if TYPE_CHECKING:
    import pydicom

__all__ = ["Source", "find", "find_batches"]

Source: TypeAlias = "str | Path | Instance | pydicom.Dataset"
"""A path of a file, a folder (walked), a DICOMDIR or an archive, a glob, an instance, or a data set."""

_THREADS: Final = 8
"""How many headers are read at a time from a slow disk, where reading is waiting."""
_BATCH: Final = 32
"""How many files a thread is asked for at once: on a fast disk, asking costs as much as reading."""
_BATCHES_AHEAD: Final = 16
_SLOW_SECONDS: Final = 0.05
"""What a batch takes from a slow disk. From a fast one, threads would only take the interpreter from one another."""


def find(what: Iterable[Source]) -> Iterator[Found]:
    """Find the instances, in order and as they are asked for, and tell why each of the other files is none.

    A file is one instance; a folder stands for all files below it, in the order of their names (links to folders are
    not followed); a DICOMDIR for the files that it refers to; a zip or tar archive (as it is, or compressed by gzip,
    bzip2 or xz) for its members. A path that does not exist but has a `*`, `?` or `[` in it is a glob, where `**`
    stands for any number of folders. "-" stands for the paths that the standard input lists: one a line, or each
    followed by a NUL. DICOMDIRs and archives that are met within folders are not opened.

    Only headers are read, from a slow disk in several threads and some hundred files ahead of what is asked for;
    `close` the iterator to end these early. Data sets are encoded when it is their turn. Nothing is raised.
    """
    with contextlib.closing(find_batches(what)) as batches:
        for batch in batches:
            yield from batch


def find_batches(what: Iterable[Source]) -> Generator[Sequence[Found], None, None]:
    """Find the same, as many at a time as were read together."""
    with ThreadPoolExecutor(_THREADS, "dicomport-find") as pool:
        finder = _Finder(pool)
        # Whoever makes the items one after another may wait for what becomes of each.
        together = (what,) if isinstance(what, list | tuple) else ((item,) for item in what)
        try:
            for items in together:
                yield from finder.find(items)
        finally:
            pool.shutdown(cancel_futures=True)


class _Kind(enum.Enum):
    """What a path may stand for, besides an archive."""

    FOLDER = "folder"
    DICOMDIR = "DICOMDIR"
    GLOB = "glob"


class _Container(NamedTuple):
    """A path that stands for more than one instance."""

    path: str
    kind: _Kind | ArchiveKind


_Look: TypeAlias = Callable[[str], Found | _Container]


class _Finder:
    """Looks at what was named, and reads ahead."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool

    def find(self, items: Iterable[Source]) -> Iterator[Sequence[Found]]:
        """Find what is meant by what the caller has given."""
        for find, group in itertools.groupby(items, self._way):
            yield from find(group)

    def _way(self, item: Source) -> Callable[[Iterable[Any]], Iterator[Sequence[Found]]]:
        if not isinstance(item, str | Path):
            return self._made
        return self._listed if str(item) == "-" else self._named

    def _made(self, items: Iterable[Instance | pydicom.Dataset]) -> Iterator[Sequence[Found]]:
        for item in items:
            try:
                yield (instance_of(item),)
            except NotSendableError as error:
                yield (refused("", str(error)),)

    def _listed(self, items: Iterable[str | Path]) -> Iterator[Sequence[Found]]:
        for item in items:
            try:
                for paths in listed(sys.stdin.fileno()):
                    yield from self._read(paths, _look_at_named)
            except (OSError, ValueError) as error:
                yield (refused(str(item), str(error)),)

    def _named(self, items: Iterable[str | Path]) -> Iterator[Sequence[Found]]:
        return self._read((str(item) for item in items), _look_at_named)

    def _read(self, paths: Iterable[str | InstanceResult], look: _Look) -> Iterator[Sequence[Found]]:
        """Look at files in order, and at what they stand for."""
        for batch in self._read_ahead(iter(paths), look):
            found: list[Found] = []
            for seen in batch:
                if isinstance(seen, _Container):
                    yield found
                    found = []
                    yield from self._contents(seen)
                else:
                    found.append(seen)
            yield found

    def _read_ahead(self, paths: Iterator[str | InstanceResult], look: _Look) -> Iterator[list[Found | _Container]]:
        # The first ones are wanted at once, and often they are all.
        for path in itertools.islice(paths, _BATCH):
            yield [_look_at(path, look)]
        ahead: deque[Future[list[Found | _Container]]] = deque()
        max_ahead = 1
        while batch := list(itertools.islice(paths, _BATCH)):
            ahead.append(self._pool.submit(lambda batch: [_look_at(path, look) for path in batch], batch))
            while ahead and (ahead[0].done() or len(ahead) >= max_ahead):
                began = time.monotonic()
                seen = ahead.popleft().result()
                if time.monotonic() - began > _SLOW_SECONDS:
                    max_ahead = _BATCHES_AHEAD
                yield seen
        while ahead:
            yield ahead.popleft().result()

    def _contents(self, container: _Container) -> Iterator[Sequence[Found]]:
        path = container.path
        match container.kind:
            case _Kind.FOLDER:
                yield from self._read(walk(path), _look_at_found)
            case _Kind.DICOMDIR:
                from dicomport.scu.inputs.dicomdir import references

                yield from self._read(references(path), _look_at_found)
            case _Kind.GLOB:
                nothing = refused(path, "there is no such file, and nothing matches it as a glob")
                first = next(paths := matches(path), nothing)
                yield from self._read(itertools.chain((first,), paths), _look_at_named)
            case ArchiveKind.ZIP:
                from dicomport.scu.inputs.zip import zip_members

                yield from ((member,) for member in zip_members(path))
            case kind:
                from dicomport.scu.inputs.tar import tar_members

                yield from ((member,) for member in tar_members(path, kind))


def _look_at(path: str | InstanceResult, look: _Look) -> Found | _Container:
    return look(path) if isinstance(path, str) else path


def _look_at_named(path: str) -> Found | _Container:
    """Look at something that the caller has named, which may be more than one file."""
    try:
        return read_instance(path)
    except NotSendableError as error:
        kind = _kind(path)
        return refused(path, str(error)) if kind is None else _Container(path, kind)


def _look_at_found(path: str) -> Found:
    """Look at a file that was found on the way."""
    try:
        return read_instance(path)
    except NotSendableError as error:
        reason = str(error)
    if isinstance(kind := _kind(path), ArchiveKind):
        reason = f"an archive, or a compressed file ({kind.value}): it is opened only where it is named itself"
    return refused(path, reason)


def _kind(path: str) -> _Kind | ArchiveKind | None:
    """Tell what a path stands for that is no instance; None where it is nothing else either."""
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):
            return _Kind.FOLDER
        descriptor, _ = open_regular(path)
        try:
            archive = archive_kind(system.pread(descriptor, SNIFFED_BYTES, 0))
        finally:
            system.close(descriptor)
        if archive is not None:
            return archive
        is_dicomdir = read_part10(path).meta.media_storage_sop_class_uid == MEDIA_STORAGE_DIRECTORY
    except (OSError, ValueError):  # FileMetaError is one, and so is what a path with a NUL raises
        return _Kind.GLOB if is_glob(path) and not os.path.lexists(path) else None
    return _Kind.DICOMDIR if is_dicomdir else None

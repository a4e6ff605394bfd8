"""Find instances in files, folders, DICOMDIRs, archives, globs and lists.

Theory of operation
-------------------
`find_batches` is a generator that runs in its caller's thread; for `send`, that is the thread of `background.feed`. It
reads the first files of each folder or list itself, and then asks a pool of threads for batches of headers. On a fast
disk one batch is read ahead, since more threads only compete for the interpreter; after a slow batch, up to
`_BATCHES_AHEAD`. Batches are yielded in the order in which they were requested, so the order of instances does not
depend on the disk. Memory holds the names of one folder at each level, and the batches that were read ahead.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import itertools
import os
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeGuard

from dicomport.files import open_regular, read_part10, system
from dicomport.scu.inputs.containers import SNIFFED_BYTES, ArchiveKind, archive_kind
from dicomport.scu.inputs.found import Found, unsendable
from dicomport.scu.inputs.instance import (
    Instance,
    NotAnInstanceError,
    NotSendableError,
    expected_source,
    instance_of,
    is_data_set,
    read_instance,
)
from dicomport.scu.inputs.paths import expand_glob, is_glob, read_list, walk
from dicomport.scu.results import InstanceResult
from dicomport.standard import MEDIA_STORAGE_DIRECTORY

if TYPE_CHECKING:
    import pydicom


Source: TypeAlias = "str | os.PathLike[str] | Instance | pydicom.Dataset"
"""The path of a file, a folder, a DICOMDIR or an archive; a glob; an instance; or a data set."""

_THREADS: Final = 8
"""Headers that are read at once from a slow disk."""
_BATCH: Final = 32
"""Files in one request to a thread: on a fast disk, the request takes as long as reading a header."""
_BATCHES_AHEAD: Final = 16
_SLOW_SECONDS: Final = 0.05
"""Time to wait for a batch above which the disk is slow."""


def find(sources: Iterable[Source]) -> Iterator[Found]:
    """Yield the instances in order, and a result with the reason for each file that cannot be sent.

    A file is one instance. A folder stands for the files below it, sorted by name, without hidden files and folders
    (links to folders are not followed); files that are not instances are marked as skipped there;
    a DICOMDIR for the files that it refers to; a zip or tar archive (plain, or compressed by gzip, bzip2 or xz) for its
    members. One of these without any instance has a separate result, a failure like that of a file that was given and
    is not an instance. A path that does not exist but contains `*`, `?` or `[` is a glob, where `**` matches any number
    of folders. "-" stands for the paths that the standard input lists, one a line or each followed by a NUL. DICOMDIRs
    and archives below a folder are not opened.

    Only headers are read, on a slow disk by several threads and some hundred files ahead; `close` the iterator to stop
    them early. Data sets are encoded when it is their turn. Nothing is raised.
    """
    with contextlib.closing(find_batches(sources)) as batches:
        for batch in batches:
            yield from batch


def find_batches(sources: Iterable[Source]) -> Generator[Sequence[Found], None, None]:
    """Yield the same as `find`, in the batches in which they were read."""
    with ThreadPoolExecutor(_THREADS, "dicomport-find") as pool:
        finder = _Finder(pool)
        # A generator may wait for the result of one source before it yields the next.
        groups = (sources,) if isinstance(sources, list | tuple) else ((source,) for source in sources)
        try:
            for items in groups:
                yield from finder.find(items)
        finally:
            pool.shutdown(cancel_futures=True)


def is_source(item: object) -> TypeGuard[Source]:
    """Return whether this is one source."""
    return isinstance(item, str | os.PathLike | Instance) or is_data_set(item)


class _Kind(enum.Enum):
    """Kinds of paths that stand for several instances, besides archives."""

    FOLDER = "folder"
    DICOMDIR = "DICOMDIR"
    GLOB = "glob"


class _Container(NamedTuple):
    """A path that stands for several instances."""

    path: str
    kind: _Kind | ArchiveKind


_Identify: TypeAlias = Callable[[str], Found | _Container]


class _Finder:
    """Finds instances, and reads ahead."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool

    def find(self, items: Iterable[Source]) -> Iterator[Sequence[Found]]:
        """Yield the instances that the sources stand for."""
        for find, group in itertools.groupby(items, self._finder_of):
            yield from find(group)

    def _finder_of(self, item: Source) -> Callable[[Iterable[Any]], Iterator[Sequence[Found]]]:
        if not isinstance(item, str | os.PathLike):
            return self._in_memory
        return self._from_lists if os.fspath(item) == "-" else self._from_paths

    def _in_memory(self, items: Iterable[Instance | pydicom.Dataset]) -> Iterator[Sequence[Found]]:
        for item in items:
            try:
                yield (instance_of(item) if is_source(item) else unsendable("", expected_source(item)),)
            except NotSendableError as error:
                yield (unsendable("", str(error)),)

    def _from_lists(self, items: Iterable[str | os.PathLike[str]]) -> Iterator[Sequence[Found]]:
        for item in items:
            try:
                if sys.stdin is None:
                    raise OSError(errno.EBADF, "this program has no stdin")
                for paths in read_list(sys.stdin.fileno()):
                    yield from self._read(paths, _identify_given)
            except (OSError, ValueError) as error:
                yield (unsendable(os.fspath(item), str(error)),)

    def _from_paths(self, items: Iterable[str | os.PathLike[str]]) -> Iterator[Sequence[Found]]:
        return self._read((os.fspath(item) for item in items), _identify_given)

    def _read(self, paths: Iterable[str | InstanceResult], identify: _Identify) -> Iterator[Sequence[Found]]:
        """Yield the instances of these paths, in order."""
        for batch in self._read_ahead(iter(paths), identify):
            found: list[Found] = []
            for one in batch:
                if isinstance(one, _Container):
                    yield found
                    found = []
                    yield from _with_a_failure_if_empty(one, self._contents(one))
                else:
                    found.append(one)
            yield found

    def _read_ahead(
        self, paths: Iterator[str | InstanceResult], identify: _Identify
    ) -> Iterator[list[Found | _Container]]:
        # The caller needs the first ones at once, and often there are no others.
        for path in itertools.islice(paths, _BATCH):
            yield [_identify(path, identify)]
        ahead: deque[Future[list[Found | _Container]]] = deque()
        max_ahead = 1
        while batch := list(itertools.islice(paths, _BATCH)):
            ahead.append(self._pool.submit(lambda batch: [_identify(path, identify) for path in batch], batch))
            while ahead and (ahead[0].done() or len(ahead) >= max_ahead):
                started = time.monotonic()
                batch_read = ahead.popleft().result()
                if time.monotonic() - started > _SLOW_SECONDS:
                    max_ahead = _BATCHES_AHEAD
                yield batch_read
        while ahead:
            yield ahead.popleft().result()

    def _contents(self, container: _Container) -> Iterator[Sequence[Found]]:
        path = container.path
        match container.kind:
            case _Kind.FOLDER:
                yield from self._read(walk(path), _identify_found)
            case _Kind.DICOMDIR:
                from dicomport.scu.inputs.dicomdir import references

                yield from self._read(references(path), _identify_referenced)
            case _Kind.GLOB:
                no_match = unsendable(path, "no such file, and no file matches it as a glob")
                first = next(paths := expand_glob(path), no_match)
                yield from self._read(itertools.chain((first,), paths), _identify_given)
            case ArchiveKind.ZIP:
                from dicomport.scu.inputs.zip import zip_members

                yield from ((member,) for member in zip_members(path))
            case kind:
                from dicomport.scu.inputs.tar import tar_members

                yield from ((member,) for member in tar_members(path, kind))


def _with_a_failure_if_empty(container: _Container, contents: Iterator[Sequence[Found]]) -> Iterator[Sequence[Found]]:
    """Yield the contents, and a failure if they are neither instances nor failures: the caller expected instances."""
    is_empty = True
    for batch in contents:
        is_empty = is_empty and all(isinstance(one, InstanceResult) and one.skipped for one in batch)
        yield batch
    if is_empty:
        kind = "archive" if isinstance(container.kind, ArchiveKind) else container.kind.value
        yield (unsendable(container.path, f"nothing to send: no instances found in this {kind}"),)


def _identify(path: str | InstanceResult, identify: _Identify) -> Found | _Container:
    return identify(path) if isinstance(path, str) else path


def _identify_given(path: str) -> Found | _Container:
    """Identify a path that the caller has given, which may stand for several instances."""
    try:
        return read_instance(path)
    except NotSendableError as error:
        kind = _kind(path)
        return unsendable(path, str(error)) if kind is None else _Container(path, kind)


def _identify_found(path: str) -> Found:
    """Identify a file that was found in a folder, which may hold other files than instances."""
    try:
        return read_instance(path)
    except NotAnInstanceError as error:
        reason = _archive_reason(path)
        return unsendable(path, reason or str(error), skipped=not reason)
    except NotSendableError as error:
        return unsendable(path, str(error))


def _identify_referenced(path: str) -> Found:
    """Identify a file to which a DICOMDIR refers."""
    try:
        return read_instance(path)
    except NotSendableError as error:
        return unsendable(path, _archive_reason(path) or str(error))


def _archive_reason(path: str) -> str:
    """Return the reason for not opening an archive; empty if the file is none."""
    kind = _kind(path)
    if not isinstance(kind, ArchiveKind):
        return ""
    return f"an archive, or a compressed file ({kind.value}): pass its own path to send its instances"


def _kind(path: str) -> _Kind | ArchiveKind | None:
    """Return the kind of a path that is not an instance; None if it stands for no instances."""
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
    except (OSError, ValueError):  # FileMetaError, and the error for a path with a NUL, are ValueErrors
        return _Kind.GLOB if is_glob(path) and not os.path.lexists(path) else None
    return _Kind.DICOMDIR if is_dicomdir else None

"""The interface of storages: handlers, folders and archives."""

from __future__ import annotations

import errno
import functools
from collections.abc import Collection
from typing import Final, Protocol, TypeGuard, runtime_checkable

from dicomport.scp.requests import StoreOperation
from dicomport.standard import OUT_OF_RESOURCES, PROCESSING_FAILURE, Status
from dicomport.wire import Buffer


class Sink(Protocol):
    """Stores one instance: `write` is called any number of times, then `commit` or `discard`.

    `write` is called in the association's task. `commit` may be called in another task, while the association's next
    instance is being written, if the peer has negotiated several outstanding operations (PS3.7 D.3.3.3).

    If one of them raises `OSError`, `discard` is called, and the response has the status 0xA700 or 0x0110; for any
    other exception, the status is 0x0110.

    A sink that knows the Study Instance UID after `commit` may have it as `study_instance_uid`, for the log, and the
    names of the data set's tolerated deviations from the standard as `deviations`, for the log and the counters. A sink
    that keeps refused instances may have the path of the file as `quarantine_path`, for the log.
    """

    async def write(self, data: Buffer) -> None:
        """Append bytes of the data set. The view is valid until the return; a slow return throttles the peer."""

    async def commit(self) -> Status:
        """Complete the instance and return its status. A success promises that the instance is safe."""

    async def discard(self) -> None:
        """Remove the instance: its data set is incomplete, or the sink has raised an exception."""


@runtime_checkable
class Storage(Protocol):
    """Stores instances: a folder, an archive, a handler."""

    async def begin(self, operation: StoreOperation) -> Sink | Status:
        """Return a sink for an instance whose data set follows, or the status that refuses it."""


@runtime_checkable
class DirectSink(Sink, Protocol):
    """A sink that needs no event loop while the disk is fast: see `dicomport.scp.straight`."""

    def write_now(self, data: Buffer) -> bool:
        """Append bytes as `write` does, without waiting; return False, and append nothing, if only `write` can."""

    def commit_now(self) -> Status | None:
        """Complete the instance as `commit` does, without waiting; return None if `commit` must do it."""


@runtime_checkable
class DirectStorage(Protocol):
    """A storage that needs no event loop while the disk is fast."""

    def begin_now(self, operation: StoreOperation) -> DirectSink | Status | None:
        """Return what `begin` does, without waiting; None if only `begin` can."""


def is_direct_storage(storage: Storage) -> TypeGuard[DirectStorage]:
    """Return whether a storage needs no event loop while the disk is fast."""
    return _has_methods(type(storage), DirectStorage)


def is_direct_sink(sink: Sink) -> TypeGuard[DirectSink]:
    """Return whether a sink needs no event loop while the disk is fast."""
    return _has_methods(type(sink), DirectSink)


@functools.lru_cache(maxsize=64)
def _has_methods(kind: type[object], protocol: type[object]) -> bool:
    # Without the cache, each look takes as long as 30 calls.
    return issubclass(kind, protocol)


def study_of(target: Sink | Status) -> str | None:
    """Return the Study Instance UID of an instance for the log, or None if its sink does not know it."""
    return getattr(target, "study_instance_uid", None)


def quarantine_path_of(target: Sink | Status) -> str | None:
    """Return the path of the file that keeps a refused instance, or None if its sink has not kept it."""
    return getattr(target, "quarantine_path", None)


def deviations_of(target: Sink | Status) -> Collection[str]:
    """Return the tolerated deviations of a data set, as far as its sink knows them."""
    found: Collection[str] = getattr(target, "deviations", ())
    return found


_NO_ROOM: Final = frozenset((errno.ENOSPC, errno.EDQUOT))


def status_of(error: OSError) -> Status:
    """Return the status for a failure of the disk (PS3.4 B.2.3), without the text of the system."""
    if error.errno in _NO_ROOM:
        return Status(OUT_OF_RESOURCES.code, "no space left to store the instance")
    return Status(PROCESSING_FAILURE.code, "the instance could not be written")

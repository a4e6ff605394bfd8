"""Where received instances go: the one mechanism under handlers, folders and archives."""

from __future__ import annotations

import errno
from typing import Final, Protocol, runtime_checkable

from dicomport.scp.requests import StoreOperation
from dicomport.standard import OUT_OF_RESOURCES, PROCESSING_FAILURE, Status
from dicomport.wire import Buffer

__all__ = ["Sink", "Storage", "status_of", "study_of"]


class Sink(Protocol):
    """Takes one instance: `write` any number of times, then `commit` or `discard`.

    `write` is called from the association's task. `commit` may be from another one, while the same association's next
    instance is written already: a peer may have negotiated several operations at once (PS3.7 D.3.3.3).

    An `OSError` out of any of them is answered with 0xA700 or 0x0110; any other exception with 0x0110. After an
    exception `discard` is called.

    A sink that knows the Study Instance UID after `commit` may have it as `study_instance_uid`, for the log.
    """

    async def write(self, data: Buffer) -> None:
        """Take some bytes of the data set, in order.

        They are a view that is dead after the return; taking long holds the peer back.
        """

    async def commit(self) -> Status:
        """Take note that the data set is complete. A success promises that it is safe."""

    async def discard(self) -> None:
        """Forget the instance: the data set did not come to its end, or could not be taken."""


@runtime_checkable
class Storage(Protocol):
    """Keeps instances: a folder, an archive, a handler."""

    async def begin(self, operation: StoreOperation) -> Sink | Status:
        """Decide on a request before its data set has come: give a sink, or the status that refuses the instance."""


def study_of(target: Sink | Status) -> str | None:
    """Return the Study Instance UID of an instance for the log, or None where its sink does not know it."""
    return getattr(target, "study_instance_uid", None)


_NO_ROOM: Final = frozenset((errno.ENOSPC, errno.EDQUOT))


def status_of(error: OSError) -> Status:
    """Tell the peer what kind of trouble the disk is in, in words of our own (PS3.4 B.2.3)."""
    if error.errno in _NO_ROOM:
        return Status(OUT_OF_RESOURCES.code, "no space left to store the instance")
    return Status(PROCESSING_FAILURE.code, "the instance could not be written")

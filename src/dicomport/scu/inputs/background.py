"""Find instances in a background thread while the first ones are already sent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from typing import Final, TypeAlias, TypeVar

from dicomport.scu.inputs.discovery import Source, find_batches, is_source
from dicomport.scu.inputs.found import Found
from dicomport.scu.inputs.instance import EMPTY_PATH, expected_source

T = TypeVar("T")

Sources: TypeAlias = "Source | Iterable[Source] | AsyncIterable[Source]"
"""One source, or an iterable or asynchronous iterable of sources."""

_AHEAD: Final = 16
"""Maximum number of batches that wait for the event loop."""


def each_source(sources: Sources) -> Iterable[Source] | AsyncIterable[Source]:
    """Return the sources as an iterable. Raise `TypeError` for an object that holds none, such as an open file.

    Raise `ValueError` for an empty path. Iterators are not consumed: for an object of another type and an empty path
    among theirs, `feed` yields a result with the reason.
    """
    if is_source(sources):
        _check_path(sources)
        return (sources,)
    # Iterating over bytes or a file would yield numbers or lines.
    is_content = isinstance(sources, bytes | bytearray | memoryview) or hasattr(sources, "read")
    if is_content or not isinstance(sources, Iterable | AsyncIterable):
        raise TypeError(f"{expected_source(sources)}, or an iterable of these; pydicom.dcmread reads an open file")
    for item in sources if isinstance(sources, list | tuple | set | frozenset) else ():
        if not is_source(item):
            raise TypeError(expected_source(item))
        _check_path(item)
    return sources


def _check_path(source: Source) -> None:
    if source == "":
        raise ValueError(EMPTY_PATH)


async def feed(sources: Sources) -> AsyncIterator[Sequence[Found]]:
    """Yield the instances in batches as they are found. Raises `TypeError` and `ValueError` as `each_source` does."""
    each = each_source(sources)
    if isinstance(each, AsyncIterable):
        async for one in each:
            async for found in _in_thread(find_batches((one,))):
                yield found
    else:
        async for found in _in_thread(find_batches(each)):
            yield found


async def _in_thread(items: Iterator[T]) -> AsyncIterator[T]:
    """Iterate in a thread, up to `_AHEAD` items ahead of the event loop.

    It is a daemon thread: while it waits for a disk or for the standard input, it does not keep the process alive.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[tuple[T] | BaseException | None] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)
    wanted = True

    def iterate() -> None:
        end: BaseException | None = None
        try:
            for item in items:
                room.acquire()
                if not wanted:
                    return
                loop.call_soon_threadsafe(arrived.put_nowait, (item,))
        except BaseException as error:  # noqa: BLE001  # it is raised in the event loop
            end = error
        if wanted:
            loop.call_soon_threadsafe(arrived.put_nowait, end)

    threading.Thread(target=iterate, name="dicomport-find", daemon=True).start()
    try:
        while isinstance(got := await arrived.get(), tuple):
            room.release()
            yield got[0]
        if got is not None:
            raise got
    finally:
        wanted = False
        room.release()

"""Find instances in a background thread while the first ones are already sent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from dicomport.scu.inputs.discovery import Source, find_batches
from dicomport.scu.inputs.found import Found

T = TypeVar("T")

Sources: TypeAlias = "str | Path | Iterable[Source] | AsyncIterable[Source]"
"""One path, or an iterable or asynchronous iterable of sources."""

_AHEAD: Final = 16
"""Maximum number of batches that wait for the event loop."""


async def feed(sources: Sources) -> AsyncIterator[Sequence[Found]]:
    """Yield the instances in batches as they are found."""
    if isinstance(sources, AsyncIterable):
        async for one in sources:
            async for found in _in_thread(find_batches((one,))):
                yield found
    else:
        async for found in _in_thread(find_batches((sources,) if isinstance(sources, str | Path) else sources)):
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

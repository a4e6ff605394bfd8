"""From whatever a caller has to instances, found in a thread of their own while others are sent already."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from dicomport.scu.inputs.discovery import Source, find_batches
from dicomport.scu.inputs.found import Found

__all__ = ["Sources", "feed"]

T = TypeVar("T")

Sources: TypeAlias = "str | Path | Iterable[Source] | AsyncIterable[Source]"
"""One file or folder, or any number of what can be sent, also as they come."""

_AHEAD: Final = 16
"""Batches of found things that wait to be taken at most."""


async def feed(what: Sources) -> AsyncIterator[Sequence[Found]]:
    """Find the instances in what a caller has, those of the first while the rest is still looked for."""
    if isinstance(what, AsyncIterable):
        async for one in what:
            async for found in _in_thread(find_batches((one,))):
                yield found
    else:
        async for found in _in_thread(find_batches((what,) if isinstance(what, str | Path) else what)):
            yield found


async def _in_thread(items: Iterator[T]) -> AsyncIterator[T]:
    """Iterate in a thread, a little ahead of who takes the items.

    The thread is a daemon: one that waits for a disk, or for somebody to type, can't keep a process from its end.
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
        except BaseException as error:  # noqa: BLE001  # it is raised where the items are taken
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

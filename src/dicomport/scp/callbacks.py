"""Calling functions of the user's, which may be coroutine functions or such that block."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

__all__ = ["call"]


async def call(function: Callable[..., object], threads: ThreadPoolExecutor, *arguments: object) -> object:
    """Call a function and wait for what it gives: a coroutine function here, any other in one of the threads."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        given = function(*arguments)
    else:
        given = await asyncio.get_running_loop().run_in_executor(threads, _call, function, *arguments)
    return await given if inspect.isawaitable(given) else given


def _call(function: Callable[..., object], *arguments: object) -> object:
    try:
        return function(*arguments)
    except StopIteration as error:
        # A future does not take it (PEP 479): whoever waits for that would wait for ever.
        raise RuntimeError("the function raised StopIteration") from error

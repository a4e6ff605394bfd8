"""The user's functions: their types, and calling those that may be coroutine functions or block."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from dicomport.scp.requests import AssociationInfo, StoreOperation
from dicomport.standard import Status

OnStored: TypeAlias = Callable[[StoreOperation, Status, int], object]
"""Called with each C-STORE request before its response is sent, the status, and the length of the data set in bytes."""

OnAssociationEnd: TypeAlias = Callable[[AssociationInfo], object]
"""Called once with each accepted association when it has ended, in any way."""


async def call(function: Callable[..., object], threads: ThreadPoolExecutor, *arguments: object) -> object:
    """Call a function and return its result: a coroutine function in this task, any other in one of the threads."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        result = function(*arguments)
    else:
        result = await asyncio.get_running_loop().run_in_executor(threads, _call, function, *arguments)
    return await result if inspect.isawaitable(result) else result


def _call(function: Callable[..., object], *arguments: object) -> object:
    try:
        return function(*arguments)
    except StopIteration as error:
        # A future rejects StopIteration (PEP 479), so the caller would wait for ever.
        raise RuntimeError("the function raised StopIteration") from error

"""The user's functions: their types, and calling those that may be coroutine functions or block."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from dicomport.containment import as_exception, for_future
from dicomport.scp.requests import AssociationInfo, StoreOperation
from dicomport.standard import Status

OnStored: TypeAlias = Callable[[StoreOperation, Status, int], object]
"""Called with each C-STORE request before its response is sent, the status, and the length of the data set in bytes."""

OnAssociationEnd: TypeAlias = Callable[[AssociationInfo], object]
"""Called once with each accepted association when it has ended, in any way."""

InThread: TypeAlias = Callable[[Callable[[], object]], Awaitable[object]]
"""Calls a function in a thread."""


def in_pool(threads: ThreadPoolExecutor) -> InThread:
    """Return a function that calls others in one of the threads."""

    async def in_thread(function: Callable[[], object]) -> object:
        return await asyncio.get_running_loop().run_in_executor(threads, function)

    return in_thread


async def call(function: Callable[..., object], in_thread: InThread, *arguments: object) -> object:
    """Call the user's function and return its result: a coroutine function in this task, any other in a thread.

    Raises the exceptions that `as_exception` returns or raises.
    """
    try:
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
            result = function(*arguments)
        else:
            result = await in_thread(functools.partial(_call, function, *arguments))
        return await result if inspect.isawaitable(result) else result
    except BaseException as error:  # noqa: BLE001  # the user's code
        raise as_exception(error)  # noqa: B904  # the same exception, or one that has it as its cause


def _call(function: Callable[..., object], *arguments: object) -> object:
    try:
        return function(*arguments)
    except BaseException as error:  # noqa: BLE001  # the user's code
        raise for_future(error)  # noqa: B904  # the same exception, or one that has it as its cause

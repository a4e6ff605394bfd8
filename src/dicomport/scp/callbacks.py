"""The user's functions: their types, calling those that may be coroutine functions or block, and their exceptions.

The user's code may raise anything: also `SystemExit` and `KeyboardInterrupt`, which would end the event loop and so
the server, and `asyncio.CancelledError`, which would look like a cancellation of the association. Each call of the
user's code catches `BaseException` and passes it to `contained`. Only tasks that the user's code starts itself are out
of reach: asyncio ends the loop if one of them raises `SystemExit` or `KeyboardInterrupt`.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar

from dicomport.scp.requests import AssociationInfo, StoreOperation
from dicomport.standard import Status

OnStored: TypeAlias = Callable[[StoreOperation, Status, int], object]
"""Called with each C-STORE request before its response is sent, the status, and the length of the data set in bytes."""

OnAssociationEnd: TypeAlias = Callable[[AssociationInfo], object]
"""Called once with each accepted association when it has ended, in any way."""

T = TypeVar("T")

InThread: TypeAlias = Callable[[Callable[[], object]], Awaitable[object]]
"""Calls a function in a thread."""


def contained(error: BaseException) -> Exception:
    """Return an `Exception` for `error`, which the user's code raised; raise `error` itself if it ends this task.

    A cancellation ends this task if the server has cancelled it, `GeneratorExit` if the event loop was closed.
    """
    if isinstance(error, Exception):
        return error
    task = asyncio.current_task()
    cancelled = isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling()
    if cancelled or isinstance(error, GeneratorExit):
        raise error
    raised = RuntimeError(f"the function raised {type(error).__name__}")
    raised.__cause__ = error
    return raised


def in_pool(threads: ThreadPoolExecutor) -> InThread:
    """Return a function that calls others in one of the threads."""

    async def in_thread(function: Callable[[], object]) -> object:
        return await asyncio.get_running_loop().run_in_executor(threads, function)

    return in_thread


async def call(function: Callable[..., object], in_thread: InThread, *arguments: object) -> object:
    """Call the user's function and return its result: a coroutine function in this task, any other in a thread.

    Raises only what `contained` returns or raises.
    """
    try:
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
            result = function(*arguments)
        else:
            result = await in_thread(functools.partial(_call, function, *arguments))
        return await result if inspect.isawaitable(result) else result
    except BaseException as error:  # noqa: BLE001  # the user's code
        raise contained(error)  # noqa: B904  # the same exception, or one that has it as its cause


def _call(function: Callable[..., object], *arguments: object) -> object:
    try:
        return function(*arguments)
    except StopIteration as error:
        # A future rejects StopIteration (PEP 479), so the caller would wait for ever.
        raise RuntimeError("the function raised StopIteration") from error


def raised_class(error: Exception) -> str:
    """Return the name of the exception class that the user's code raised; `error` is from `contained`."""
    cause = error.__cause__
    return type(error if cause is None or isinstance(cause, Exception) else cause).__name__

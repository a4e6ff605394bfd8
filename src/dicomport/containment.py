"""Exceptions of the user's code, which end no more than the operation that called it.

The user's code may raise anything: also `SystemExit` and `KeyboardInterrupt`, which would end the event loop and so
the whole process, and `asyncio.CancelledError`, which would look like a cancellation of the task. Each call of the
user's code catches `BaseException` and passes it to `as_exception`.

Only the tasks that the user's code starts itself are out of reach: asyncio ends the event loop if one of them raises
`SystemExit` or `KeyboardInterrupt`.
"""

from __future__ import annotations

import asyncio


def as_exception(error: BaseException) -> Exception:
    """Return an `Exception` for `error`, which the user's code raised; raise `error` itself if it ends this task.

    Call it in the task that called the user's code. `CancelledError` ends this task if another one has cancelled it,
    `GeneratorExit` if the event loop was closed.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    if isinstance(error, GeneratorExit) and task is None:
        raise error
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error
    return for_future(error)


def for_future(error: BaseException) -> Exception:
    """Return `error`, or a `RuntimeError` for one that a future cannot pass on as it is; for code in threads."""
    # A future rejects StopIteration (PEP 479), and passes GeneratorExit on by closing the coroutines that wait for it.
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    replacement = RuntimeError(f"the function raised {type(error).__name__}")
    replacement.__cause__ = error
    return replacement


def raised_class(error: Exception) -> str:
    """Return the name of the exception class that the user's code raised; `error` is from `as_exception`."""
    cause = error.__cause__
    return type(error if cause is None or isinstance(cause, Exception) else cause).__name__

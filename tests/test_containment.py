"""Exceptions of the user's code that end their own task, and those that do not."""

import asyncio

import pytest

from dicomport.containment import as_exception, raised_class


def test_an_exception_stays_as_it_is() -> None:
    error = KeyError("some reason")
    assert as_exception(error) is error
    assert raised_class(as_exception(error)) == "KeyError"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), StopIteration()])
def test_any_other_becomes_an_exception_with_its_cause(error: BaseException) -> None:
    replacement = as_exception(error)
    assert isinstance(replacement, RuntimeError)
    assert replacement.__cause__ is error
    assert type(error).__name__ in str(replacement)


def test_a_coroutine_that_is_closed_ends() -> None:
    """The end of an event loop closes coroutines outside of any task."""
    ended = []

    async def call() -> None:
        try:
            await asyncio.Event().wait()
        except BaseException as error:  # noqa: BLE001  # as callers do
            ended.append(type(error))
            raise as_exception(error) from None

    coroutine = call()

    async def start() -> None:
        coroutine.send(None)

    asyncio.run(start())
    coroutine.close()
    assert ended == [GeneratorExit]


def test_a_task_that_is_cancelled_ends() -> None:
    async def call() -> None:
        try:
            await asyncio.Event().wait()
        except BaseException as error:  # noqa: BLE001  # as callers do
            raise as_exception(error) from None

    async def main() -> None:
        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())

"""The straight path and the general one: tests that run over both, and the collection of paths and log lines."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, TypeVar
from unittest import mock

import pytest

T = TypeVar("T")

_WAYS: Final = ("straight", "general") if os.environ.get("CI") else ("straight",)


def over_both_ways(metafunc: pytest.Metafunc) -> None:
    """In CI, run each test over both ways, but those that compare the two."""
    ways = _WAYS[:1] if metafunc.module.__name__.endswith("test_straight") else _WAYS
    metafunc.parametrize("way", ways, indirect=True, scope="module")


def way_without(general: Callable[[], AbstractContextManager[Any]]) -> Any:
    """Return a fixture, the name of the way; within `general`, no association takes the straight path."""

    @pytest.fixture(scope="module", autouse=True)
    def way(request: pytest.FixtureRequest) -> Iterator[str]:
        if request.param == "straight":
            yield request.param
        else:
            with general():
                yield request.param

    return way


@contextmanager
def created(kind: type[T]) -> Iterator[list[T]]:
    """Collect the objects of a class that are created."""
    objects: list[T] = []
    begin = kind.__init__

    def init(self: T, *arguments: Any) -> None:
        begin(self, *arguments)
        objects.append(self)

    with mock.patch.object(kind, "__init__", init):
        yield objects


@contextmanager
def logged(name: str, port: str) -> Iterator[list[str]]:
    """Collect the lines of a logger, without the ports that match the pattern."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(re.sub(port, "PORT", record.getMessage()))

    logger, handler = logging.getLogger(name), Handler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)

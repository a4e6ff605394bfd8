"""A pytest plugin that names each test to coverage, also in the processes that the test starts.

With `DICOMPORT_TEST_SECONDS`, it also writes the duration of each test to that file.
"""

from __future__ import annotations

import base64
import collections
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import coverage
import pytest

_SETTINGS: Final = "COVERAGE_PROCESS_CONFIG"
"""The environment variable by which coverage configures a process that a test starts."""

_seconds: collections.defaultdict[str, float] = collections.defaultdict(float)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add the duration of a phase to its test."""
    _seconds[report.nodeid] += report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the durations, in the process that has all reports."""
    if not hasattr(session.config, "workerinput") and "DICOMPORT_TEST_SECONDS" in os.environ:
        Path(os.environ["DICOMPORT_TEST_SECONDS"]).write_text(json.dumps(_seconds), "utf-8")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Name the test to coverage, in this process and in those that it starts."""
    current = coverage.Coverage.current()
    settings = os.environ.get(_SETTINGS)
    if current is None or settings is None:
        return (yield)
    current.switch_context(item.nodeid)
    os.environ[_SETTINGS] = _with_context(settings, item.nodeid)
    try:
        return (yield)
    finally:
        os.environ[_SETTINGS] = settings
        current.switch_context("")


def _with_context(settings: str, context: str) -> str:
    values = json.loads(base64.b64decode(settings))
    return base64.b64encode(json.dumps(values | {"context": context}).encode()).decode()

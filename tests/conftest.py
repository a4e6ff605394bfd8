"""For all tests: the events and fields of each log line are those of docs/logging.md, and nothing is left behind."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.event_loops import use_asyncio
from tests.left_behind import nothing_left_behind
from tests.log_fields import Audit

OWNERS = {"files", "net", "scp", "scu", "commitment"}
"""The rooms whose objects own files, sockets, processes or threads."""


use_asyncio()


@pytest.fixture(scope="session", autouse=True)
def _every_record_is_as_documented() -> Iterator[None]:
    audit = Audit()
    logging.getLogger("dicomport").addHandler(audit)
    yield
    logging.getLogger("dicomport").removeHandler(audit)
    assert audit.faults == set()


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.path.relative_to(Path(__file__).parent).parts[0] not in OWNERS:
        yield
        return
    with nothing_left_behind():
        yield

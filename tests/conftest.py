"""For all tests: the events and fields of each log line are those of docs/logging.md."""

import logging
from collections.abc import Iterator

import pytest
from tests.log_fields import Audit


@pytest.fixture(scope="session", autouse=True)
def _every_record_is_as_documented() -> Iterator[None]:
    audit = Audit()
    logging.getLogger("dicomport").addHandler(audit)
    yield
    logging.getLogger("dicomport").removeHandler(audit)
    assert audit.faults == set()

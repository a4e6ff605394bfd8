"""Collect the log events of commitments."""

import logging
from collections.abc import Iterator

import pytest
from tests.commitment.asking import Log


@pytest.fixture
def log() -> Iterator[Log]:
    logger = logging.getLogger("dicomport.commitment")
    handler, level = Log(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)

"""A receiver for each module, and an attack on it for each test; `attacks.py` lists the checks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.robustness.attacks import Attack, Target, receiver


@pytest.fixture(scope="module")
def options() -> tuple[str, ...]:
    """Return the receiver's options; a module overrides this fixture for other options."""
    return ()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, options: tuple[str, ...]) -> Iterator[Target]:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux's accounts of a process")
    with receiver(tmp_path_factory.mktemp("target") / "archive", *options) as running:
        yield running


@pytest.fixture
def attack(target: Target) -> Iterator[Attack]:
    with Attack(target) as going_on:
        yield going_on

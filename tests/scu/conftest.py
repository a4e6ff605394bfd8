"""In CI, each test of the sender runs over both ways of an association: the straight path and the general one."""

import os
from collections.abc import Iterator

import pytest
from tests.scu.both_ways import general

WAYS = ("straight", "general") if os.environ.get("CI") else ("straight",)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test over both ways, but those that compare the two."""
    ways = WAYS[:1] if metafunc.module.__name__.endswith("test_straight") else WAYS
    metafunc.parametrize("way", ways, indirect=True, scope="module")


@pytest.fixture(scope="module", autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the name of the way that associations in this process take."""
    if request.param == "straight":
        yield request.param
    else:
        with general():
            yield request.param

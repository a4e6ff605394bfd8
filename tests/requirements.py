"""Programs and permissions that some tests need: without them a test is skipped, or fails in CI."""

import os
import shutil
from typing import NoReturn

import pytest

__all__ = ["missing", "require_program"]


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it if DICOMPORT_REQUIRE_INTEROP is 1, as in CI."""
    if os.environ.get("DICOMPORT_REQUIRE_INTEROP") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def require_program(name: str, package: str) -> None:
    """Do without the test if a program is not on the path."""
    if shutil.which(name) is None:
        missing(f"{package} is not installed: there is no {name}")

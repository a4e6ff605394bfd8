"""The event loop of the commands that tests start: asyncio's by default, uvloop's in some tests."""

import os
from pathlib import Path

import pytest

_WITHOUT_UVLOOP = str(Path(__file__).parent / "asyncio_only")


def use_asyncio() -> None:
    """Run all commands as if uvloop were not installed."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_WITHOUT_UVLOOP, os.environ.get("PYTHONPATH", ""))))


def use_uvloop(patch: pytest.MonkeyPatch) -> None:
    """Run the commands of a test with uvloop."""
    paths = os.environ["PYTHONPATH"].split(os.pathsep)
    patch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path != _WITHOUT_UVLOOP))

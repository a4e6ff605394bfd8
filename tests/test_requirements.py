"""A test whose program is missing is skipped on a developer's machine and fails in CI."""

from pathlib import Path

import pytest
from tests.archive.power_loss import library
from tests.requirements import missing, require_program


@pytest.fixture(params=["elsewhere", "in CI"])
def outcome(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[BaseException]:
    """Set the variable of CI, and return the exception that it causes."""
    is_ci = request.param == "in CI"
    monkeypatch.setenv("DICOMPORT_REQUIRE_INTEROP", "1" if is_ci else "")
    return pytest.fail.Exception if is_ci else pytest.skip.Exception


def test_a_reason_is_given(outcome: type[BaseException]) -> None:
    with pytest.raises(outcome, match="no disk"):
        missing("no disk")


def test_a_program_has_to_be_on_the_path(outcome: type[BaseException]) -> None:
    require_program("sh", "dash")
    with pytest.raises(outcome, match="DCMTK is not installed: there is no nonesuch"):
        require_program("nonesuch", "DCMTK")


def test_power_losses_need_a_compiler(
    tmp_path: Path, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(outcome, match="gcc is not installed"):
        library(tmp_path)

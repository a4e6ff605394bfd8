"""The fuzzer as a command: its output, files and exit codes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from fuzz.__main__ import SHORT
from fuzz.seeds import CORPUS
from fuzz.targets import TARGETS

ROOT: Final = CORPUS.parents[1]

BROKEN: Final = """
from dicomport.wire import ReleaseRP, ReleaseRQ
ReleaseRP.encode = lambda _: ReleaseRQ().encode()
"""


def python(folder: Path, *arguments: str | Path, first: str = "") -> tuple[int, str]:
    """Run a module in a process, after the code in `first`; return its exit code and output."""
    (folder / "sitecustomize.py").write_text(first)
    done = subprocess.run(
        (sys.executable, "-m", *map(str, arguments)),
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", "")))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    return done.returncode, done.stdout


def test_a_missing_atheris_is_reported(tmp_path: Path) -> None:
    blocked = "import sys; sys.modules['atheris'] = None"
    code, output = python(tmp_path, "fuzz", "--folder", tmp_path / "fuzz", first=blocked)
    assert code == 2
    assert output.startswith(f"atheris is not available for this Python ({sys.version.split()[0]})")
    assert not (tmp_path / "fuzz").exists()


def test_an_unknown_target_is_an_error(tmp_path: Path) -> None:
    code, output = python(tmp_path, "fuzz", "nothing")
    assert code == 2, output
    assert "nothing: unknown target" in output


def test_results_are_printed_and_learned_inputs_are_kept(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    code, output = python(tmp_path, "fuzz", "item", "--seconds", "1", "--folder", tmp_path / "fuzz")
    assert (code, output.split()[0], output.split()[-1]) == (0, "item", "held")
    assert int(output.split()[1]) > 100
    assert list((tmp_path / "fuzz" / "item").iterdir())
    assert list((tmp_path / "fuzz" / "findings").iterdir()) == []


def test_a_finding_is_kept_and_can_be_reproduced(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    code, output = python(tmp_path, "fuzz", "pdu", "--seconds", "30", "--folder", tmp_path / "fuzz", first=BROKEN)
    assert code == 1
    assert "AssertionError" in output
    assert f"Findings are in {tmp_path / 'fuzz' / 'findings'}" in output
    [finding] = (tmp_path / "fuzz" / "findings").iterdir()
    assert finding.name.startswith("pdu-crash-")
    code, output = python(tmp_path, "fuzz.process", "pdu", finding, first=BROKEN)
    assert code != 0
    assert "AssertionError" in output
    code, output = python(tmp_path, "fuzz.process", "pdu", finding)
    assert code == 0


def test_each_target_has_a_short_round() -> None:
    assert SHORT.keys() == TARGETS.keys()

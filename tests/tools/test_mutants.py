"""The mutants: defects that parse, and a sample whose survivors are those that no test notices."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.users import without_coverage
from tools.mutants.mutations import mutations

ROOT = Path(__file__).resolve().parents[2]

SOURCE = """\
def clamp(value: int, most: int) -> int:
    "Return é value, or most."
    if value > most and most:
        raise ValueError(value + 1)
    log.info("é", value)
    return min(value, most)
"""


def test_each_kind_of_defect_is_made_once_per_place() -> None:
    assert sorted(each.describe(SOURCE) for each in mutations(SOURCE)) == [
        "arithmetic: + -> -",
        "comparison: > -> >=",
        "condition: value > most and most -> (not (value > most and most))",
        "constant: 1 -> 2",
        "junction: and -> or",
        "result: min(value, most) -> None",
        "statement: raise ValueError(value + 1) -> pass",
    ]


def test_each_mutant_is_a_program_that_differs() -> None:
    text = (ROOT / "src/dicomport/wire/cursor.py").read_text("utf-8")
    tree = ast.dump(ast.parse(text))
    for mutation in mutations(text):
        assert ast.dump(ast.parse(mutation.apply(text))) != tree


def test_lines_that_run_on_import_are_known() -> None:
    text = "LIMIT = 4 << 10\n\ndef doubled(n: int) -> int:\n    return n * 2\n"
    assert {each.line: each.runs_on_import for each in mutations(text)} == {1: True, 4: False}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a project with one function, of which the tests see half; one test fails in any fork."""
    (tmp_path / "src/dicomport").mkdir(parents=True)
    (tmp_path / "tests").mkdir()
    (tmp_path / "src/dicomport/__init__.py").touch()
    (tmp_path / "src/dicomport/half.py").write_text(
        "def half(n: int) -> bool:\n    if n > 4:\n        return True\n    return False\n"
    )
    (tmp_path / "tests/test_half.py").write_text(
        "from dicomport.half import half\n\ndef test_ten() -> None:\n    assert half(10)\n"
    )
    (tmp_path / "tests/test_process.py").write_text(
        "import os\n\nfrom dicomport.half import half\n\nPROCESS = os.getpid()\n\n"
        "def test_no_fork() -> None:\n    half(10)\n    half(1)\n    assert os.getpid() == PROCESS\n"
    )
    (tmp_path / "pyproject.toml").write_text(
        '[tool.coverage.run]\nsource = ["dicomport"]\nparallel = true\npatch = ["subprocess"]\n'
    )
    shutil.copytree(ROOT / "tools/mutants", tmp_path / "tools/mutants")
    (tmp_path / "tools/__init__.py").touch()
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "-A"], cwd=tmp_path, check=True)
    return tmp_path


def test_each_survivor_is_listed(project: Path) -> None:
    command = [sys.executable, "-m", "tools.mutants", "--seed", "1", "--jobs", "1"]
    environment = without_coverage()  # This project has another coverage.
    result = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    listed = result.stdout.partition("survivors:")[2].split("\n")
    assert sorted(line for line in listed if line.strip()) == [
        "SURVIVED src/dicomport/half.py:2 comparison: > -> >=  ",
        "SURVIVED src/dicomport/half.py:2 constant: 4 -> 5  ",
        "SURVIVED src/dicomport/half.py:4 constant: False -> True  ",
        "SURVIVED src/dicomport/half.py:4 result: False -> None  ",
    ]
    assert "2 of 6 noticed (seed 1)" in result.stdout
    assert "2 noticed in forks" in result.stdout
    assert (project / "src/dicomport/half.py").read_text().count("n > 4") == 1

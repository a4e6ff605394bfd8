"""The lists of the modules that each room may import hold: import-linter runs over a copy of the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder with a copy of the package, the contracts and their configuration."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tools").mkdir()
    for name in ("pyproject.toml", "tools/import_contracts.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def lint(tree: Path) -> tuple[int, str]:
    """Run import-linter; return its exit code and its output on one line."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree / "src")},
        check=False,
        capture_output=True,
        text=True,
    )
    return done.returncode, " ".join(done.stdout.split())


def add(tree: Path, module: str, text: str) -> None:
    with (tree / "src" / "dicomport" / module).open("a", encoding="utf-8") as file:
        file.write(text)


def allow_in_standard(tree: Path, name: str) -> None:
    configuration = tree / "pyproject.toml"
    text = configuration.read_text(encoding="utf-8")
    start = '"dicomport.standard" = ['
    assert start in text
    configuration.write_text(text.replace(start, f'{start}"{name}",'), encoding="utf-8")


def test_the_tree_as_it_is_passes(tree: Path) -> None:
    code, output = lint(tree)

    assert (code, "Contracts: 1 kept, 0 broken." in output) == (0, True), output


@pytest.mark.parametrize(
    ("module", "text", "problem", "allowed"),
    [
        (
            "standard/statuses.py",
            "import logging\n",
            "dicomport.standard may not import logging: dicomport.standard.statuses imports logging in line",
            "enum",
        ),
        (
            "core/machine.py",
            "def late() -> None:\n    import random\n",
            "dicomport.core may not import random: dicomport.core.machine imports random in line",
            "dicomport.wire",
        ),
        (
            "wire/items.py",
            "if TYPE_CHECKING:\n    from dicomport.net.stream import Stream\n",
            "dicomport.wire may not import dicomport.net: dicomport.wire.items imports dicomport.net.stream in line",
            "dicomport.encoding",
        ),
        (
            "scu/inputs/zip.py",
            "from dicomport.scu.sending.send import send\n",
            "dicomport.scu.inputs may not import dicomport.scu.sending: dicomport.scu.inputs.zip imports",
            "dicomport.files",
        ),
        (
            "standard/uids.py",
            "import dicomport\n",
            "dicomport.standard may not import dicomport: dicomport.standard.uids imports dicomport in line",
            "enum",
        ),
    ],
)
def test_an_import_that_is_not_on_the_list_fails(
    tree: Path, module: str, text: str, problem: str, allowed: str
) -> None:
    add(tree, module, text)

    code, output = lint(tree)

    assert code == 1
    assert problem in output
    lists = output.partition(problem)[2].partition("allowed: ")[2]
    assert allowed in lists


def test_a_room_without_a_list_fails(tree: Path) -> None:
    (tree / "src" / "dicomport" / "extra.py").write_text("", encoding="utf-8")

    code, output = lint(tree)

    assert code == 1
    assert "dicomport.extra belongs to no room" in output


def test_a_name_on_the_list_that_is_not_imported_fails(tree: Path) -> None:
    allow_in_standard(tree, "heapq")

    code, output = lint(tree)

    assert code == 1
    assert "dicomport.standard lists heapq but does not import it" in output


def test_a_list_that_allows_an_upward_import_is_invalid(tree: Path) -> None:
    allow_in_standard(tree, "dicomport.wire")

    code, output = lint(tree)

    assert code == 1
    assert "dicomport.standard may not import dicomport.wire: only rooms listed before" in output

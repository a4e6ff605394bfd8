"""The tests that execute a line, and the duration of each test: measured in one run of the suite."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from coverage import CoverageData


@dataclasses.dataclass(frozen=True, slots=True)
class Covering:
    """The tests of each line of the package."""

    data: CoverageData
    seconds: Mapping[str, float]
    """The duration of each test."""

    def tests_of(self, source: Path, line: int) -> list[str]:
        """Return the ids of the tests that execute a line, the fastest first."""
        return self._fastest_first(self.data.contexts_by_lineno(str(source)).get(line, []))

    def tests_of_file(self, source: Path) -> list[str]:
        """Return the ids of the tests that execute any line of a file, the fastest first."""
        by_line = self.data.contexts_by_lineno(str(source))
        return self._fastest_first(itertools.chain.from_iterable(by_line.values()))

    def tests_below(self, folder: str) -> list[str]:
        """Return the ids of the tests in a folder, the fastest first."""
        return self._fastest_first(test for test in self.seconds if test.startswith(folder))

    def _fastest_first(self, contexts: Iterable[str]) -> list[str]:
        return sorted({context for context in contexts if context}, key=lambda test: (self.cost(test), test))

    def cost(self, test: str) -> float:
        """Return the seconds that a test took, or 1 if they are unknown."""
        return self.seconds.get(test, 1.0)


def measure(tree: Path, folder: Path) -> None:
    """Run the suite in a tree, and write the tests of each line and their durations to a folder.

    Raises subprocess.CalledProcessError if a test fails: a mutant shows nothing unless all tests pass without it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "COVERAGE_FILE": str(folder / "coverage"),
        "DICOMPORT_TEST_SECONDS": str(folder / "seconds.json"),
        "PYTHONPATH": str(tree / "src"),
    }
    pytest = ["pytest", "-q", "-p", "tools.mutants.contexts", "-n", "auto", "--dist", "loadfile"]
    for arguments in (["erase"], ["run", "-m", *pytest], ["combine", "--quiet"]):
        subprocess.run([sys.executable, "-m", "coverage", *arguments], cwd=tree, env=environment, check=True)


def load(folder: Path) -> Covering:
    """Return the result of `measure`."""
    data = CoverageData(basename=str(folder / "coverage"))
    data.read()
    return Covering(data, json.loads((folder / "seconds.json").read_text("utf-8")))

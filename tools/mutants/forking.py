"""A pytest plugin that tries mutants in forks of one process, which has imported and collected everything.

Theory of operation
-------------------
For each `Job`, a fork replaces the code of the functions that the mutant changes, wherever they are referenced, and
runs the tests until one fails. That saves the time of a new process, of its imports and of collecting tests. A test
that fails in a fork without any mutant proves nothing, so each test that fails runs once more without the mutant. Forks
do not show the mutants of code that runs on import, nor those of commands that tests start.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import select
import signal
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from _pytest.runner import runtestprotocol

_VARIABLE: Final = "DICOMPORT_MUTANTS"

_TEST_SECONDS: Final = 30
"""Seconds after which a test hangs, and has noticed the mutant."""

_PATIENCE: Final = 120
"""Seconds after which a fork hangs: then processes decide."""


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A mutant and its tests."""

    source: str
    text: str
    """The file's text with the defect."""
    tests: list[str]


def try_all(jobs: Sequence[Job], tree: Path, folder: Path) -> list[str]:
    """Return the test that noticed each mutant, "" where none did in a fork;  is for temporary files."""
    asked, answered = folder / "jobs.json", folder / "noticed.json"
    asked.write_text(json.dumps([dataclasses.astuple(job) for job in jobs]), "utf-8")
    answered.unlink(missing_ok=True)
    modules = sorted({test.partition("::")[0] for job in jobs for test in job.tests})
    plugins = ("-p", "tools.mutants.forking", "-p", "no:cacheprovider", "-p", "no:randomly")
    command = (sys.executable, "-m", "pytest", "-q", *plugins, f"--timeout={_TEST_SECONDS}", *modules)
    environment = os.environ | {_VARIABLE: str(folder), "PYTHONPATH": str(tree / "src"), "CI": "true"}
    if modules:
        subprocess.run(command, cwd=tree, env=environment, check=False, stdout=subprocess.DEVNULL)
    noticed: list[str] = json.loads(answered.read_text("utf-8")) if modules else [""] * len(jobs)
    return noticed


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Try the jobs instead of running the tests, and write the results."""
    folder = Path(os.environ[_VARIABLE])
    jobs = [Job(*values) for values in json.loads((folder / "jobs.json").read_text("utf-8"))]
    forks = _Forks({item.nodeid: item for item in session.items})
    (folder / "noticed.json").write_text(json.dumps(list(forks.run(jobs))), "utf-8")
    return True


class _Forks:
    """Runs jobs in forks, one for each core at a time."""

    def __init__(self, items: dict[str, pytest.Item]) -> None:
        self._items = items
        self._sound: dict[str, bool] = {}
        """Whether a test passes in a fork without a mutant."""

    def run(self, jobs: Sequence[Job]) -> Iterator[str]:
        """Yield the test that noticed each mutant, in the order of the jobs."""
        cores = os.cpu_count() or 1
        for first in range(0, len(jobs), cores):
            batch = jobs[first : first + cores]
            for job, by in zip(batch, self._together(batch), strict=True):
                yield self._sound_test(job, by)

    def _sound_test(self, job: Job, by: str) -> str:
        """Return `by`, the test that noticed a mutant, or another one if it fails in any fork."""
        while by and not self._is_sound(by):
            job = dataclasses.replace(job, tests=[test for test in job.tests if self._sound.get(test, True)])
            [by] = self._together([job])
        return by

    def _together(self, batch: Sequence[Job]) -> list[str]:
        """Return the test that noticed each mutant."""
        pipes = [self._start(job) for job in batch]
        return [_result(pid, pipe) for pid, pipe in pipes]

    def _start(self, job: Job) -> tuple[int, int]:
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.setpgid(0, 0)
            os.close(reading)
            os.write(writing, self._try(job).encode())
            os._exit(0)
        os.close(writing)
        return pid, reading

    def _try(self, job: Job) -> str:
        """Run the tests of a mutant until one fails; return its name."""
        if job.text and not _replace(job):
            return ""
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (1, 2):
            os.dup2(null, stream)
        for name in job.tests:
            item = self._items.get(name)
            if item is None:
                continue
            reports: list[Any] = runtestprotocol(item, log=False, nextitem=None)
            if any(report.failed for report in reports):
                return name
        return ""

    def _is_sound(self, name: str) -> bool:
        if name not in self._sound:
            [failed] = self._together([Job("", "", [name])])
            self._sound[name] = not failed
        return self._sound[name]


def _result(pid: int, pipe: int) -> str:
    """Return what a fork writes, or "" if it hangs or dies: then processes decide."""
    ready, _, _ = select.select([pipe], [], [], _PATIENCE)
    found = os.read(pipe, 4096).decode() if ready else ""
    os.close(pipe)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return found


def _replace(job: Job) -> bool:
    """Replace the code of the functions that the mutant changes; return whether that was possible."""
    path = str(Path(job.source).resolve())
    mutated = {(code.co_qualname, code.co_firstlineno): code for code in _codes(compile(job.text, path, "exec"))}
    replaced = False
    for function in gc.get_objects():
        if not isinstance(function, types.FunctionType) or function.__code__.co_filename != path:
            continue
        code = function.__code__
        other = mutated.get((code.co_qualname, code.co_firstlineno))
        if other is not None and other != code and len(other.co_freevars) == len(code.co_freevars):
            function.__code__ = other
            replaced = True
    return replaced


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _codes(constant)

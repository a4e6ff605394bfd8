"""Try a seeded sample of small defects, and list those that no test notices.

    python -m tools.mutants [--seed N] [--count 100] [--since REVISION] [--measure] [SOURCE ...]

SOURCE is a file or folder of the package, by default all of it; `--since` leaves out the files that are equal in that
revision. For each mutant, the tests that execute its line run, the fastest first, until one fails: at first in a fork
of one process, then in a copy of the tree. A whole run of the suite finds these tests (`--measure`; ten minutes or
more), and `.mutants/` keeps the result for the next samples. Exits with 1 if the tests noticed fewer than 95 % of the
mutants.

Neither mutmut nor cosmic-ray is used: one maps tests to lines within one process, the other runs the same tests for
each mutant. Here, many lines run only in commands that a test starts.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import itertools
import os
import queue
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import grimp
from tools.mutants import covering, forking
from tools.mutants.mutations import Mutation, mutations

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / ".mutants"
GOAL: Final = 0.95

_EXCLUDED: Final = ("standard/_tables.py",)
"""Generated from the standard's tables, and compared with them by a check."""

_SECONDS: Final = 600
"""Seconds that the tests of one mutant took without it; the slower tests above this sum are left out."""

_SECONDS_IN_FORKS: Final = 15
"""The same in forks."""

_MIN_TIMEOUT: Final = 30
_SLOWER: Final = 5
"""A test hangs, and has noticed the mutant, after that many seconds and so many times as long as without it."""

_HANGING: Final = 2400
"""Seconds after which a mutant counts as noticed, since its tests hang beyond their timeouts."""


@dataclasses.dataclass(frozen=True, slots=True)
class Mutant:
    """A mutation of one file."""

    source: Path
    """Relative to the tree."""

    mutation: Mutation


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """Whether the tests noticed a mutant, and the first test that did."""

    mutant: Mutant
    noticed: bool
    by: str


def main() -> int:
    """Try the sample and print each mutant, then the survivors."""
    options = _options()
    # Another tree may be installed.
    sys.path.insert(0, str(ROOT / "src"))
    if options.measure or not (FOLDER / "seconds.json").exists():
        covering.measure(ROOT, FOLDER)
    sample = _sample(_sources(options.sources, options.since), options.seed, options.count)
    print(f"seed {options.seed}: {len(sample)} mutants", flush=True)
    results = list(_try_all(sample, options.jobs))
    survivors = [result for result in results if not result.noticed]
    print(f"\n{len(results) - len(survivors)} of {len(results)} noticed (seed {options.seed}); survivors:")
    for result in survivors:
        print(_line(result))
    return 0 if len(survivors) <= (1 - GOAL) * len(results) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description="Try small defects on the tests.")
    parser.add_argument("sources", nargs="*", type=Path, help="files or folders (default: src/dicomport)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000), help="default: a new one")
    parser.add_argument("--count", type=int, default=100, help="number of mutants (default: 100)")
    parser.add_argument("--since", metavar="REVISION", help="mutate only files that differ from this revision")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants at once (default: one per core)")
    parser.add_argument("--measure", action="store_true", help="first find the tests of each line again")
    return parser.parse_args()


def _sources(given: Sequence[Path], since: str | None) -> list[Path]:
    """Return the files to mutate, sorted, relative to the tree."""
    folders = given or [Path("src/dicomport")]
    found = {path for folder in folders for path in ([folder] if folder.is_file() else folder.rglob("*.py"))}
    if since is not None:
        command = ["git", "diff", "--name-only", since, "--", "src"]
        changed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
        found &= {Path(name) for name in changed}
    return sorted(path for path in found if not path.as_posix().endswith(_EXCLUDED))


def _sample(sources: Sequence[Path], seed: int, count: int) -> list[Mutant]:
    everything = [Mutant(source, each) for source in sources for each in mutations((ROOT / source).read_text("utf-8"))]
    return random.Random(seed).sample(everything, min(count, len(everything)))


def _try_all(sample: Sequence[Mutant], jobs: int) -> Iterator[Result]:
    """Try the mutants in forks, then those that remain in processes."""
    tests = covering.load(FOLDER)
    left: list[Mutant] = []
    for result in _in_forks(sample, tests):
        if result.noticed:
            print(_line(result), flush=True)
            yield result
        else:
            left.append(result.mutant)
    print(f"{len(sample) - len(left)} noticed in forks", flush=True)
    yield from _in_processes(left, tests, jobs)


def _in_forks(sample: Sequence[Mutant], tests: covering.Covering) -> list[Result]:
    """Try the mutants of lines that tests execute, with the fastest of those."""
    jobs = []
    for mutant in sample:
        executing = tests.tests_of(ROOT / mutant.source, mutant.mutation.line)
        chosen = [] if mutant.mutation.runs_on_import else _in_time(tests, executing, _SECONDS_IN_FORKS)
        text = mutant.mutation.apply((ROOT / mutant.source).read_text("utf-8"))
        jobs.append(forking.Job(str(ROOT / mutant.source), text, chosen))
    noticed = forking.try_all(jobs, ROOT, FOLDER)
    return [Result(mutant, noticed=bool(by), by=by) for mutant, by in zip(sample, noticed, strict=True)]


def _in_processes(sample: Sequence[Mutant], tests: covering.Covering, jobs: int) -> Iterator[Result]:
    """Try each mutant in a copy of the tree that no other uses at the time."""
    chosen = [_tests_of(tests, mutant) for mutant in sample]
    timeouts = [max(_MIN_TIMEOUT, _SLOWER * max(map(tests.cost, ids), default=0.0)) for ids in chosen]
    trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for number in range(jobs):
        trees.put(_copy(FOLDER / f"tree{number}"))

    def attempt(mutant: Mutant, ids: list[str], timeout: float) -> Result:
        tree = trees.get()
        try:
            return _try(tree, mutant, ids, timeout)
        finally:
            trees.put(tree)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for result in pool.map(attempt, sample, chosen, timeouts):
            print(_line(result), flush=True)
            yield result


def _tests_of(tests: covering.Covering, mutant: Mutant) -> list[str]:
    """Return the tests that execute the line, as far as there is time for them.

    A line that runs on import only has its effect elsewhere: for it, return tests that execute the modules that import
    this one, and tests of its room.
    """
    executing = tests.tests_of(ROOT / mutant.source, mutant.mutation.line)
    if executing and not mutant.mutation.runs_on_import:
        return _in_time(tests, executing, _SECONDS)
    module = ".".join(mutant.source.relative_to("src").with_suffix("").parts).removesuffix(".__init__")
    importers = grimp.build_graph("dicomport", cache_dir=None).find_modules_that_directly_import(module)
    files = [ROOT / mutant.source, *(_file_of(importer) for importer in sorted(importers))]
    found = itertools.zip_longest(*(tests.tests_of_file(file) for file in files))
    ids = dict.fromkeys(test for row in found for test in row if test)
    room = mutant.source.relative_to("src/dicomport").parts[0]
    chosen = _in_time(tests, ids, _SECONDS), _in_time(tests, tests.tests_below(f"tests/{room}/"), _SECONDS)
    return list(dict.fromkeys(itertools.chain(*chosen)))


def _file_of(module: str) -> Path:
    path = ROOT.joinpath("src", *module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _in_time(tests: covering.Covering, ids: Iterable[str], most: float) -> list[str]:
    """Return the first tests, of which all but the last take less than `most` seconds together."""
    chosen: list[str] = []
    seconds = 0.0
    for test in ids:
        seconds += tests.cost(test)
        if seconds > most and chosen:
            break
        chosen.append(test)
    return chosen


def _try(tree: Path, mutant: Mutant, ids: list[str], timeout: float) -> Result:
    """Run the tests with the mutant. Without any, it survives."""
    if not ids:
        return Result(mutant, noticed=False, by="")
    file = tree / mutant.source
    text = file.read_text("utf-8")
    file.write_text(mutant.mutation.apply(text), "utf-8")
    listed = tree / "chosen.txt"
    listed.write_text("\n".join(ids), "utf-8")
    began = time.monotonic()
    try:
        return Result(mutant, *_run(tree, listed, timeout))
    finally:
        file.write_text(text, "utf-8")
        print(f"    {time.monotonic() - began:.0f} s, {len(ids)} tests", flush=True)


def _run(tree: Path, listed: Path, timeout: float) -> tuple[bool, str]:
    """Return whether a test failed, and its name; `timeout` is that of each test, seconds."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header"]
    command += [f"--timeout={timeout:.0f}", f"@{listed}"]
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1", "CI": "true"}
    with subprocess.Popen(
        command,
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=_HANGING)
        except subprocess.TimeoutExpired:
            return True, "its tests hang"
        finally:
            _end_all(process)
    failed = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if process.returncode == 1 or (process.returncode and failed):
        return True, failed[0][:150] if failed else "a test failed"
    if process.returncode == 0:
        return False, ""
    return (
        True,
        f"pytest ended with {process.returncode}: {output.strip().splitlines()[-1][:150] if output.strip() else ''}",
    )


def _end_all(process: subprocess.Popen[str]) -> None:
    """End what the tests have left behind."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        return


def _copy(tree: Path) -> Path:
    """Copy the tracked files to a new tree."""
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)
    return tree


def _line(result: Result) -> str:
    mutant = result.mutant
    text = (ROOT / mutant.source).read_text("utf-8")
    word = "noticed " if result.noticed else "SURVIVED"
    return f"{word} {mutant.source}:{mutant.mutation.line} {mutant.mutation.describe(text)[:160]}  {result.by}"


if __name__ == "__main__":
    sys.exit(main())

"""Compare the instruction counts of the hot paths with the recorded ones: python -m bench.guard [--update].

For each hot path, valgrind counts the instructions of one instance, independent of other work on the machine. The guard
compares them with the figures in guard.json: more than 15 % above them is a failure. A count does not include sleeps
and waits. So each path runs once more without valgrind, and fails if it takes much longer than its processor time.
Counts depend on the build of Python. So they are scaled by the count of a reference that is independent of dicomport.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from unittest import mock

from bench.data import Stock
from bench.hot_paths import PATHS, HotPath

from dicomport.archive.commit import indexer
from dicomport.files import Disk

_FIGURES: Final = Path(__file__).with_suffix(".json")
_TOLERANCE: Final = 1.15
"""Counts differ by up to 8 % from run to run: the number of bytes per read depends on its time."""
_MAX_WAITING: Final = 2.0
"""Elapsed time divided by processor time. Both ends share one process, so there are few waits."""
_ATTEMPTS: Final = 3
"""The minimum counts: the scheduling of threads differs each time, and other processes use the processor."""
_DIVISOR: Final = 5
"""The guard needs only this fraction of the benchmark's instances."""
_REFERENCE: Final = "reference"
_START: Final = "start of storescu"
"""The instructions from the start of Python to the end of `storescu --help`, with compiled modules."""
_COUNTED: Final = re.compile(r"I\s+refs:\s+([\d,]+)")


def _reference(times: int) -> None:
    """Perform a typical mix of operations: calls, attributes, dictionaries, integers, bytes."""
    table = {str(number): number for number in range(100)}
    total = 0
    for _ in range(1000 * times):
        for key in ("7", "42", "99"):
            total += table[key] + len(key.encode() + b"-")


def _count_inside(stock: Path) -> None:
    """Run each path in two lengths, each in a forked process with all imports done; print the process ids."""
    jobs: dict[tuple[str, int], Callable[[], None]] = {}
    for times in (1, 2):
        jobs[_REFERENCE, times] = functools.partial(_reference, times)
        jobs |= {(path.name, times): path.work(Stock(stock, _DIVISOR), times) for path in PATHS}
    # Only the processor is emulated: treat the disk as fast, and let the index collect as many instances as usual.
    with mock.patch.object(Disk, "is_fast", new=True), mock.patch.object(indexer, "_GATHERING_SECONDS", 1.0):
        for path in PATHS:
            jobs[path.name, 1]()  # Import the late imports for all forked processes.
        for (name, times), job in _ATTEMPTS * list(jobs.items()):
            pid = os.fork()
            if not pid:
                job()
                os._exit(0)
            _, status = os.waitpid(pid, 0)
            if status:
                raise SystemExit(f"{name}: failed")
            print(json.dumps([name, times, pid]), flush=True)


def _counts(stock: Path) -> dict[str, float]:
    """Count the instructions of one instance on each path, and of one round of the reference."""
    with tempfile.TemporaryDirectory() as logs:
        counted = subprocess.run(
            (
                *("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"),
                *(f"--log-file={logs}/%p", sys.executable, "-m", "bench.guard", "--inside", str(stock)),
            ),
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONHASHSEED": "0"},
        )
        totals: dict[str, dict[int, int]] = {}
        for name, times, pid in map(json.loads, counted.stdout.splitlines()):
            found = _COUNTED.search((Path(logs) / str(pid)).read_text(encoding="utf-8"))
            if found is None:
                raise SystemExit(f"{name}: valgrind has counted nothing")
            total = totals.setdefault(name, {})
            count = int(found[1].replace(",", ""))
            total[times] = min(count, total.get(times, count))
    instances = {path.name: path.instances for path in PATHS}
    return {name: (total[2] - total[1]) / instances.get(name, 1) for name, total in totals.items()}


def _start() -> int:
    """Count the instructions of a command's start."""
    command = (sys.executable, "-m", "dicomport", "storescu", "--help")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        subprocess.run(
            (
                *("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"),
                *(f"--log-file={log}", *command),
            ),
            check=True,
            stdout=subprocess.DEVNULL,
            env=environment,
        )
        found = _COUNTED.search(log.read_text(encoding="utf-8"))
    if found is None:
        raise SystemExit(f"{_START}: valgrind has counted nothing")
    return int(found[1].replace(",", ""))


def _waiting(path: HotPath, stock: Stock) -> float:
    """Return the minimum of the elapsed time of a path divided by its processor time."""
    ratios = []
    work = path.work(stock, 1)
    for _ in range(_ATTEMPTS):
        began, spent = time.perf_counter(), time.process_time()
        work()
        ratios.append((time.perf_counter() - began) / (time.process_time() - spent))
    return min(ratios)


def _judge(counts: Mapping[str, float], figures: Mapping[str, float], waiting: Mapping[str, float]) -> bool:
    """Print each path's count beside its recorded figure; return whether all pass."""
    scale = counts[_REFERENCE] / figures[_REFERENCE]
    well = True
    for name in (*(path.name for path in PATHS), _START):
        ratio = counts[name] / figures[name] / scale
        verdicts = [
            *(["more than recorded"] if ratio > _TOLERANCE else []),
            *(["waits"] if waiting.get(name, 0.0) > _MAX_WAITING else []),
        ]
        well = well and not verdicts
        elapsed = f", elapsed by processor time {waiting[name]:4.2f}" if name in waiting else ""
        print(
            f"{name:32} {counts[name]:12,.0f} instructions, {ratio:5.2f} of the figure{elapsed}:"
            f" {', '.join(verdicts) or 'held'}"
        )
    if not well:
        print("If the change justifies its cost, record the new figures: python -m bench.guard --update")
    return well


def main() -> int:
    """Count, compare and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.guard", description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the figures instead of comparing with them")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        _count_inside(options.inside)
        return 0
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is missing (Debian: apt install valgrind)")
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        stock = Stock(Path(folder), _DIVISOR)
        waiting = {path.name: _waiting(path, stock) for path in PATHS}
        counts = _counts(Path(folder)) | {_START: _start()}
    if options.update:
        _FIGURES.write_text(json.dumps({name: round(count) for name, count in counts.items()}, indent=2) + "\n")
        return 0
    return 0 if _judge(counts, json.loads(_FIGURES.read_text(encoding="utf-8")), waiting) else 1


if __name__ == "__main__":
    sys.exit(main())

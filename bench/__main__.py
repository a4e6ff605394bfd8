"""Measure dicomport and its peers alternately and judge the ratios.

    python -m bench                                everything; writes the results to docs/benchmarks
    python -m bench --only small --rounds 3        the lines of the table that contain "small"
    python -m bench --quick                        a twentieth of the work, once, as a test

It installs nothing and lists missing programs. Exits with 1 if a line misses its goal or fails.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.chart import Bar, Panel, draw
from bench.data import Stock
from bench.lines import CHART, LINES, Line, Place, Run
from bench.machine import describe_machine
from bench.processes import FailedError, free_port, serving
from bench.results import Results, Verdict
from bench.table import as_json, as_table, put_into_page
from bench.work import Figures, Server, measure

_DOCS: Final = Path(__file__).parent.parent / "docs"
_QUICK_DIVISOR: Final = 20


class Benchmark:
    """Performs the runs of the lines, alternately."""

    def __init__(self, lines: Sequence[Line], places: dict[Place, Path], stock: Stock) -> None:
        self._lines = lines
        self._places = places
        self._stock = stock
        self.results = Results()

    def round(self, number: int) -> None:
        """Perform each run once, except those that need only one round."""
        for run, once in self._runs():
            if run not in self.results.failures and not (once and number):
                _say(f"round {number + 1}: {run.name} ... ", end="")
                try:
                    figures = self._measure(run)
                except FailedError as error:
                    self.results.failures[run] = str(error)
                    _say(f"failed: {error}")
                else:
                    self.results.figures.setdefault(run, []).append(figures)
                    _say(f"{figures.seconds:.3f} s, {figures.server_cpu:.3f} s of the receiver's CPU")

    def _runs(self) -> Iterator[tuple[Run, bool]]:
        """Return each run once, ours before theirs, and whether it needs only one round."""
        seen: set[Run] = set()
        for line in self._lines:
            if line.missing:
                continue
            for run, once in ((line.ours, False), (line.theirs, line.once)):
                if run is not None and run not in seen:
                    seen.add(run)
                    yield run, once

    def _measure(self, run: Run) -> Figures:
        for data, parts in run.work.folders:
            self._stock.parts(data, parts)
        port = free_port()
        with contextlib.ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._places[Place.MEMORY])))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._places[run.place])))
            command = run.server.command(port, folder)
            pid = stack.enter_context(serving(command, run.server.environment, scratch / "server", port))
            return measure(run.work, Server(pid, port, folder, scratch, run.server.stores), self._stock)


def main() -> int:
    """Measure, print and write."""
    options = _options()
    lines = [line for line in LINES if options.only.lower() in f"{line.work} {line.against}".lower()]
    if options.quick:
        lines = [replace(line, bound=None) for line in lines]
    for missing in sorted({line.missing for line in lines if line.missing}):
        _say(f"missing: {missing}")
    with tempfile.TemporaryDirectory(prefix="dicomport-bench-", dir=options.memory) as stock:
        places = {Place.MEMORY: options.memory, Place.DISK: options.disk}
        benchmark = Benchmark(lines, places, Stock(Path(stock), _QUICK_DIVISOR if options.quick else 1))
        for number in range(1 if options.quick else options.rounds):
            benchmark.round(number)
    results = benchmark.results
    print(as_table(lines, results))
    if not (options.only or options.quick):
        _write(lines, results, options.rounds)
    return 1 if {results.verdict(line) for line in lines} & {Verdict.MISSED, Verdict.FAILED} else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="only the lines that contain this text")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (default: 5)")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the work, once, without judging it")
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm"), help="a folder on tmpfs (default: /dev/shm)")
    parser.add_argument("--disk", type=Path, default=Path("/var/tmp"), help="a folder on a disk (default: /var/tmp)")
    return parser.parse_args()


def _write(lines: Sequence[Line], results: Results, rounds: int) -> None:
    folder = _DOCS / "benchmarks"
    folder.mkdir(exist_ok=True)
    machine = describe_machine()
    about = {"date": datetime.now(UTC).date().isoformat(), "rounds": rounds, "machine": machine}
    table = as_table(lines, results)
    (folder / "run.json").write_text(as_json(lines, results, about), encoding="utf-8")
    (folder / "table.md").write_text(table, encoding="utf-8")
    (folder / "chart.svg").write_text(draw(_panels(results)), encoding="utf-8")
    on = "".join(f"- {name}: {value}\n" for name, value in machine.items())
    chart = "![Instances a second](benchmarks/chart.svg)"
    made = f"Measured on {about['date']}, medians of {rounds} rounds, on:\n\n{on}\n{table}\n{chart}\n"
    put_into_page(_DOCS / "benchmarks.md", made)


def _panels(results: Results) -> list[Panel]:
    panels = []
    for title, bars in CHART:
        shown = [
            Bar(name, statistics.median(figures.rate for figures in results.figures[run]), name.startswith("dicomport"))
            for name, run in bars
            if run in results.figures
        ]
        panels.append(Panel(title, shown))
    return panels


def _say(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

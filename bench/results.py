"""The results of the rounds: medians, ratios and verdicts."""

from __future__ import annotations

import enum
import statistics
from dataclasses import dataclass, field

from bench.lines import Figure, Line, Run
from bench.work import Figures

__all__ = ["Results", "Verdict"]


class Verdict(enum.StrEnum):
    """The verdict on a line."""

    MET = "met"
    MISSED = "missed"
    SHOWN = ""
    """The line has no bound."""
    FAILED = "failed"
    NOT_MEASURED = "not measured"


@dataclass(slots=True)
class Results:
    """The figures of all rounds, by run, or the reason for missing ones."""

    figures: dict[Run, list[Figures]] = field(default_factory=dict)
    failures: dict[Run, str] = field(default_factory=dict)

    def median(self, run: Run, figure: Figure) -> float:
        """Return the median of a figure in its unit."""
        values: list[float] = [getattr(one, figure.field) for one in self.figures[run]]
        return statistics.median(values) * figure.scale

    def measured(self, line: Line) -> float:
        """Return the value that decides a line: the ratio of the medians, or the median of ours."""
        ours = self.median(line.ours, line.figure)
        return ours if line.theirs is None else ours / self.median(line.theirs, line.figure)

    def verdict(self, line: Line) -> Verdict:
        """Judge a line."""
        if self.why_not(line):
            return Verdict.NOT_MEASURED if line.missing else Verdict.FAILED
        if line.bound is None:
            return Verdict.SHOWN
        measured = self.measured(line)
        return Verdict.MET if (measured >= line.bound if line.at_least else measured <= line.bound) else Verdict.MISSED

    def why_not(self, line: Line) -> str:
        """Return the reason why a line has no figures, or ""."""
        if line.missing:
            return f"needs {line.missing}"
        runs = (line.ours,) if line.theirs is None else (line.ours, line.theirs)
        return next((self.failures[run] for run in runs if run in self.failures), "")

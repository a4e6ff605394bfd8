"""The results as a table in Markdown, as JSON, and put into the page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from bench.lines import Figure, Line, Run
from bench.results import Results, Verdict

__all__ = ["as_json", "as_table", "put_into_page"]

_HEADS: Final = ("work", "against", "ours", "theirs", "measured", "asked", "")
_BEGIN: Final = "<!-- what follows is made by python -m bench -->"
_END: Final = "<!-- what was made ends here -->"


def as_table(lines: Iterable[Line], results: Results) -> str:
    """Make the table."""
    rows = [_HEADS, ("---",) * len(_HEADS), *(_row(line, results) for line in lines)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def as_json(lines: Iterable[Line], results: Results, about: dict[str, Any]) -> str:
    """Make a JSON document with each line, and the figures of each round."""
    document = {**about, "lines": [_described(line, results) for line in lines]}
    return json.dumps(document, indent=1) + "\n"


def put_into_page(page: Path, made: str) -> None:
    """Replace the part of a page that is made by this program."""
    before, _, rest = page.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    page.write_text(f"{before}{_BEGIN}\n\n{made}\n{_END}{after}", encoding="utf-8")


def _row(line: Line, results: Results) -> tuple[str, ...]:
    asked = "" if line.bound is None else f"{'at least ' if line.at_least else '≤ '}{line.bound:g}"
    if why_not := results.why_not(line):
        return line.work, line.against, "", "", "", asked, f"{results.verdict(line)}: {why_not}"
    measured = results.measured(line)
    ours = _amount(results.median(line.ours, line.figure), line.figure)
    theirs = "" if line.theirs is None else _amount(results.median(line.theirs, line.figure), line.figure)
    verdict = results.verdict(line)
    return line.work, line.against, ours, theirs, f"**{_short(measured)}**", asked, verdict.value


def _amount(value: float, figure: Figure) -> str:
    return f"{_short(value)} {figure.unit}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _described(line: Line, results: Results) -> dict[str, Any]:
    described: dict[str, Any] = {
        "work": line.work,
        "against": line.against,
        "figure": line.figure.field,
        "bound": line.bound,
        "at_least": line.at_least,
        "verdict": results.verdict(line),
        "why_not": results.why_not(line),
    }
    if results.verdict(line) not in (Verdict.FAILED, Verdict.NOT_MEASURED):
        described["measured"] = results.measured(line)
    for side, run in (("ours", line.ours), ("theirs", line.theirs)):
        if run is not None:
            described[side] = _rounds(run, results)
    return described


def _rounds(run: Run, results: Results) -> dict[str, Any]:
    return {
        "server": run.server.name,
        "work": run.work.name,
        "place": run.place,
        "rounds": [dataclasses.asdict(figures) for figures in results.figures.get(run, ())],
    }

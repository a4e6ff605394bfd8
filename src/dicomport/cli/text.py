"""Text, tables and JSON on stdout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import click

from dicomport.cli.system_errors import writing_output
from dicomport.logs import printable

_PIPED_WIDTH = 160
"""Width of a table without a terminal, columns."""


def amount(size: float) -> str:
    """Return a number of bytes as text: "512 B", "1.4 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: "1 instance", "2 instances"; `plural` is for nouns that need more than an "s"."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or f'{noun}s'}"


def round_trip_times(seconds: Sequence[float]) -> str:
    """Return the durations of C-ECHOs as text."""
    if len(seconds) == 1:
        return f"{seconds[0] * 1000:.1f} ms"
    import statistics

    low, middle, high = (value * 1000 for value in (min(seconds), statistics.median(seconds), max(seconds)))
    return f"{low:.1f} ms minimum, {middle:.1f} ms median, {high:.1f} ms maximum"


def print_json(facts: Mapping[str, object]) -> None:
    """Print a JSON object on one line of stdout. Raises `click.ClickException` if it cannot be written."""
    print_line(json_line(facts))


def json_line(facts: Mapping[str, object]) -> str:
    """Encode a JSON object."""
    import json

    return json.dumps(facts)


def print_line(text: str = "") -> None:
    """Print a line on stdout. Raises `click.ClickException` if it cannot be written."""
    with writing_output():
        click.echo(text)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on stdout; headings that begin with ">" are right-aligned."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold")
    for heading in headings:
        # Folded, not cut: a part of a UID identifies nothing, and the ellipsis is not ASCII.
        side: Literal["left", "right"] = "right" if heading.startswith(">") else "left"
        table.add_column(heading.removeprefix(">"), justify=side, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = Console()
    with writing_output():
        (console if console.is_terminal else Console(width=_PIPED_WIDTH)).print(table)

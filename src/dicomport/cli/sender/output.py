"""Where `storescu` writes the result of each instance: stdout, and the report."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, TextIO

import click

from dicomport.cli.sender.commitment import Commitments, describe
from dicomport.cli.sender.summary import Advance
from dicomport.cli.text import print_message
from dicomport.scu import InstanceResult

__all__ = ["ResultWriter", "outlets"]

_BEGINNING: Final = b'{"path": '
"""Of each report."""


class ResultWriter:
    """Writes each result as a line of JSON; those that wait for storage commitment are held until it is known."""

    def __init__(self, files: Mapping[str, TextIO], *, holds: bool) -> None:
        self.advance: Advance = lambda _: None
        self._files = files
        self._holds = holds
        self._held: list[InstanceResult] = []
        self._errors: dict[str, str] = {}

    def take(self, result: InstanceResult) -> None:
        """Take note of a result."""
        if self._files:
            if self._holds:
                self._held.append(result)
            else:
                self._write(result.describe())
        self.advance(result)

    def give(self, commitments: Commitments) -> None:
        """Write what was held, with what the peer says of it."""
        for result in self._held:
            self._write(describe(result, commitments))
        self._held.clear()

    def complete(self) -> bool:
        """Tell a person where lines are missing; give whether none is."""
        for name, error in self._errors.items():
            print_message(f"{name} is not complete: {error}")
        return not self._errors

    def _write(self, facts: Mapping[str, object]) -> None:
        import json

        line = json.dumps(facts)
        for name, file in self._files.items():
            try:
                click.echo(line, file=file)
            except OSError as error:
                # The instances go on: only what is written of them is lost.
                self._errors[name] = error.strerror or str(error)
                _let_go(file)


def _let_go(file: TextIO) -> None:
    """Let what is written go nowhere from now on, and what is left in the buffer: closing the file would fail on it."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, file.fileno())
    os.close(descriptor)


def _spare(path: Path) -> None:
    """Raise `click.UsageError` for a file that is no earlier report: `--report *.dcm` names an image."""
    if path.is_file():
        with path.open("rb") as file:
            beginning = file.read(len(_BEGINNING))
        if beginning not in (b"", _BEGINNING):
            raise click.UsageError(f"{path} is not written over: it holds something else than a report")


@contextlib.contextmanager
def outlets(report: Path | None, *, as_json: bool, holds: bool) -> Iterator[ResultWriter]:
    """Open what is written to. Raises `click.UsageError` where the report can't be."""
    files = {"the output": sys.stdout} if as_json else {}
    if report is None:
        yield ResultWriter(files, holds=holds)
        return
    try:
        _spare(report)
        file = report.open("w", encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"the report can't be written to {report}: {error.strerror}") from None
    with file:
        yield ResultWriter({**files, f"the report {report}": file}, holds=holds)

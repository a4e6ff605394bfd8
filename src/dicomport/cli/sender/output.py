"""The results of `storescu` as JSON lines, on stdout and in the report."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, TextIO

import click

from dicomport.cli.console import print_message
from dicomport.cli.sender.commitment import CommitmentsByInstance, describe
from dicomport.cli.sender.summary import Advance
from dicomport.cli.system_errors import discard_output
from dicomport.scu import InstanceResult

_BEGINNING: Final = b'{"path": '
"""The first bytes of each report."""


class ResultWriter:
    """Writes each result as a JSON line; with `holds`, not before its storage commitment is known."""

    def __init__(self, files: Mapping[str, TextIO], *, holds: bool) -> None:
        self.advance: Advance = lambda _: None
        self._files = files
        self._holds = holds
        self._held: list[InstanceResult] = []
        self._errors: dict[str, str] = {}

    def add(self, result: InstanceResult) -> None:
        """Write a result, or hold it for its commitment."""
        if self._files:
            if self._holds:
                self._held.append(result)
            else:
                self._write(result.describe())
        self.advance(result)

    def flush(self, commitments: CommitmentsByInstance) -> None:
        """Write the held results with their commitments."""
        for result in self._held:
            self._write(describe(result, commitments))
        self._held.clear()

    def complete(self) -> bool:
        """Print the outputs that are incomplete; return whether all are complete."""
        for name, error in self._errors.items():
            print_message(f"{name} is incomplete: {error}")
        return not self._errors

    def _write(self, facts: Mapping[str, object]) -> None:
        import json

        line = json.dumps(facts)
        for name, file in self._files.items():
            try:
                click.echo(line, file=file)
            except OSError as error:
                # Sending continues without this output.
                self._errors[name] = error.strerror or str(error)
                discard_output(file)


def _check_overwritable(path: Path) -> None:
    """Raise `click.UsageError` for a file other than an earlier report, as in `--report *.dcm`."""
    if path.is_file():
        with path.open("rb") as file:
            beginning = file.read(len(_BEGINNING))
        if beginning not in (b"", _BEGINNING):
            raise click.UsageError(f"--report {path} exists and is not a report: choose another file")


@contextlib.contextmanager
def open_results(report: Path | None, *, as_json: bool, holds: bool) -> Iterator[ResultWriter]:
    """Open the outputs. Raises `click.UsageError` if the report cannot be written."""
    files = {"the output": sys.stdout} if as_json else {}
    if report is None:
        yield ResultWriter(files, holds=holds)
        return
    try:
        _check_overwritable(report)
        file = report.open("w", encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"cannot write --report {report}: {error.strerror}") from None
    with file:
        yield ResultWriter({**files, f"the report {report}": file}, holds=holds)

"""The program: commands, standard streams, errors, interruption, exit codes."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from dicomport import __version__
from dicomport.cli.console import log_to_stderr, set_log_format_of
from dicomport.cli.failures import log_uncaught_exceptions, report_failure
from dicomport.cli.interruption import exit_on_interrupt
from dicomport.cli.options.common import ExitCode
from dicomport.cli.system_errors import discard_output, writing_output

_COMMANDS: Final = ("demo", "storescp", "storescu", "echoscu", "archive", "password")
"""Modules of this package, each with a command of the same name."""


class _Commands(click.Group):
    """Imports a command when it is used, so that the sender does not import the receiver's database."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        with exit_on_interrupt():
            command: Any = getattr(importlib.import_module(f"dicomport.cli.{cmd_name}"), cmd_name)
        # Imported modules are never garbage; without the search, the process ends 20 ms earlier.
        gc.freeze()
        return command if isinstance(command, click.Command) else None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, EOFError):
            # click would write an empty line to stderr, which is not JSON.
            raise click.Abort from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def dicomport() -> None:
    """Send and receive DICOM instances by C-STORE, byte for byte."""


def run(arguments: Sequence[str]) -> NoReturn:
    """Run the command line and exit."""
    try:
        _open_missing_streams()
        log_to_stderr(logging.WARNING)
        log_uncaught_exceptions()
        # A usage error of any option has this format, in any order of the options.
        set_log_format_of(arguments)
        if not sys.warnoptions:
            # Libraries' warnings are for developers, and may quote attribute values.
            warnings.simplefilter("ignore")
        code = dicomport.main(list(arguments), prog_name="dicomport", standalone_mode=False) or ExitCode.OK
        _flush_stdout()
    except BaseException as error:  # noqa: BLE001  # the last place: the interpreter would print a traceback
        code = report_failure(error)
    sys.exit(code)


def _open_missing_streams() -> None:
    """Open the null device for each absent standard stream, as in a program without a console.

    Closed descriptors 0 to 2 are opened too: otherwise, a connection or a file of the archive would get one of these
    numbers, and everything that writes to them.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  # open to the end


def _flush_stdout() -> None:
    """Write the rest of the output. The interpreter, which would do it after this, prints errors as text."""
    try:
        with writing_output():
            sys.stdout.flush()
    except BrokenPipeError:
        discard_output(sys.stdout)

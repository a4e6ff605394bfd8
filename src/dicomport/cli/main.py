"""The entry point: commands, usage errors, interruption, exit codes."""

from __future__ import annotations

import gc
import importlib
import sys
import warnings
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click

from dicomport import __version__
from dicomport.cli.console import show_error
from dicomport.cli.options.common import ExitCode

_COMMANDS: Final = ("demo", "storescp", "storescu", "echoscu", "archive", "password")
"""Modules of this package, each with a command of the same name."""


class _Commands(click.Group):
    """Imports a command when it is used, so that the sender does not import the receiver's database."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: Any = getattr(importlib.import_module(f"dicomport.cli.{cmd_name}"), cmd_name)
        # Imported modules are never garbage; without the search, the process ends 20 ms earlier.
        gc.freeze()
        return command if isinstance(command, click.Command) else None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def dicomport() -> None:
    """Send and receive DICOM instances by C-STORE, byte for byte."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    if not sys.warnoptions:
        # Libraries' warnings are for developers, and may quote attribute values.
        warnings.simplefilter("ignore")
    try:
        code = dicomport.main(arguments, prog_name="dicomport", standalone_mode=False)
    except click.ClickException as error:
        show_error(error)
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("interrupted", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    sys.exit(code or ExitCode.OK)

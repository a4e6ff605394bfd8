"""The entry point, and what all commands do alike: usage errors, interruption, exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from dicomport.cli.demo import demo
from dicomport.cli.echoscu import echoscu
from dicomport.cli.options import ExitCode
from dicomport.cli.storescp import storescp
from dicomport.cli.storescu import storescu

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dicomport", message="%(prog)s %(version)s")
def dicomport() -> None:
    """Send and receive DICOM instances by C-STORE, byte for byte."""


for command in (demo, storescp, storescu, echoscu):
    dicomport.add_command(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    try:
        code = dicomport.main(arguments, prog_name="dicomport", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("interrupted", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    sys.exit(code or ExitCode.OK)

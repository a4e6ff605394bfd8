"""`dicomport password`: lines for the file of `storescp --passwords`."""

from __future__ import annotations

import sys

import click

from dicomport.cli.options.common import ExitCode, log_format_option
from dicomport.scp import hash_password

__all__ = ["password"]


@click.command()
@click.argument("name")
@log_format_option
def password(*, name: str) -> int:
    """Hash a pass phrase for the user NAME, and print the line for the file of storescp's --passwords.

    The pass phrase is asked for on a terminal; otherwise it is the first line of stdin.
    """
    if sys.stdin.isatty():
        pass_phrase = click.prompt("Pass phrase", hide_input=True, confirmation_prompt=True, err=True)
    else:
        pass_phrase = sys.stdin.readline().rstrip("\r\n")
    if not pass_phrase:
        raise click.UsageError("there is no pass phrase on stdin")
    try:
        click.echo(hash_password(name, pass_phrase))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return ExitCode.OK

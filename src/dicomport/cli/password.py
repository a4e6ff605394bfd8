"""`dicomport password`: lines for the file of `storescp --passwords`."""

from __future__ import annotations

import sys

import click

from dicomport.cli.options.common import ExitCode, log_format_option
from dicomport.cli.text import print_line
from dicomport.scp import hash_password


@click.command(short_help="Print a user's line for `storescp --passwords`.")
@click.argument("name")
@log_format_option
def password(*, name: str) -> int:
    """Print the line for user NAME in the file of `storescp --passwords`.

    The password is read from the terminal, or from the first line of stdin.
    """
    if sys.stdin.isatty():
        text = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        text = sys.stdin.readline().rstrip("\r\n")
    if not text:
        raise click.UsageError("stdin is empty; expected the password in its first line")
    try:
        print_line(hash_password(name, text))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return ExitCode.OK

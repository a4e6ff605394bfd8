"""Options that several commands share, under the names that DCMTK's and pynetdicom's tools taught everyone."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import click

from dicomport.cli.console import LogFormat, log_to_stderr, set_log_format
from dicomport.core import DEFAULT_MAXIMUM_LENGTH
from dicomport.standard import check_ae_title

__all__ = [
    "ExitCode",
    "ae_title_option",
    "called_ae_title_option",
    "configure_logging",
    "json_option",
    "log_format_option",
    "maximum_length_option",
    "verbosity_options",
]

Command = TypeVar("Command", bound=Callable[..., Any])


class ExitCode(enum.IntEnum):
    """What a command's exit says."""

    OK = 0
    """Everything that was asked for was done."""
    FAILED = 1
    """Something was not."""
    USAGE = 2
    """The command line was wrong."""
    NO_ASSOCIATION = 3
    """No association could be had."""
    INTERRUPTED = 130
    """Ctrl-C."""


class _AETitle(click.ParamType[str]):
    name = "title"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_ae_title(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


AE_TITLE = _AETitle()

ae_title_option = click.option(
    "-aet", "--ae-title", type=AE_TITLE, default="DICOMPORT", show_default=True, help="Our own AE title."
)
called_ae_title_option = click.option(
    "-aec", "--called-ae-title", type=AE_TITLE, default="ANY-SCP", show_default=True, help="The peer's AE title."
)
maximum_length_option = click.option(
    "-pdu",
    "--max-pdu",
    "maximum_length",
    type=click.IntRange(0, 0xFFFFFFFF),
    default=DEFAULT_MAXIMUM_LENGTH,
    show_default=True,
    help="Longest P-DATA PDU that we announce to take, bytes; 0 is no limit.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object per line on stdout; text for people goes to stderr."
)


def _set_log_format(_context: click.Context, _parameter: click.Parameter, value: LogFormat) -> None:
    set_log_format(value)


log_format_option = click.option(
    "--log-format",
    type=click.Choice(LogFormat, case_sensitive=False),
    default=LogFormat.TEXT,
    show_default=LogFormat.TEXT.value,
    expose_value=False,
    # Before all others: what is wrong with them is told in this format.
    is_eager=True,
    callback=_set_log_format,
    help="How stderr is written: lines for people, or one JSON object per line.",
)


def verbosity_options(command: Command) -> Command:
    """Add --log-format, and -q, -v and -d, the parameter `log_level`."""
    command = log_format_option(command)
    for short, long, level, help_text in (
        ("-d", "--debug", logging.DEBUG, "Log all there is to log."),
        ("-v", "--verbose", logging.INFO, "Log each association and each instance."),
        ("-q", "--quiet", logging.ERROR, "Say nothing but errors."),
    ):
        option = click.option(short, long, "log_level", flag_value=level, type=int, default=None, help=help_text)
        command = option(command)
    return command


def configure_logging(level: int | None) -> bool:
    """Send the library's log to stderr; give whether a person wants to be told more than errors."""
    log_to_stderr(logging.WARNING if level is None else level)
    return level != logging.ERROR

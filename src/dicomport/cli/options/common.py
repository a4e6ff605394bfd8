"""Options that several commands share; their names are those of DCMTK's and pynetdicom's tools."""

from __future__ import annotations

import enum
import functools
import logging
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from dicomport.cli.console import LOG_FORMAT, LogFormat, log_to_stderr, set_log_format
from dicomport.core import DEFAULT_MAXIMUM_LENGTH
from dicomport.standard import check_ae_title

Command = TypeVar("Command", bound=Callable[..., Any])


def with_options(command: Command, options: Sequence[Callable[[Any], Any]]) -> Command:
    """Return the command with these options; its help lists them in this order."""
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), command)


class ExitCode(enum.IntEnum):
    """Exit codes of the commands."""

    OK = 0
    """The command succeeded."""
    FAILED = 1
    """A part of the command failed."""
    USAGE = 2
    """The command line is invalid."""
    NO_ASSOCIATION = 3
    """No association was established."""
    INTERRUPTED = 130
    """The user pressed Ctrl-C."""


class PathType(click.Path):
    """A path as a `Path`. An empty text, such as that of a shell's unset variable, is not the working directory."""

    def __init__(self, **checks: bool) -> None:
        super().__init__(path_type=Path, **checks)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises `click.BadParameter`."""
        if value == "":
            self.fail("the path is empty; expected a file or a folder", param, ctx)
        return super().convert(value, param, ctx)


class TextFile(click.File):
    """A text file that is open for reading; - is stdin."""

    def __init__(self) -> None:
        super().__init__(encoding="utf-8")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the open file. Raises `click.BadParameter`."""
        if value == "":
            self.fail("the path is empty; expected a file", param, ctx)
        return super().convert(value, param, ctx)


class _AETitle(click.ParamType[str]):
    name = "title"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_ae_title(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


AE_TITLE = _AETitle()


class _Number(click.ParamType[float]):
    """A number within limits; the help shows the limits instead of the type's name."""

    def __init__(self, low: float, high: float | None, *, whole: bool) -> None:
        self._low = low
        self._high = high
        self._whole = whole
        self.name = f"{low:g}.." if high is None else f"{low:g}..{high:.10g}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = int(value) if self._whole else float(value)
        except (ValueError, OverflowError):
            number = math.nan
        # Comparisons with NaN are false.
        if self._low <= number and (self._high is None or number <= self._high) and number != math.inf:
            return number
        kind = "a whole number" if self._whole else "a number"
        limits = f"of {self._low:g} or more" if self._high is None else f"from {self._low:g} to {self._high:.10g}"
        return self.fail(f"{value!r} is invalid; expected {kind} {limits}", param, ctx)


def whole_number(low: int, high: int | None = None) -> click.ParamType[float]:
    """Return the type of a whole number from `low` to `high`, without a limit for None."""
    return _Number(low, high, whole=True)


def decimal_number(low: float, high: float | None = None) -> click.ParamType[float]:
    """Return the type of a number from `low` to `high`, without a limit for None."""
    return _Number(low, high, whole=False)


_UNITS: Final = {
    "": 1,
    **{unit: 1000**power for power, unit in enumerate("kmgt", 1)},
    **{f"{unit}i": 1024**power for power, unit in enumerate("kmgt", 1)},
}
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?)\s*([kmgt]i?|)b?", re.ASCII)


class _Size(click.ParamType[int]):
    name = "size"

    def __init__(self, low: int) -> None:
        self._low = low

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = _SIZE.fullmatch(str(value).strip().lower())
        from decimal import Decimal

        size = -1 if match is None else int(Decimal(match[1]) * _UNITS[match[2]])
        if size < self._low:
            limit = f", {self._low} or more" if self._low else ""
            self.fail(
                f"{value!r} is not a valid size; expected a number of bytes such as 500M, 2G or 1GiB{limit}", param, ctx
            )
        return size


SIZE: Final = _Size(0)
"""A number of bytes, such as 500M, 2G or 1GiB; k, M, G and T stand for powers of 1000, Ki to Ti for powers of 1024."""

POSITIVE_SIZE: Final = _Size(1)
"""A number of bytes, 1 or more."""

ae_title_option = click.option(
    "-aet", "--ae-title", type=AE_TITLE, default="DICOMPORT", show_default=True, help="Local AE title."
)
called_ae_title_option = click.option(
    "-aec", "--called-ae-title", type=AE_TITLE, default="ANY-SCP", show_default=True, help="The peer's AE title."
)
maximum_length_option = click.option(
    "-pdu",
    "--max-pdu",
    "maximum_length",
    type=whole_number(0, 0xFFFFFFFF),
    default=DEFAULT_MAXIMUM_LENGTH,
    show_default=True,
    help="Maximum length of a received P-DATA PDU to announce, in bytes; 0 for no limit.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object per line on stdout; messages are written to stderr."
)


def no_archive(root: Path) -> click.ClickException:
    """Return the error for a folder that is not an archive."""
    return click.ClickException(f"no archive in {root}: choose its folder with --archive")


def archive_option(help_text: str) -> Callable[[Command], Command]:
    """Return the option --archive, the parameter `root`."""
    return click.option(
        "-od",
        "--output-directory",
        "--archive",
        "root",
        type=PathType(file_okay=False),
        default=Path("archive"),
        show_default=True,
        help=help_text,
    )


_LOG_FORMAT: Final = "dicomport.log_format"


def _set_log_format(context: click.Context, _parameter: click.Parameter, value: LogFormat) -> None:
    context.meta[_LOG_FORMAT] = value
    set_log_format(value)


def requested_log_format(context: click.Context) -> object:
    """Return the value of --log-format."""
    return context.meta.get(_LOG_FORMAT)


log_format_option = click.option(
    LOG_FORMAT,
    type=click.Choice(LogFormat, case_sensitive=False),
    default=LogFormat.TEXT,
    show_default=LogFormat.TEXT.value,
    expose_value=False,
    # Evaluated first: errors of the other options use this format.
    is_eager=True,
    callback=_set_log_format,
    help="Format of stderr: text, or one JSON object per line.",
)


def verbosity_options(command: Command) -> Command:
    """Add --log-format, and -q, -v and -d, the parameter `log_level`."""
    levels = (
        ("-q", "--quiet", logging.ERROR, "Log errors only."),
        ("-v", "--verbose", logging.INFO, "Log each association and each instance."),
        ("-d", "--debug", logging.DEBUG, "Log every PDU and every step."),
    )
    options = [
        click.option(short, long, "log_level", flag_value=level, type=int, default=None, help=help_text)
        for short, long, level, help_text in levels
    ]
    return with_options(command, [*options, log_format_option])


def configure_logging(level: int | None) -> bool:
    """Send the library's log to stderr; return whether messages other than errors are wanted."""
    log_to_stderr(logging.WARNING if level is None else level)
    return level != logging.ERROR

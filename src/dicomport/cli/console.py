"""What goes to stderr: the log and what people are told, all of it in one format."""

from __future__ import annotations

import enum
import logging
import sys
from typing import Any, Final, TextIO

import click

from dicomport.logs import JsonFormatter, TextFormatter, printable

__all__ = ["LogFormat", "log_to_stderr", "print_message", "set_log_format", "show_error"]


class LogFormat(enum.StrEnum):
    """How lines on stderr are written."""

    TEXT = "text"
    JSON = "json"


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at the moment."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, stream: Any) -> None:
        """Ignore the one that the base class has looked up."""


_FORMATTERS: Final = {LogFormat.TEXT: TextFormatter(), LogFormat.JSON: JsonFormatter()}

_handler: Final = _Handler()
_handler.setFormatter(_FORMATTERS[LogFormat.TEXT])


def set_log_format(log_format: LogFormat) -> None:
    """Write all lines in this format from now on."""
    _handler.setFormatter(_FORMATTERS[log_format])


def log_to_stderr(level: int) -> None:
    """Log what is of this level or above."""
    # asyncio reports exceptions that nobody has waited for.
    for name in ("dicomport", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers = [_handler]
        logger.propagate = False
    logging.getLogger("dicomport").setLevel(level)


def print_message(*lines: str) -> None:
    """Tell a person something; what a peer or a file name may have put in makes no line and can't move the terminal."""
    if _handler.formatter is _FORMATTERS[LogFormat.JSON]:
        _tell_in_json("\n".join(lines), logging.INFO)
    else:
        click.echo("\n".join(map(printable, lines)), err=True)


def show_error(error: click.ClickException) -> None:
    """Tell a person what was wrong with a command."""
    if _handler.formatter is _FORMATTERS[LogFormat.JSON]:
        _tell_in_json(error.format_message(), logging.ERROR)
    else:
        error.show()


def _tell_in_json(text: str, level: int) -> None:
    fields = {"event": "message", "text": text}
    _handler.handle(
        logging.makeLogRecord(
            {"name": "dicomport.cli", "levelno": level, "levelname": logging.getLevelName(level), "fields": fields}
        )
    )

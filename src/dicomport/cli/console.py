"""stderr: the log and the messages, all in one format."""

from __future__ import annotations

import enum
import logging
import sys
from typing import Any, Final, TextIO

import click

from dicomport.logs import JsonFormatter, TextFormatter, printable


class LogFormat(enum.StrEnum):
    """Format of stderr."""

    TEXT = "text"
    JSON = "json"


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to the present `sys.stderr`."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, stream: Any) -> None:
        """Ignore the stream that the base class sets."""


_FORMATTERS: Final = {LogFormat.TEXT: TextFormatter(), LogFormat.JSON: JsonFormatter()}

_handler: Final = _Handler()
_handler.setFormatter(_FORMATTERS[LogFormat.TEXT])


def set_log_format(log_format: LogFormat) -> None:
    """Set the format of all further lines."""
    _handler.setFormatter(_FORMATTERS[log_format])


def log_to_stderr(level: int) -> None:
    """Log events of this level and above."""
    # asyncio logs exceptions that no task retrieved.
    for name in ("dicomport", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers = [_handler]
        logger.propagate = False
    logging.getLogger("dicomport").setLevel(level)


def print_message(*lines: str) -> None:
    """Write lines to stderr; control characters of peers' texts and file names are escaped."""
    if _handler.formatter is _FORMATTERS[LogFormat.JSON]:
        _write_json("\n".join(lines), logging.INFO)
    else:
        click.echo("\n".join(map(printable, lines)), err=True)


def show_error(error: click.ClickException) -> None:
    """Write a command's error to stderr."""
    if _handler.formatter is _FORMATTERS[LogFormat.JSON]:
        _write_json(error.format_message(), logging.ERROR)
    else:
        error.show()


def _write_json(text: str, level: int) -> None:
    fields = {"event": "message", "text": text}
    _handler.handle(
        logging.makeLogRecord(
            {"name": "dicomport.cli", "levelno": level, "levelname": logging.getLevelName(level), "fields": fields}
        )
    )

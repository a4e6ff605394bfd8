"""stderr: the log and the messages, all in one format."""

from __future__ import annotations

import contextlib
import contextvars
import enum
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final, TextIO

import click

from dicomport.logs import JsonFormatter, TextFormatter, printable

LOG_FORMAT: Final = "--log-format"
"""The option of the format."""


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

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; of other libraries' records without their text, which may quote attribute values."""
        if not hasattr(record, "fields") and record.name != "asyncio":
            place = f"{record.pathname}:{record.lineno} {record.funcName}"
            record = _copy_with(record, {"event": "library_log", "library": record.name, "at": place})
        return super().format(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the name of the base class
        """Drop a line that cannot be written: the base class would print a traceback with its text."""


_FORMATTERS: Final = {LogFormat.TEXT: TextFormatter(), LogFormat.JSON: JsonFormatter()}

_handler: Final = _Handler()
_handler.setFormatter(_FORMATTERS[LogFormat.TEXT])


_frozen: Final = contextvars.ContextVar("frozen log format", default=False)


def set_log_format(log_format: LogFormat) -> None:
    """Set the format of all further lines."""
    if not _frozen.get():
        _handler.setFormatter(_FORMATTERS[log_format])


def set_log_format_of(arguments: Sequence[str]) -> None:
    """Set the format that a command line contains, before its options are parsed."""
    for name, value in zip(arguments, (*arguments[1:], ""), strict=True):
        text = value if name == LOG_FORMAT else name.removeprefix(f"{LOG_FORMAT}=")
        if name.startswith(LOG_FORMAT) and text.lower() in list(LogFormat):
            set_log_format(LogFormat(text.lower()))


@contextlib.contextmanager
def frozen_log_format() -> Iterator[None]:
    """Ignore changes of the format by this thread: other threads write lines meanwhile."""
    token = _frozen.set(True)
    try:
        yield
    finally:
        _frozen.reset(token)


def is_json() -> bool:
    """Return whether stderr has one JSON object per line."""
    return _handler.formatter is _FORMATTERS[LogFormat.JSON]


def shows_progress() -> bool:
    """Return whether stderr is a terminal that shows text, and so a progress bar."""
    return sys.stderr.isatty() and not is_json()


def log_to_stderr(level: int) -> None:
    """Log dicomport's events of this level and above, and the warnings and errors of all libraries."""
    logging.getLogger().handlers = [_handler]
    logging.getLogger("dicomport").setLevel(level)
    logging.captureWarnings(capture=True)


def print_message(*lines: str) -> None:
    """Write lines to stderr; control characters of peers' texts and file names are escaped."""
    if is_json():
        _write_json("\n".join(lines), logging.INFO)
    else:
        click.echo("\n".join(map(printable, lines)), err=True)


def show_error(error: click.ClickException) -> None:
    """Write a command's error to stderr."""
    if is_json():
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


def _copy_with(record: logging.LogRecord, fields: dict[str, object]) -> logging.LogRecord:
    return logging.makeLogRecord({**record.__dict__, "fields": fields})

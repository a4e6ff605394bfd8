"""The library's log: structlog's events over the standard library's loggers, silent until logging is configured.

What goes in: names of events, UIDs, AE titles, addresses, figures, and peers' words about the protocol. What never goes
in: values of a data set's attributes, and secrets. An exception that is logged is in its record, and may quote
anything: `TextFormatter` and `JsonFormatter` give its type and where it was raised, not its text.
"""

from __future__ import annotations

import logging
import re
import time
import traceback
from collections.abc import Iterator, Mapping, MutableMapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import structlog

__all__ = ["JsonFormatter", "Logger", "TextFormatter", "get_logger", "printable", "reason_of"]

_LONGEST: Final = 400
"""Characters of a value: a peer may name 64 KiB where it names a UID."""

_MOST: Final = 40
"""Entries of a value that has several: an association has up to 128 contexts."""

_FRAMES: Final = 12
"""Innermost places that are named for an exception."""

_PLAIN: Final = re.compile(r"[!#-&(-<>-\[\]-~]+")
"""A value that needs no quotes: printable ASCII without space, quotes, equals sign and backslash."""

logging.getLogger("dicomport").addHandler(logging.NullHandler())


class Logger:
    """Logs events with fields, those that are bound with each; a record's message has all of it in text.

    The logger is structlog's, but imported with the first event that anybody wants to see: that takes longer than to
    send an instance.
    """

    def __init__(self, name: str, fields: dict[str, object]) -> None:
        self._logger = logging.getLogger(name)
        self._fields = fields
        self._structlog: structlog.stdlib.BoundLogger | None = None

    def bind(self, **fields: object) -> Logger:
        """Give a logger that has these fields too."""
        return Logger(self._logger.name, self._fields | fields)

    def wants(self, level: int) -> bool:
        """Whether anybody wants to see events of a level of the standard library's."""
        return self._logger.isEnabledFor(level)

    def prepare(self) -> None:
        """Import the logger now: once the process is out of file descriptors it can't be, and that is to be logged."""
        if self._structlog is None:
            self._structlog = _structlog(self._logger, self._fields)

    def log(self, level: int, event: str, **fields: object) -> None:
        """Log an event at a level of the standard library's."""
        if self._logger.isEnabledFor(level):
            if self._structlog is None:
                self._structlog = _structlog(self._logger, self._fields)
            self._structlog.log(level, event, **fields)

    def debug(self, event: str, **fields: object) -> None:
        """Log what only whoever looks for a fault wants to know."""
        self.log(logging.DEBUG, event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """Log what goes as it should."""
        self.log(logging.INFO, event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log what a peer gets wrong, or what it is refused."""
        self.log(logging.WARNING, event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """Log what goes wrong here; `exc_info` may be an exception, which goes into the record."""
        self.log(logging.ERROR, event, **fields)

    def exception(self, event: str, **fields: object) -> None:
        """Log what goes wrong here, with the exception that is being handled in the record."""
        self.log(logging.ERROR, event, exc_info=True, **fields)


def get_logger(room: str) -> Logger:
    """Give the logger of a room: "dicomport.net" and so on."""
    return Logger(f"dicomport.{room}", {})


def printable(text: str) -> str:
    """Make text of a peer's safe to print: what is no printable ASCII is escaped."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def reason_of(error: OSError) -> str:
    """Say what the system says, without the file's name: a layout may put there what identifies a patient."""
    return error.strerror or type(error).__name__


class TextFormatter(logging.Formatter):
    """One line for each record: time (UTC, ISO 8601), level, event, fields as key=value, quoted where need be."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the line."""
        return f"{_time(record)} {record.levelname} {_text(_fields(record))}"


class JsonFormatter(logging.Formatter):
    """One JSON object on one line for each record: timestamp (UTC, ISO 8601), level, logger, event, and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the line, in ASCII."""
        import json  # noqa: PLC0415  # seldom needed

        head = {"timestamp": _time(record), "level": record.levelname.lower(), "logger": record.name}
        return json.dumps(head | _fields(record), default=str)


def _time(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.created % 1 * 1000):03}Z"


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """Give event and fields; of other libraries' records, the first line at most: the others quote what they handle."""
    fields: dict[str, object] | None = getattr(record, "fields", None)
    if fields is None:
        fields = {"event": "logged", "text": _bounded(record.getMessage().partition("\n")[0])}
    if record.exc_info and record.exc_info[1] is not None:
        fields = fields | {"error": type(record.exc_info[1]).__name__, "at": _places(record.exc_info[1])}
    return fields


def _places(error: BaseException) -> str:
    """Say where an exception was raised, innermost first, and what it came from; never what it says."""
    places: list[str] = []
    following: BaseException | None = error
    while following is not None and len(places) < _FRAMES:
        if places:
            places.append(f"from {type(following).__name__}")
        frames = reversed(traceback.extract_tb(following.__traceback__, -_FRAMES))
        places += (f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)
    return ", ".join(places[: 2 * _FRAMES])


def _structlog(logger: logging.Logger, fields: dict[str, object]) -> structlog.stdlib.BoundLogger:
    import structlog  # noqa: PLC0415  # see Logger

    bound: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logger, wrapper_class=structlog.stdlib.BoundLogger, processors=[_render]
    )
    return bound.bind(**fields)


def _render(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> tuple[tuple[str], dict[str, Any]]:
    exception = event.pop("exc_info", None)
    name = event.pop("event")
    fields = {"event": name} | {key: _bounded(value) for key, value in event.items()}
    return (_text(fields),), {"exc_info": exception, "extra": {"fields": fields}}


def _text(fields: Mapping[str, object]) -> str:
    def parts() -> Iterator[str]:
        for key, value in fields.items():
            if key == "event":
                yield str(value)
            elif value not in ("", {}, [], None):
                yield f"{key}={_quoted(_told(value))}"

    return " ".join(parts())


def _told(value: object) -> str:
    match value:
        case Mapping():
            return ", ".join(f"{key}: {of}" for key, of in value.items())
        case list():
            return "; ".join(map(str, value))
    return str(value)


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    import json  # noqa: PLC0415  # seldom needed

    # JSON's quotes, in ASCII: what is in them can neither end the line nor look like another field.
    return json.dumps(text)


def _bounded(value: object) -> object:
    """Bound what a peer may make a line hold."""
    match value:
        case str() if len(value) > _LONGEST:
            return f"{value[:_LONGEST]}... ({len(value)} characters)"
        case Mapping() if len(value) > _MOST:
            few = {_bounded(key): _bounded(of) for key, of in islice(value.items(), _MOST)}
            return few | {"...": f"{len(value) - _MOST} more"}
        case Mapping():
            return {_bounded(key): _bounded(of) for key, of in value.items()}
        case list() | tuple() if len(value) > _MOST:
            return [*map(_bounded, value[:_MOST]), f"... {len(value) - _MOST} more"]
        case list() | tuple():
            return [*map(_bounded, value)]
    return value

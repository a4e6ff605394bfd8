"""The library's log: events with fields over the standard library's loggers, silent until logging is configured.

An event has names of events, UIDs, AE titles, addresses, numbers, and text of the peer about the protocol. It never has
values of a data set's attributes, or secrets. An exception is kept in its record with its text, which may quote
anything; `TextFormatter` and `JsonFormatter` write its type and where it was raised.

A field has one type in all events, and is absent where its value is unknown (docs/logging.md).
"""

from __future__ import annotations

import logging
import re
import time
import traceback
from collections.abc import Iterator, Mapping, MutableMapping
from itertools import islice
from typing import Any, Final

_MAX_CHARACTERS: Final = 400
"""Length of a value: a peer may send 64 KiB as a UID."""

_MAX_ENTRIES: Final = 40
"""Entries of a list or dictionary: an association has up to 128 contexts."""

_MAX_FRAMES: Final = 12
"""Innermost frames that are logged for an exception."""

_PLAIN: Final = re.compile(r"[!#-&(-<>-\[\]-~]+")
"""A value that needs no quotes: printable ASCII without space, quotes, equals sign and backslash."""

logging.getLogger("dicomport").addHandler(logging.NullHandler())


class Logger(logging.LoggerAdapter[logging.Logger]):
    """Logs events, as `log.info("instance_stored", size=1)`: the record has them, its message shows them."""

    def bind(self, **fields: object) -> Logger:
        """Return a logger that adds these fields to each event."""
        return Logger(self.logger, {**(self.extra or {}), **fields})

    def with_peer(self, address: str) -> Logger:
        """Return a logger that adds `address` and `port`, given as "192.0.2.7:104" or "[2001:db8::7]:104"."""
        host, _, port = address.rpartition(":")
        return self.bind(address=host.strip("[]"), port=int(port))

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[str, MutableMapping[str, Any]]:
        """Convert an event and its fields to the arguments of `logging.Logger.log`."""
        exc_info = kwargs.pop("exc_info", None)
        given = {**(self.extra or {}), **kwargs}
        fields = {"event": msg} | {name: _bounded(value) for name, value in given.items() if value is not None}
        return _text(fields), {"exc_info": exc_info, "extra": {"fields": fields}}


def get_logger(room: str) -> Logger:
    """Return the logger of a room, such as "dicomport.net"."""
    return Logger(logging.getLogger(f"dicomport.{room}"), {})


def prepare() -> None:
    """Import everything that logging needs: no import succeeds once the process is out of file descriptors."""
    import json  # noqa: F401  # only for quoted values and JSON lines


def printable(text: str) -> str:
    """Return a peer's text with all characters escaped that are not printable ASCII."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def reason_of(error: OSError) -> str:
    """Return the system's message without the file's name, which may identify a patient in some layouts."""
    return error.strerror or type(error).__name__


class TextFormatter(logging.Formatter):
    """One line for each record: time (UTC, ISO 8601), level, event, fields as key=value, quoted if necessary."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return f"{_time(record)} {record.levelname} {_text(_fields(record))}"


class JsonFormatter(logging.Formatter):
    """One JSON object on one line for each record: timestamp (UTC, ISO 8601), level, logger, event, and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, in ASCII."""
        import json

        head = {"timestamp": _time(record), "level": record.levelname.lower(), "logger": record.name}
        return json.dumps(head | _fields(record), default=str)


def _time(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.created % 1 * 1000):03}Z"


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """Return event and fields; of other libraries' records, only the first line: later lines may quote their input."""
    fields: dict[str, object] | None = getattr(record, "fields", None)
    if fields is None:
        fields = {"event": "library_log", "text": _bounded(record.getMessage().partition("\n")[0])}
    if record.exc_info and record.exc_info[1] is not None:
        fields = fields | {"error": type(record.exc_info[1]).__name__, "at": _places(record.exc_info[1])}
    return fields


def _places(error: BaseException) -> str:
    """Return where an exception and its causes were raised, innermost first, without their text."""
    places: list[str] = []
    current: BaseException | None = error
    while current is not None and len(places) < _MAX_FRAMES:
        if places:
            places.append(f"from {type(current).__name__}")
        frames = reversed(traceback.extract_tb(current.__traceback__, -_MAX_FRAMES))
        places += (f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return ", ".join(places[: 2 * _MAX_FRAMES])


def _text(fields: Mapping[str, object]) -> str:
    def parts() -> Iterator[str]:
        for key, value in fields.items():
            if key == "event":
                yield str(value)
            elif value not in ("", {}, []):
                yield f"{key}={_quoted(_flat(value))}"

    return " ".join(parts())


def _flat(value: object) -> str:
    match value:
        case Mapping():
            return ", ".join(f"{key}: {of}" for key, of in value.items())
        case list():
            return "; ".join(map(str, value))
    return str(value)


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    import json

    # Quoted as in JSON, in ASCII: the value can neither end the line nor look like another field.
    return json.dumps(text)


def _bounded(value: object) -> object:
    """Return a value cut to the maximum length, as a peer may choose its length."""
    match value:
        case str() if len(value) > _MAX_CHARACTERS:
            return f"{value[:_MAX_CHARACTERS]}... ({len(value)} characters)"
        case Mapping() if len(value) > _MAX_ENTRIES:
            few = {_bounded(key): _bounded(of) for key, of in islice(value.items(), _MAX_ENTRIES)}
            return few | {"...": f"{len(value) - _MAX_ENTRIES} more"}
        case Mapping():
            return {_bounded(key): _bounded(of) for key, of in value.items()}
        case list() | tuple() if len(value) > _MAX_ENTRIES:
            return [*map(_bounded, value[:_MAX_ENTRIES]), f"... {len(value) - _MAX_ENTRIES} more"]
        case list() | tuple():
            return [*map(_bounded, value)]
    return value

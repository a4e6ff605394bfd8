"""The library's log: structlog's events over the standard library's loggers, silent until logging is configured."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import structlog

__all__ = ["Logger", "get_logger", "printable"]

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

    def info(self, event: str, **fields: object) -> None:
        """Log what goes as it should."""
        self.log(logging.INFO, event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log what a peer gets wrong, or what it is refused."""
        self.log(logging.WARNING, event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """Log what goes wrong here; `exc_info` may be an exception, whose traceback is logged too."""
        self.log(logging.ERROR, event, **fields)

    def exception(self, event: str, **fields: object) -> None:
        """Log what goes wrong here, with the traceback of the exception that is being handled."""
        self.log(logging.ERROR, event, exc_info=True, **fields)


def get_logger(room: str) -> Logger:
    """Give the logger of a room: "dicomport.net" and so on."""
    return Logger(f"dicomport.{room}", {})


def printable(text: str) -> str:
    """Make text of a peer's safe to print: what is no printable ASCII is escaped."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def _structlog(logger: logging.Logger, fields: dict[str, object]) -> structlog.stdlib.BoundLogger:
    import structlog  # noqa: PLC0415  # see Logger

    bound: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logger, wrapper_class=structlog.stdlib.BoundLogger, processors=[_render]
    )
    return bound.bind(**fields)


def _render(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> tuple[tuple[str], dict[str, Any]]:
    exception = event.pop("exc_info", None)
    name = event.pop("event")
    fields = " ".join(f"{key}={_value(value)}" for key, value in event.items() if value not in ("", {}))
    return (f"{name} {fields}".rstrip(),), {"exc_info": exception, "extra": {"fields": {"event": name, **event}}}


def _value(value: object) -> str:
    text = printable(str(value))
    return f'"{text}"' if " " in text else text

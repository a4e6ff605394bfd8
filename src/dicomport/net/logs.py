"""The library's log: structlog's events over the standard library's loggers, silent until logging is configured."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

import structlog

__all__ = ["get_logger", "printable"]

logging.getLogger("dicomport").addHandler(logging.NullHandler())


def get_logger(room: str) -> structlog.stdlib.BoundLogger:
    """Give the logger of a room: "dicomport.net" and so on.

    A record's message is the event and its fields in text; the fields as they are stand in its `fields`.
    """
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(f"dicomport.{room}"),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[structlog.stdlib.filter_by_level, _render],
    )
    return logger


def printable(text: str) -> str:
    """Make text of a peer's safe to print: what is no printable ASCII is escaped."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def _render(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> tuple[tuple[str], dict[str, Any]]:
    exception = event.pop("exc_info", None)
    name = event.pop("event")
    fields = " ".join(f"{key}={_value(value)}" for key, value in event.items() if value not in ("", {}))
    return (f"{name} {fields}".rstrip(),), {"exc_info": exception, "extra": {"fields": {"event": name, **event}}}


def _value(value: object) -> str:
    text = printable(str(value))
    return f'"{text}"' if " " in text else text

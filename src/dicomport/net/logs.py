"""The library's log: structlog's events over the standard library's loggers, silent until logging is configured."""

from __future__ import annotations

import logging

import structlog

__all__ = ["get_logger"]

logging.getLogger("dicomport").addHandler(logging.NullHandler())


def get_logger(room: str) -> structlog.stdlib.BoundLogger:
    """Give the logger of a room: "dicomport.net" and so on. Its events keep their fields as the record's `extra`."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(f"dicomport.{room}"),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
    )
    return logger

"""Exceptions that end a command, as one line: the failed action and the remedy, without an attribute value."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING

import click

from dicomport.cli.console import print_message, show_error
from dicomport.cli.options.common import ExitCode
from dicomport.cli.system_errors import reason_and_remedy
from dicomport.logs import get_logger

if TYPE_CHECKING:
    # sys.unraisablehook's argument exists for type checkers only.
    from sys import UnraisableHookArgs

log = get_logger("cli")


def report_failure(error: BaseException) -> int:
    """Write an exception that ended a command to stderr; return the exit code."""
    match error:
        case SystemExit(code=code):
            return code if isinstance(code, int) else ExitCode.FAILED if code else ExitCode.OK
        case click.ClickException():
            show_error(error)
            return error.exit_code
        case click.Abort() | KeyboardInterrupt() | EOFError():
            print_message("interrupted")
            return ExitCode.INTERRUPTED
    if text := _describe(error):
        show_error(click.ClickException(text))
    else:
        # Its text and its traceback may quote attribute values.
        log.error("command_failed", exc_info=error)
    return ExitCode.FAILED


def _describe(error: BaseException) -> str | None:
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{error.filename}: "
        return f"{where}{reason_and_remedy(error)}"
    if "dicomport.archive.database.sqlite" not in sys.modules:
        # Nothing has opened an index.
        return None
    from dicomport.archive.database.sqlite import IndexDatabaseError

    return str(error) if isinstance(error, IndexDatabaseError) else None


def log_uncaught_exceptions() -> None:
    """Log exceptions that no code handles, of threads and finalizers too, instead of printing tracebacks."""
    sys.excepthook = _main
    sys.unraisablehook = _unraisable
    threading.excepthook = _thread


def _main(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    report_failure(error)


def _thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None and not isinstance(arguments.exc_value, SystemExit):
        log.error("thread_failed", exc_info=arguments.exc_value)


def _unraisable(arguments: UnraisableHookArgs) -> None:
    if arguments.exc_value is not None:
        log.error("exception_ignored", exc_info=arguments.exc_value)

"""Exceptions that end a command, as one line: the failed action and the remedy, without an attribute value."""

from __future__ import annotations

import errno
import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Final

import click

from dicomport.cli.console import print_message, show_error
from dicomport.cli.options.common import ExitCode
from dicomport.logs import get_logger

if TYPE_CHECKING:
    # sys.unraisablehook's argument exists for type checkers only.
    from sys import UnraisableHookArgs

log = get_logger("cli")

_REMEDIES: Final = {
    errno.EACCES: "check the owner and the mode of the file and its folders",
    errno.EPERM: "check the owner and the mode of the file and its folders",
    errno.ENOSPC: "free some space on the disk",
    errno.EDQUOT: "free some space of the user's quota",
    errno.EROFS: "the file system is mounted read-only",
    errno.EMFILE: "raise the limit on open files with ulimit -n",
    errno.ENFILE: "the system has too many open files",
}


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
        remedy = _REMEDIES.get(error.errno or 0)
        return f"{where}{error.strerror}" + (f"; {remedy}" if remedy else "")
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

"""Ctrl-C while modules are imported."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

_INTERRUPTED = 130
"""The value of `ExitCode.INTERRUPTED`, whose module is not imported yet."""


@contextlib.contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """End the process at once on Ctrl-C, without a message: no file and no connection is open yet.

    In the middle of an import, a KeyboardInterrupt would be printed as a traceback, or swallowed. A process that
    ignores Ctrl-C, such as a shell's job in the background, still ignores it.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(_INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)

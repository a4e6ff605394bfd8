"""The entry point: handles the signals that arrive while the program is imported, for a few tenths of a second."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from dicomport.cli.interruption import exit_on_interrupt


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    given = sys.argv[1:] if arguments is None else arguments
    if list(given[:1]) == ["storescp"]:
        # A reload right after a start must not end the receiver. Its handler of the signal follows later.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with exit_on_interrupt():
        run: Callable[[Sequence[str]], NoReturn] = importlib.import_module("dicomport.cli.program").run
    run(given)

"""Errors of the operating system as one line with the remedy, and those of the output."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

import click

from dicomport.logs import reason_of

_REMEDIES: Final = {
    errno.EACCES: "check the owner and the mode of the file and its folders",
    errno.EPERM: "check the owner and the mode of the file and its folders",
    errno.ENOSPC: "free some space on the disk",
    errno.EDQUOT: "free some space of the user's quota",
    errno.EROFS: "the file system is mounted read-only",
    errno.EMFILE: "raise the limit on open files with ulimit -n",
    errno.ENFILE: "the system has too many open files",
}


def failure(problem: str, error: OSError) -> click.ClickException:
    """Return the error of a failed action as one line: the problem, the system's reason, and the remedy if known.

    The name of the file is left out: in some layouts of an archive it identifies a patient.
    """
    return click.ClickException(f"{problem}: {reason_and_remedy(error)}")


def reason_and_remedy(error: OSError) -> str:
    """Return the system's message, and the remedy if one is known."""
    reason = reason_of(error)
    # A text of our own states its remedy.
    remedy = _REMEDIES.get(error.errno) if error.errno and reason == os.strerror(error.errno) else None
    return f"{reason}; {remedy}" if remedy else reason


@contextlib.contextmanager
def writing_output() -> Iterator[None]:
    """Name the output if it cannot be written: the cause is neither the archive nor the peer.

    Raises `click.ClickException`, and `BrokenPipeError` if the reader has ended, as `head` does.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output(sys.stdout)
        raise failure("cannot write the output", error) from None


def discard_output(file: TextIO) -> None:
    """Redirect a file to the null device: otherwise, closing it would fail on its buffer."""
    with contextlib.suppress(io.UnsupportedOperation), Path(os.devnull).open("wb") as discarded:
        os.dup2(discarded.fileno(), file.fileno())

"""Options of timeouts."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import click

from dicomport.cli.options.common import decimal_number, with_options
from dicomport.net import Timeouts

_SECONDS: Final = decimal_number(0.1, 86400)
_DEFAULTS: Final = Timeouts()


class Side(enum.Flag):
    """The commands that have an option: those of requestors, of acceptors, or both."""

    REQUESTOR = enum.auto()
    ACCEPTOR = enum.auto()


_BOTH: Final = Side.REQUESTOR | Side.ACCEPTOR


class _Flag(NamedTuple):
    """The option for one field of `Timeouts`."""

    names: tuple[str, ...]
    side: Side
    help: str
    follows: str = ""
    """The option that supplies the default."""


FLAGS: Final = {
    "acse": _Flag(
        ("-ta", "--acse-timeout"), _BOTH, "Timeout for establishing, releasing and closing an association, seconds."
    ),
    "dimse": _Flag(("-td", "--dimse-timeout"), _BOTH, "Timeout for the response to a request, seconds."),
    "network": _Flag(
        ("-tn", "--network-timeout"), _BOTH, "Timeout for sending or receiving on the connection, seconds."
    ),
    "connect": _Flag(("--connect-timeout",), Side.REQUESTOR, "Timeout for the TCP connection, seconds."),
    "tls": _Flag(("--tls-timeout",), _BOTH, "Timeout for the TLS handshake, seconds."),
    "artim": _Flag(
        ("--artim-timeout",), _BOTH, "Timeout for an association request and for closing, seconds (ARTIM timer).", "-ta"
    ),
    "release": _Flag(("--release-timeout",), Side.REQUESTOR, "Timeout for a release, seconds.", "-ta"),
    "idle": _Flag(("--idle-timeout",), Side.ACCEPTOR, "Timeout for the next request, seconds.", "-tn"),
    "progress": _Flag(
        ("--progress-timeout",),
        Side.ACCEPTOR,
        "Abort if throughput stays below --min-rate for this many seconds.",
        "-tn",
    ),
    "slowest": _Flag(
        ("--min-rate",), Side.ACCEPTOR, "Minimum throughput while a data set is received, bytes per second."
    ),
    "write": _Flag(("--write-timeout",), _BOTH, "Timeout for sending to a peer that does not read, seconds.", "-tn"),
    "abort": _Flag(("--abort-timeout",), _BOTH, "Timeout for sending an abort, seconds."),
    "shutdown": _Flag(("--shutdown-timeout",), Side.ACCEPTOR, "Timeout for open associations after SIGTERM, seconds."),
}
"""Options by field of `Timeouts`, in the order of the help."""


def timeout_options(side: Side) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Add the options for this side of an association; the command receives them as one parameter, `timeouts`."""
    flags = {field: flag for field, flag in FLAGS.items() if flag.side & side}

    def add(command: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(command)
        def gathered(**arguments: Any) -> int:
            timeouts = Timeouts(**{field: arguments.pop(field) for field in flags})
            return command(timeouts=timeouts, **arguments)

        options = [
            click.option(
                *flag.names,
                field,
                type=decimal_number(0) if field == "slowest" else _SECONDS,
                default=getattr(_DEFAULTS, field),
                show_default=flag.follows or True,
                help=flag.help,
            )
            for field, flag in flags.items()
        ]
        return with_options(gathered, options)

    return add

"""How long the commands wait for a peer, as options."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import click

from dicomport.net import Timeouts

__all__ = ["FLAGS", "Side", "timeout_options"]

_SECONDS: Final = click.FloatRange(0.1, 86400)
_DEFAULTS: Final = Timeouts()


class Side(enum.Flag):
    """Which commands have an option."""

    REQUESTOR = enum.auto()
    ACCEPTOR = enum.auto()


_BOTH: Final = Side.REQUESTOR | Side.ACCEPTOR


class _Flag(NamedTuple):
    """The option for one field of `Timeouts`."""

    names: tuple[str, ...]
    side: Side
    help: str
    follows: str = ""
    """The flag of the setting that it takes over where it is not given."""


FLAGS: Final = {
    "acse": _Flag(("-ta", "--acse-timeout"), _BOTH, "Seconds to wait for an association, its release, and its end."),
    "dimse": _Flag(("-td", "--dimse-timeout"), _BOTH, "Seconds to wait for the response to a request."),
    "network": _Flag(
        ("-tn", "--network-timeout"), _BOTH, "Seconds to wait for what a peer has to send, or for it to take ours."
    ),
    "connect": _Flag(("--connect-timeout",), Side.REQUESTOR, "Seconds to wait for a TCP connection."),
    "tls": _Flag(("--tls-timeout",), _BOTH, "Seconds to wait for a TLS handshake."),
    "artim": _Flag(("--artim-timeout",), _BOTH, "Seconds to wait for an association request, and for a close.", "-ta"),
    "release": _Flag(("--release-timeout",), Side.REQUESTOR, "Seconds to wait for a release.", "-ta"),
    "idle": _Flag(("--idle-timeout",), Side.ACCEPTOR, "Seconds to wait for the next request.", "-tn"),
    "progress": _Flag(
        ("--progress-timeout",),
        Side.ACCEPTOR,
        "Seconds in which a data set must come along by as many bytes as --min-rate says.",
        "-tn",
    ),
    "slowest": _Flag(("--min-rate",), Side.ACCEPTOR, "Bytes per second that a data set must not fall below."),
    "write": _Flag(("--write-timeout",), _BOTH, "Seconds to wait for a peer to take what it is sent.", "-tn"),
    "abort": _Flag(("--abort-timeout",), _BOTH, "Seconds for an abort to leave."),
    "shutdown": _Flag(("--shutdown-timeout",), Side.ACCEPTOR, "Seconds for what is in flight, once told to stop."),
}
"""By field of `Timeouts`, in the order of the help."""


def timeout_options(side: Side) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Add the options for this side of an association; they arrive as one parameter, `timeouts`."""
    flags = {field: flag for field, flag in FLAGS.items() if flag.side & side}

    def add(command: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(command)
        def gathered(**arguments: Any) -> int:
            timeouts = Timeouts(**{field: arguments.pop(field) for field in flags})
            return command(timeouts=timeouts, **arguments)

        for field, flag in reversed(flags.items()):
            default = getattr(_DEFAULTS, field)
            kind = click.FloatRange(0) if field == "slowest" else _SECONDS
            option = click.option(
                *flag.names, field, type=kind, default=default, show_default=flag.follows or True, help=flag.help
            )
            gathered = option(gathered)
        return gathered

    return add

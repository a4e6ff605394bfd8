"""Options of the receiver's limits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import click

from dicomport.cli.options.common import POSITIVE_SIZE, whole_number, with_options
from dicomport.scp import DEFAULT_LIMITS, Limits
from dicomport.values import frozen


@frozen
class _Flag:
    """The option for one field of `Limits`."""

    name: str
    help: str
    default: str = ""
    """The default as the help shows it, if not as a plain number."""


FLAGS: Final = {
    "associations": _Flag(
        "--max-associations",
        "Maximum number of concurrent associations; above it, associations are rejected (transient).",
    ),
    "associations_per_address": _Flag(
        "--max-associations-per-address", "Maximum number of concurrent associations per address."
    ),
    "associations_per_ae_title": _Flag(
        "--max-associations-per-aet", "Maximum number of concurrent associations per calling AE title."
    ),
    "half_open": _Flag(
        "--max-half-open", "Maximum number of connections without an association; above it, the oldest is closed."
    ),
    "identity_checks_per_address": _Flag(
        "--max-identity-checks-per-address",
        "Maximum number of user identities per address that are being checked or wait for it; above it, associations "
        "are rejected (transient).",
    ),
    "instance_bytes": _Flag(
        "--max-instance-size", "Maximum size of a data set; a longer one is refused with 0xA700.", "68.7G"
    ),
    "memory_bytes": _Flag(
        "--max-memory",
        "Memory limit for instances and other data sets being received; above it, senders are throttled.",
        "134M",
    ),
}
"""Options by field of `Limits`, in the order of the help."""


def limit_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options; the command receives them as one parameter, `limits`."""

    @functools.wraps(command)
    def gathered(**arguments: Any) -> int:
        limits = Limits(**{field: arguments.pop(field) for field in FLAGS})
        return command(limits=limits, **arguments)

    options = [
        click.option(
            flag.name,
            field,
            type=POSITIVE_SIZE if flag.default else whole_number(1),
            default=getattr(DEFAULT_LIMITS, field),
            show_default=flag.default or True,
            help=flag.help,
        )
        for field, flag in FLAGS.items()
    ]
    return with_options(gathered, options)

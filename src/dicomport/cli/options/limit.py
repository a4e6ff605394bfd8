"""What one peer, and all of them together, may ask of the receiver, as options."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import click

from dicomport.cli.options.archive import SIZE
from dicomport.scp import DEFAULT_LIMITS, Limits

__all__ = ["FLAGS", "limit_options"]


@dataclass(frozen=True, slots=True)
class _Flag:
    """The option for one field of `Limits`."""

    name: str
    help: str
    default: str = ""
    """How the default is shown, where its number says little."""


FLAGS: Final = {
    "associations": _Flag("--max-associations", "Most associations at the same time; one more is rejected for now."),
    "associations_per_address": _Flag("--max-associations-per-address", "Most of them from one address."),
    "associations_per_ae_title": _Flag("--max-associations-per-aet", "Most of them with one calling AE title."),
    "half_open": _Flag(
        "--max-half-open", "Most connections without an association; for one more, the oldest is closed."
    ),
    "instance_bytes": _Flag(
        "--max-instance-size", "Longest data set; one that is longer is refused with 0xA700.", "68.7G"
    ),
    "memory_bytes": _Flag(
        "--max-memory",
        "Most that is held of instances that are being received; beyond that, disks hold senders back.",
        "134M",
    ),
}
"""By field of `Limits`, in the order of the help."""


def limit_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options; they arrive as one parameter, `limits`."""

    @functools.wraps(command)
    def gathered(**arguments: Any) -> int:
        limits = Limits(**{field: arguments.pop(field) for field in FLAGS})
        return command(limits=limits, **arguments)

    for field, flag in reversed(FLAGS.items()):
        kind = SIZE if flag.default else click.IntRange(1)
        default = getattr(DEFAULT_LIMITS, field)
        option = click.option(
            flag.name, field, type=kind, default=default, show_default=flag.default or True, help=flag.help
        )
        gathered = option(gathered)
    return gathered

"""Options of the receiver's archive."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import click

from dicomport.archive import DEFAULT_LAYOUT, ArchiveOptions, Check, Checks, Duplicates, Layout, Policy
from dicomport.cli.options.common import SIZE, decimal_number, whole_number, with_options
from dicomport.files import Durability

_DEFAULTS: Final = ArchiveOptions()


class _Layout(click.ParamType[Layout]):
    name = "template"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Layout:
        try:
            return Layout(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Check(click.ParamType[tuple[Check, Policy]]):
    name = "name=policy"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Check, Policy]:
        check, _, policy = value.partition("=")
        try:
            return Check(check), Policy(policy)
        except ValueError:
            self.fail(f"{value!r} is not one of {', '.join(Check)}, with =refuse or =accept", param, ctx)


_OPTIONS: Final = (
    click.option(
        "--layout",
        type=_Layout(),
        default=DEFAULT_LAYOUT,
        show_default=True,
        help="Path of an instance in the archive: a template over {study}, {series}, {instance}, {modality}, "
        "{study_date}, {patient_id}, {calling} and more.",
    ),
    click.option(
        "--durability",
        type=click.Choice([durability.value for durability in Durability]),
        default=_DEFAULTS.durability.value,
        show_default=True,
        help="Storage that a success waits for: the disk, or only the operating system's cache.",
    ),
    click.option(
        "--duplicates",
        type=click.Choice([duplicates.value for duplicates in Duplicates]),
        default=_DEFAULTS.duplicates.value,
        show_default=True,
        help="How to handle a duplicate SOP Instance UID with different content.",
    ),
    click.option(
        "--check",
        "checks",
        type=_Check(),
        multiple=True,
        help=f"How to handle a data set that fails a check ({', '.join(Check)}): refuse, the default, moves it to "
        "quarantine; accept stores it with the warning 0xB007. Repeatable.",
    ),
    click.option("--accept-anyway", is_flag=True, help="Accept data sets that fail any check."),
    click.option(
        "--min-free",
        type=SIZE,
        default=_DEFAULTS.min_free_bytes,
        show_default="268M",
        help="Free space to keep on the disk; below it, instances are refused with 0xA700.",
    ),
    click.option(
        "--quarantine-size",
        type=SIZE,
        default=_DEFAULTS.quarantine_bytes,
        show_default="10.7G",
        help="Maximum size of the quarantine on the disk; above it, the oldest files are deleted.",
    ),
    click.option(
        "--quarantine-entries",
        type=whole_number(1),
        default=_DEFAULTS.quarantine_entries,
        show_default=True,
        help="Maximum number of instances in the quarantine; above it, the oldest are deleted.",
    ),
    click.option(
        "--quarantine-days",
        type=decimal_number(0),
        default=_DEFAULTS.quarantine_days,
        show_default=True,
        help="Days to keep a file in quarantine.",
    ),
)


def archive_policy_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the archive options; the command receives them as one parameter, `options`."""

    @functools.wraps(command)
    def gathered(
        *,
        layout: Layout,
        durability: str,
        duplicates: str,
        checks: tuple[tuple[Check, Policy], ...],
        accept_anyway: bool,
        min_free: int,
        quarantine_size: int,
        quarantine_entries: int,
        quarantine_days: float,
        **others: Any,
    ) -> int:
        policies = dict.fromkeys(Check, Policy.ACCEPT) if accept_anyway else dict(checks)
        options = ArchiveOptions(
            layout=layout,
            checks=Checks(policies),
            duplicates=Duplicates(duplicates),
            durability=Durability(durability),
            min_free_bytes=min_free,
            quarantine_bytes=quarantine_size,
            quarantine_entries=quarantine_entries,
            quarantine_days=quarantine_days,
        )
        return command(options=options, **others)

    return with_options(gathered, _OPTIONS)

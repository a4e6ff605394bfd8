"""Options of `storescu` that control sending."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import click

from dicomport.cli.options.common import PathType, decimal_number, whole_number, with_options
from dicomport.scu import RetryPolicy, Transform
from dicomport.wire import Priority

_RETRY = RetryPolicy()

_OPTIONS = (
    click.option(
        "--priority",
        type=click.Choice([priority.name.lower() for priority in Priority]),
        default=Priority.MEDIUM.name.lower(),
        show_default=True,
        help="Priority of the C-STORE requests.",
    ),
    click.option(
        "-j",
        "--associations",
        type=whole_number(1, 64),
        default=2,
        show_default=True,
        help="Maximum number of concurrent associations.",
    ),
    click.option(
        "--window",
        type=whole_number(1, 1000),
        default=16,
        show_default=True,
        help="Maximum number of outstanding operations per association; 1 sends one at a time.",
    ),
    click.option(
        "--retries",
        type=whole_number(0, 1000),
        default=_RETRY.retries,
        show_default=True,
        help="Maximum number of retries after a transient failure.",
    ),
    click.option(
        "--retry-for",
        type=decimal_number(0),
        default=_RETRY.seconds,
        show_default=True,
        help="Seconds after the first failure during which retries are made.",
    ),
    click.option(
        "--retry-delay",
        type=decimal_number(0),
        default=_RETRY.first_delay,
        show_default=True,
        help="Seconds before the first retry; each further delay is about twice as long.",
    ),
    click.option(
        "--journal",
        type=PathType(dir_okay=False),
        help="File that records accepted instances: the same command, run again, sends only the missing ones.",
    ),
    click.option(
        "--report",
        type=PathType(dir_okay=False),
        help="File for the result of each instance, as JSON lines.",
    ),
    click.option(
        "--convert",
        is_flag=True,
        help="Convert an instance without loss if the peer does not accept its transfer syntax.",
    ),
    click.option(
        "--set",
        "values",
        metavar="KEYWORD=VALUE",
        multiple=True,
        callback=lambda _context, _option, texts: _values(texts),
        help="Set an attribute in each data set, for tests; repeatable.",
    ),
    click.option(
        "--invent-uids", is_flag=True, help="Replace Study, Series and SOP Instance UIDs by new ones, for tests."
    ),
    click.option("--fail-fast", is_flag=True, help="Stop at the first permanent failure."),
    click.option("--dry-run", "plan_only", is_flag=True, help="Print the plan and send nothing."),
)


def _values(texts: Iterable[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for text in texts:
        keyword, sign, value = text.partition("=")
        if not sign:
            raise click.BadParameter(f"{text!r} is invalid; expected KEYWORD=VALUE")
        values[keyword] = value
    return values


def sending_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; `retry` and `transform` are built from several of them."""

    @functools.wraps(command)
    def with_values(
        *,
        retries: int,
        retry_for: float,
        retry_delay: float,
        convert: bool,
        values: dict[str, str],
        invent_uids: bool,
        **others: Any,
    ) -> Any:
        retry = RetryPolicy(retries=retries, seconds=retry_for, first_delay=retry_delay)
        try:
            transform = Transform(convert=convert, values=values, invent_uids=invent_uids)
        except ValueError as error:
            raise click.UsageError(f"--set: {error}") from None
        return command(retry=retry, transform=transform, **others)

    return with_options(with_values, _OPTIONS)

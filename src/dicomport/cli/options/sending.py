"""The options of `storescu` that say how to send."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from dicomport.scu import RetryPolicy, Transform
from dicomport.wire import Priority

__all__ = ["sending_options"]

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
        type=click.IntRange(1, 64),
        default=2,
        show_default=True,
        help="Associations at once, where there is enough to send.",
    ),
    click.option(
        "--window",
        type=click.IntRange(1, 1000),
        default=16,
        show_default=True,
        help="Operations outstanding on each, where the peer grants them; 1 negotiates none.",
    ),
    click.option(
        "--retries",
        type=click.IntRange(0, 1000),
        default=_RETRY.retries,
        show_default=True,
        help="How often a failure that may pass is tried again.",
    ),
    click.option(
        "--retry-for",
        type=click.FloatRange(0),
        default=_RETRY.seconds,
        show_default=True,
        help="Seconds after the first failure in which it is.",
    ),
    click.option(
        "--retry-delay",
        type=click.FloatRange(0),
        default=_RETRY.first_delay,
        show_default=True,
        help="Seconds to the second try; each delay is about twice the one before.",
    ),
    click.option(
        "--journal",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File that keeps what was accepted: the same command, run again, sends what is missing.",
    ),
    click.option(
        "--report",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File for the result of each instance, as JSON lines.",
    ),
    click.option(
        "--convert",
        is_flag=True,
        help="Let an instance go in another transfer syntax, without loss, where the peer refuses its own.",
    ),
    click.option(
        "--set",
        "values",
        metavar="KEYWORD=VALUE",
        multiple=True,
        callback=lambda _context, _option, texts: _values(texts),
        help="Put a value into each data set, for test sends; repeatable.",
    ),
    click.option("--invent-uids", is_flag=True, help="Give studies, series and instances new UIDs, for test sends."),
    click.option("--fail-fast", is_flag=True, help="End with the first instance that fails for good."),
    click.option("--dry-run", "plan_only", is_flag=True, help="Print what would be sent and how, and send nothing."),
)


def _values(texts: Iterable[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for text in texts:
        keyword, sign, value = text.partition("=")
        if not sign:
            raise click.BadParameter(f"{text!r} is not of the form KEYWORD=VALUE")
        values[keyword] = value
    return values


def sending_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets `retry` and `preparation` in the place of those that make them up."""

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
            preparation = Transform(convert=convert, values=values, invent_uids=invent_uids)
        except ValueError as error:
            raise click.UsageError(f"--set: {error}") from None
        return command(retry=retry, preparation=preparation, **others)

    return functools.reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), with_values)

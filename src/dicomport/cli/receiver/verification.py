"""The table [verify] of the configuration file: verification in quiet hours."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from datetime import time
from typing import Final, Self

import click

from dicomport.archive import BackgroundVerification, Index, Paths, QuietHours
from dicomport.cli.options.common import SIZE
from dicomport.cli.receiver.setting_errors import SettingError, unknown, wrong

VERIFY: Final = "verify"
"""Name of the table."""

_KEYS: Final = ("start", "end", "rate")
_META: Final = "dicomport.verify"


def set_quiet_hours(context: click.Context, table: object) -> None:
    """Read the table for `quiet_hours`. Raises `SettingError`."""
    if not isinstance(table, dict):
        raise SettingError(f"{VERIFY} is not a table: write [{VERIFY}] with {', '.join(_KEYS)}")
    for key in table:
        if key not in _KEYS:
            raise unknown(VERIFY, key, _KEYS)
    for key in _KEYS:
        if key not in table:
            raise SettingError(f"[{VERIFY}] has no {key}: all of {', '.join(_KEYS)} are required")
    context.meta[_META] = QuietHours(_time(table, "start"), _time(table, "end"), _rate(table))


def quiet_hours(context: click.Context) -> QuietHours | None:
    """Return the quiet hours, or None if the configuration file has none."""
    hours = context.meta.get(_META)
    return hours if isinstance(hours, QuietHours) else None


class ReloadableVerification:
    """Verification in quiet hours that a reload changes. Use it as an asynchronous context manager."""

    def __init__(self, archives: Sequence[tuple[Paths, Index]], hours: QuietHours | None) -> None:
        self._archives = archives
        self._hours = hours
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def reload(self, hours: QuietHours | None) -> None:
        """Use other hours, or none: verification stops and continues at its position in the new ones."""
        if hours != self._hours:
            self._hours = hours
            self._changed.set()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            hours = self._hours
            async with contextlib.nullcontext() if hours is None else BackgroundVerification(self._archives, hours):
                await self._changed.wait()


def _time(table: Mapping[str, object], key: str) -> time:
    value = table[key]
    if isinstance(value, str):
        try:
            value = time.fromisoformat(value)
        except ValueError:
            value = table[key]
    if not isinstance(value, time) or value.tzinfo is not None:
        raise wrong(VERIFY, key, table[key], 'expected a local time such as "22:00"')
    return value


def _rate(table: Mapping[str, object]) -> int:
    value = table["rate"]
    if isinstance(value, int | str) and not isinstance(value, bool):
        try:
            rate = SIZE.convert(value, None, None)
        except click.BadParameter as error:
            raise wrong(VERIFY, "rate", value, error.message) from None
        if rate > 0:
            return rate
    raise wrong(VERIFY, "rate", value, "expected a number of bytes per second, such as 20M")

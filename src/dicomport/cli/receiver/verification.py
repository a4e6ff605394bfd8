"""The table [verify] of the configuration file: verification in quiet hours."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import time
from typing import Final

import click

from dicomport.archive import QuietHours
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

"""Errors of the configuration file, with hints."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from dicomport.errors import DicomportError


class SettingError(DicomportError):
    """An invalid setting; the text has table, key, value and the valid values."""


def wrong(where: str, key: str, value: object, problem: str) -> SettingError:
    """Return the error for an invalid value of a key; `where` is the table, empty at the top level."""
    return SettingError(f"{_place(where)}{key} = {value!r}: {problem}")


def unknown(where: str, key: str, known: Collection[str]) -> SettingError:
    """Return the error for an unknown key."""
    return SettingError(f'{_place(where)}unknown setting "{key}"; {meant(key, known)}')


def meant(name: str, known: Collection[str]) -> str:
    """Return a hint at the closest valid name."""
    close = difflib.get_close_matches(name, known, 1)
    return f'did you mean "{close[0]}"?' if close else f"valid: {', '.join(sorted(known))}"


def array(where: str, key: str, value: object) -> list[object]:
    """Return a value that must be an array. Raises `SettingError`."""
    if not isinstance(value, list):
        raise wrong(where, key, value, "expected an array in brackets")
    return value


def flag(where: str, key: str, value: object) -> bool:
    """Return a value that must be a boolean. Raises `SettingError`."""
    if not isinstance(value, bool):
        raise wrong(where, key, value, "expected true or false")
    return value


def _place(where: str) -> str:
    return f"[{where}] " if where else ""

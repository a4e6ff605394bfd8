"""What is wrong with a setting in a file, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from dicomport.errors import DicomportError

__all__ = ["SettingError", "array", "flag", "meant", "unknown", "wrong"]


class SettingError(DicomportError):
    """A setting is wrong; the text names table, key and value, and says what is allowed."""


def wrong(where: str, key: str, value: object, problem: str) -> SettingError:
    """Make the error for the value of a key, in a table or, where that is empty, outside of all."""
    return SettingError(f"{_place(where)}{key} = {value!r}: {problem}")


def unknown(where: str, key: str, known: Collection[str]) -> SettingError:
    """Make the error for a key that there is not."""
    return SettingError(f"{_place(where)}{key} is no setting; {meant(key, known)}")


def meant(name: str, known: Collection[str]) -> str:
    """Suggest what a wrong name may have meant."""
    close = difflib.get_close_matches(name, known, 1)
    return f"is {close[0]} meant?" if close else f"there are {', '.join(sorted(known))}"


def array(where: str, key: str, value: object) -> list[object]:
    """Read an array. Raises `SettingError`."""
    if not isinstance(value, list):
        raise wrong(where, key, value, "it is an array, in brackets")
    return value


def flag(where: str, key: str, value: object) -> bool:
    """Read true or false. Raises `SettingError`."""
    if not isinstance(value, bool):
        raise wrong(where, key, value, "it is either true or false")
    return value


def _place(where: str) -> str:
    return f"[{where}] " if where else ""

"""From a peer's text to a file name: the only function in dicomport that does that."""

from __future__ import annotations

import hashlib
import re
from typing import Final

__all__ = ["file_name"]

_PLAIN: Final = frozenset("0123456789.")
_ITS_OWN_NAME: Final = re.compile(r"[0-9](?:[0-9.]*[0-9])?")
"""What every valid UID is (PS3.5 9.1)."""
_LONGEST: Final = 120
"""Longest name, bytes: with a suffix and a counter it stays below the 255 of the common file systems."""


def file_name(text: str) -> str:
    """Turn a UID, or whatever a peer sent for one, into a name for one file or folder.

    Digits and dots stay as they are, so a valid UID is its own name. Every other character, and a dot at either end,
    becomes an underscore and two hexadecimal digits for each byte of its UTF-8 form; an over-long name is cut and
    ends in two underscores and a digest of the whole. So no two texts meet in one name, on file systems that ignore
    case either, and none is empty, hidden, special (".", "..", "CON") or leads out of its folder.
    """
    if len(text) <= _LONGEST and _ITS_OWN_NAME.fullmatch(text):
        return text
    last = len(text) - 1
    name = "".join(
        character if character in _PLAIN and not (character == "." and at in (0, last)) else _escaped(character)
        for at, character in enumerate(text)
    )
    if len(name) > _LONGEST:
        digest = hashlib.blake2b(_encoded(text), digest_size=16).hexdigest()
        return f"{name[: _LONGEST - len(digest) - 2]}__{digest}"
    return name or "_"


def _escaped(character: str) -> str:
    return "".join(f"_{byte:02x}" for byte in _encoded(character))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")

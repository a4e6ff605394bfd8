"""Convert a peer's text to a file name: the only function in dicomport that does so."""

from __future__ import annotations

import re
from typing import Final

_UNESCAPED: Final = frozenset("0123456789.")
_VALID_NAME: Final = re.compile(r"[0-9](?:[0-9.]*[0-9])?")
"""Matches every valid UID (PS3.5 9.1), and other texts that are safe names."""
_MAX_BYTES: Final = 120
"""Size limit of a name: with a suffix and a counter it stays below the 255 bytes of common file systems."""

LOST_AND_FOUND: Final = "lost+found"
"""Folder in the root of a file system, for files that its repair finds; not part of an archive there."""

MAX_COPIES: Final = 100
"""Limit of files with one SOP Instance UID: each of them is compared with the next duplicate."""


def file_name(text: str) -> str:
    """Return the name of a file or folder for a UID, or for any text that a peer sent as a UID.

    Digits and dots are kept, so a valid UID is its own name. Each other character, and a dot at either end, becomes an
    underscore and two hexadecimal digits for each byte of its UTF-8 form. A name that is too long is cut, and ends in
    two underscores and a digest of the text. So different texts have different names, even on file systems that ignore
    case, and no name is empty, hidden, special (".", "..", "CON") or leads out of its folder.
    """
    if len(text) <= _MAX_BYTES and _VALID_NAME.fullmatch(text):
        return text
    last = len(text) - 1
    name = "".join(
        character if character in _UNESCAPED and not (character == "." and at in (0, last)) else _escaped(character)
        for at, character in enumerate(text)
    )
    if len(name) > _MAX_BYTES:
        digest = _digest(text)
        return f"{name[: _MAX_BYTES - len(digest) - 2]}__{digest}"
    return name or "_"


def shortened(name: str, max_bytes: int) -> str:
    """Return a name of at most `max_bytes` bytes; a longer one is cut, and ends in two underscores and its digest."""
    if len(name) <= max_bytes and (name.isascii() or len(_encoded(name)) <= max_bytes):
        return name
    digest = _digest(name)
    return f"{_encoded(name)[: max_bytes - len(digest) - 2].decode(errors='ignore')}__{digest}"


def numbered_name(stem: str, number: int) -> str:
    """Return the name of a DICOM file: "stem.dcm" for the number 1, "stem~2.dcm" for 2, and so on."""
    return f"{stem}.dcm" if number == 1 else f"{stem}~{number}.dcm"


def _escaped(character: str) -> str:
    return "".join(f"_{byte:02x}" for byte in _encoded(character))


def _digest(text: str) -> str:
    import hashlib

    return hashlib.blake2b(_encoded(text), digest_size=16).hexdigest()


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")

"""AE titles (PS3.5 6.2, VR AE)."""

from __future__ import annotations


def check_ae_title(title: str) -> str:
    """Return a valid AE title without its padding.

    A valid title has 1 to 16 characters of the default repertoire, without backslash and control characters. Raises
    `ValueError` for an invalid one.
    """
    bare = title.strip(" ")
    if not bare:
        raise ValueError("an AE title must have at least one character other than spaces")
    if len(bare) > 16:
        raise ValueError(f"AE title {bare!r} has {len(bare)} characters; the maximum is 16")
    if not has_valid_characters(bare):
        raise ValueError(
            f"AE title {bare!r} has invalid characters; valid are printable ASCII characters except the backslash"
        )
    return bare


def has_valid_characters(title: str) -> bool:
    """Return whether an AE title has only characters of the default repertoire, no backslash and no control character.

    A title without characters has none that is invalid.
    """
    return title.isascii() and title.isprintable() and "\\" not in title

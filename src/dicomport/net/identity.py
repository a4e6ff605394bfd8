"""What this implementation says of itself."""

from __future__ import annotations

from typing import Final

from dicomport.core import ImplementationInfo

__all__ = ["DEFAULT_MAXIMUM_LENGTH", "IDENTITY", "check_ae_title"]

IDENTITY: Final = ImplementationInfo("2.25.284104925834416107264219340953541417361", "DICOMPORT_0_1_0")
"""Implementation Class UID and Implementation Version Name (PS3.7 D.3.3.2)."""

DEFAULT_MAXIMUM_LENGTH: Final = 1 << 18
"""The longest P-DATA-TF body, bytes, that is announced as acceptable. Data is streamed, so a long one costs nothing."""


def check_ae_title(title: str) -> str:
    """Check an AE title of our own and return it without its padding.

    1 to 16 characters of the default repertoire, no backslash and no control character (PS3.5 6.2, VR AE). Raises
    `ValueError`.
    """
    bare = title.strip(" ")
    if not bare:
        raise ValueError("an AE title needs at least one character that is not a space")
    if len(bare) > 16:
        raise ValueError(f"AE title {bare!r} is longer than 16 characters")
    if not bare.isascii() or not bare.isprintable() or "\\" in bare:
        raise ValueError(f"AE title {bare!r} has characters that an AE title can't have")
    return bare

"""Value representations (PS3.5 6.2), and how each one affects the encoding of its elements."""

from __future__ import annotations

from typing import Final

SHORT_VRS: Final = frozenset(
    (
        *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO"),
        *(b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
    )
)
"""In Explicit VR, a 16-bit length follows the VR (PS3.5 Table 7.1-2)."""

LONG_VRS: Final = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
"""In Explicit VR, two reserved bytes and a 32-bit length follow the VR (PS3.5 Table 7.1-1)."""

KNOWN_VRS: Final = SHORT_VRS | LONG_VRS

FRAGMENT_VRS: Final = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW"))
"""A value of undefined length consists of fragments (PS3.5 A.4)."""

WORD_FORMATS: Final = {
    **dict.fromkeys((b"AT", b"OW", b"SS", b"US"), "H"),
    **dict.fromkeys((b"FL", b"OF", b"OL", b"SL", b"UL"), "I"),
    **dict.fromkeys((b"FD", b"OD", b"OV", b"SV", b"UV"), "Q"),
}
"""The VRs whose values depend on the byte order (PS3.5 7.3), and the `array` type code of their words."""


def is_vr(vr: bytes) -> bool:
    """Return whether these two bytes can be a VR, known or not: two capital letters (PS3.5 7.1.2)."""
    return vr.isalpha() and vr.isupper()

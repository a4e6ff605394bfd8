"""Text in the Specific Character Set of its data set (PS3.3 C.12.1.1.2, PS3.5 6.1.2), for an index: it never fails."""

from __future__ import annotations

import functools
from typing import Final

__all__ = ["codec_of", "decode_text"]

_DEFAULT: Final = "latin-1"
"""For ISO-IR 6, of which it is a superset: no byte is lost when the data set doesn't say what it is written in."""

# PS3.3 Tables C.12-2 to C.12-5, by what is left of the defined term once "ISO_IR" or "ISO 2022 IR" is taken off.
_CODECS: Final = {
    "6": _DEFAULT,
    "13": "shift_jis",
    "58": "gb2312",
    "87": "iso2022_jp",
    "100": "latin-1",
    "101": "iso8859-2",
    "109": "iso8859-3",
    "110": "iso8859-4",
    "126": "iso8859-7",
    "127": "iso8859-6",
    "138": "iso8859-8",
    "144": "iso8859-5",
    "148": "iso8859-9",
    "149": "euc_kr",
    "159": "iso2022_jp_2",
    "166": "tis_620",
    "192": "utf-8",
    "203": "iso8859-15",
    "GB18030": "gb18030",
    "GBK": "gbk",
}

_ESCAPE: Final = b"\x1b"
# PS3.3 Tables C.12-3 and C.12-4: what follows the escape, and the codec for what follows that. Those of two bytes in G0
# are decoded with their escape, as the codec knows it and needs it.
_TWO_BYTES_IN_G0: Final = ((b"$B", "iso2022_jp"), (b"$@", "iso2022_jp"), (b"$(D", "iso2022_jp_2"))
_EXTENSIONS: Final = (
    (b"(B", _DEFAULT),
    (b"(J", "shift_jis"),
    (b")I", "shift_jis"),
    (b"-A", "latin-1"),
    (b"-B", "iso8859-2"),
    (b"-C", "iso8859-3"),
    (b"-D", "iso8859-4"),
    (b"-F", "iso8859-7"),
    (b"-G", "iso8859-6"),
    (b"-H", "iso8859-8"),
    (b"-L", "iso8859-5"),
    (b"-M", "iso8859-9"),
    (b"-T", "tis_620"),
    (b"-b", "iso8859-15"),
    (b"$)A", "gb2312"),
    (b"$)C", "euc_kr"),
)
_DELIMITERS: Final = (b"\\", b"^", b"=", b"\t", b"\n", b"\f", b"\r")
_PADDING: Final = " \0"


@functools.lru_cache(maxsize=64)
def codec_of(character_set: str) -> str:
    r"""Find the codec for (0008,0005), its values with "\" between them: that of the first, or Latin 1."""
    # As written by many: "ISO-IR 100", "ISO IR 100", "iso_ir 100".
    words = character_set.partition("\\")[0].upper().replace("_", " ").replace("-", " ").split()
    return _CODECS.get(words[-1], _DEFAULT) if words else _DEFAULT


def decode_text(raw: bytes, codec: str) -> str:
    r"""Decode a value and take its padding off. Bytes that mean nothing in the character set become "\xNN".

    Code extensions are followed whether or not the data set announces them: an escape means nothing else in a value.
    """
    if _ESCAPE not in raw:
        return _decode(raw, codec).strip(_PADDING)
    first, *extended = raw.split(_ESCAPE)
    parts = [_decode(first, codec), *(_decode_extended(part, codec) for part in extended)]
    return "".join(parts).strip(_PADDING)


def _decode_extended(part: bytes, codec: str) -> str:
    """Decode what follows an escape (PS3.5 6.1.2.5)."""
    for sequence, extension in _TWO_BYTES_IN_G0:
        if part.startswith(sequence):
            return _decode(_ESCAPE + part, extension)
    for sequence, extension in _EXTENSIONS:
        if part.startswith(sequence):
            # PS3.5 6.1.2.5.3: a delimiter brings the first character set back.
            text = part[len(sequence) :]
            end = min((at for at in map(text.find, _DELIMITERS) if at >= 0), default=len(text))
            return _decode(text[:end], extension) + _decode(text[end:], codec)
    return _decode(_ESCAPE + part, codec)


def _decode(raw: bytes, codec: str) -> str:
    return raw.decode(codec, "backslashreplace")

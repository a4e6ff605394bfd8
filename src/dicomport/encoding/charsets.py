"""Decode text in the Specific Character Set of its data set (PS3.3 C.12.1.1.2, PS3.5 6.1.2); no bytes are an error."""

from __future__ import annotations

import functools
from typing import Final

_DEFAULT: Final = "latin-1"
"""The codec for ISO-IR 6, and for a data set without a known character set: Latin 1 decodes each byte."""

_CHARACTER_SETS: Final = (
    ("6", _DEFAULT, b"(B"),
    ("13", "shift_jis", b"(J", b")I"),
    ("58", "gb2312", b"$)A"),
    ("87", "iso2022_jp"),
    ("100", "latin-1", b"-A"),
    ("101", "iso8859-2", b"-B"),
    ("109", "iso8859-3", b"-C"),
    ("110", "iso8859-4", b"-D"),
    ("126", "iso8859-7", b"-F"),
    ("127", "iso8859-6", b"-G"),
    ("138", "iso8859-8", b"-H"),
    ("144", "iso8859-5", b"-L"),
    ("148", "iso8859-9", b"-M"),
    ("149", "euc_kr", b"$)C"),
    ("159", "iso2022_jp_2"),
    ("166", "tis_620", b"-T"),
    ("192", "utf-8"),
    ("203", "iso8859-15", b"-b"),
    ("GB18030", "gb18030"),
    ("GBK", "gbk"),
)
"""Defined term without "ISO_IR" or "ISO 2022 IR", codec, and escape sequences (PS3.3 Tables C.12-2 to C.12-5)."""

_CODECS: Final = {term: codec for term, codec, *_ in _CHARACTER_SETS}
_EXTENSIONS: Final = tuple((sequence, codec) for _, codec, *sequences in _CHARACTER_SETS for sequence in sequences)
_TWO_BYTES_IN_G0: Final = ((b"$B", "iso2022_jp"), (b"$@", "iso2022_jp"), (b"$(D", "iso2022_jp_2"))
"""Escape sequences that the codec reads itself."""

_ESCAPE: Final = b"\x1b"
_DELIMITERS: Final = (b"\\", b"^", b"=", b"\t", b"\n", b"\f", b"\r")
_PADDING: Final = " \0"


@functools.lru_cache(maxsize=64)
def codec_of(character_set: str) -> str:
    r"""Return the codec for the first value of (0008,0005), in which "\" separates the values; by default Latin 1."""
    # Many writers use "ISO-IR 100", "ISO IR 100" or "iso_ir 100".
    words = character_set.partition("\\")[0].upper().replace("_", " ").replace("-", " ").split()
    return _CODECS.get(words[-1], _DEFAULT) if words else _DEFAULT


def decode_text(raw: bytes, codec: str) -> str:
    r"""Decode a value, without its padding. Bytes that are invalid in the character set become "\xNN".

    Code extensions are decoded even if (0008,0005) does not list them: an escape has no other meaning in a value.
    """
    if _ESCAPE not in raw:
        return _decode(raw, codec).strip(_PADDING)
    first, *extended = raw.split(_ESCAPE)
    parts = [_decode(first, codec), *(_decode_extended(part, codec) for part in extended)]
    return "".join(parts).strip(_PADDING)


def _decode_extended(part: bytes, codec: str) -> str:
    """Decode the bytes after an escape (PS3.5 6.1.2.5)."""
    for sequence, extension in _TWO_BYTES_IN_G0:
        if part.startswith(sequence):
            return _decode(_ESCAPE + part, extension)
    for sequence, extension in _EXTENSIONS:
        if part.startswith(sequence):
            # PS3.5 6.1.2.5.3: after a delimiter, the first character set is active again.
            text = part[len(sequence) :]
            end = min((at for at in map(text.find, _DELIMITERS) if at >= 0), default=len(text))
            return _decode(text[:end], extension) + _decode(text[end:], codec)
    return _decode(_ESCAPE + part, codec)


def _decode(raw: bytes, codec: str) -> str:
    return raw.decode(codec, "backslashreplace")

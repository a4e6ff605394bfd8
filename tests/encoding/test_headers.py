"""Element headers: golden bytes, and decoding inverts encoding."""

import struct
from typing import Final

import pytest
from hypothesis import given, strategies as st
from tests.wire.golden import golden

from dicomport.encoding.headers import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    ITEM,
    SEQUENCE_DELIMITER,
    UNDEFINED_LENGTH,
    Encoding,
    encoding_of,
    format_tag,
)
from dicomport.encoding.vr import KNOWN_VRS, LONG_VRS, SHORT_VRS
from dicomport.standard import transfer_syntaxes

ENCODINGS: Final = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG)
ROWS: Final = {
    "implicit": (IMPLICIT_LITTLE, "08 00 18 00 1A 00 00 00", (0x00080018, b"", 26, 8)),
    "short, little": (EXPLICIT_LITTLE, "08 00 18 00 'UI' 1A 00", (0x00080018, b"UI", 26, 8)),
    "short, big": (EXPLICIT_BIG, "00 08 00 18 'UI' 00 1A", (0x00080018, b"UI", 26, 8)),
    "long, little": (EXPLICIT_LITTLE, "E0 7F 10 00 'OW' 00 00 00 00 01 00", (0x7FE00010, b"OW", 1 << 16, 12)),
    "long, big": (EXPLICIT_BIG, "7F E0 00 10 'OW' 00 00 00 01 00 00", (0x7FE00010, b"OW", 1 << 16, 12)),
    "undefined": (EXPLICIT_LITTLE, "08 00 40 11 'SQ' 00 00 FF FF FF FF", (0x00081140, b"SQ", UNDEFINED_LENGTH, 12)),
    "item, little": (EXPLICIT_LITTLE, "FE FF 00 E0 10 00 00 00", (ITEM, b"", 16, 8)),
    "item, big": (EXPLICIT_BIG, "FF FE E0 00 00 00 00 10", (ITEM, b"", 16, 8)),
    "a length like a VR": (EXPLICIT_LITTLE, "FE FF 00 E0 'OB' 00 00", (ITEM, b"", 0x424F, 8)),
    "delimiter": (IMPLICIT_LITTLE, "FE FF DD E0 00 00 00 00", (SEQUENCE_DELIMITER, b"", 0, 8)),
}


@pytest.mark.parametrize(("encoding", "text", "header"), ROWS.values(), ids=ROWS)
def test_golden_bytes(encoding: Encoding, text: str, header: tuple[int, bytes, int, int]) -> None:
    data = golden(text).data
    tag, vr, length, body = header
    assert encoding.read(data, 0, len(data)) == header
    assert encoding.read(b"\xff" + data, 1, 1 + len(data)) == (tag, vr, length, body + 1)
    assert (encoding.header(tag, vr, length) if vr else encoding.item(tag, length)) == data
    for end in range(len(data)):
        assert encoding.read(data, 0, end) is None


tags = st.integers(0, 0xFFFDFFFF)


@given(encoding=st.sampled_from(ENCODINGS), tag=tags, vr=st.sampled_from(sorted(KNOWN_VRS)), data=st.data())
def test_encoded_headers_are_read(encoding: Encoding, tag: int, vr: bytes, data: st.DataObject) -> None:
    long = vr in LONG_VRS or not encoding.explicit
    length = data.draw(st.integers(0, UNDEFINED_LENGTH if long else 0xFFFF))
    octets = encoding.header(tag, vr, length)
    read = encoding.read(octets, 0, len(octets))
    assert read == (tag, vr if encoding.explicit else b"", length, len(octets))


@given(encoding=st.sampled_from(ENCODINGS), tag=st.integers(0, 0xFFFFFFFF), length=st.integers(0, UNDEFINED_LENGTH))
def test_an_item_that_was_encoded_is_read_whatever_its_tag(encoding: Encoding, tag: int, length: int) -> None:
    assert encoding.read_item(encoding.item(tag, length), 0, 8) == (tag, length)
    assert encoding.read_item(encoding.item(tag, length), 0, 7) is None


@given(encoding=st.sampled_from(ENCODINGS), data=st.binary(max_size=16), at=st.integers(0, 16))
def test_any_bytes_are_a_header_or_none(encoding: Encoding, data: bytes, at: int) -> None:
    read = encoding.read(data, at, len(data))
    assert read is None or read[3] <= len(data)


@pytest.mark.parametrize("vr", sorted(SHORT_VRS))
def test_a_length_that_a_vr_cannot_have_is_an_error(vr: bytes) -> None:
    with pytest.raises(struct.error):
        EXPLICIT_LITTLE.header(0x00080018, vr, 1 << 16)


def test_each_transfer_syntax_has_its_encoding() -> None:
    for syntax in transfer_syntaxes:
        encoding = encoding_of(syntax)
        assert encoding.explicit is not syntax.implicit_vr
        assert (encoding.byte_order == "little") is syntax.little_endian
    assert encoding_of(None) is EXPLICIT_LITTLE


def test_a_tag_is_written_as_in_the_standard() -> None:
    assert format_tag(0x7FE00010) == "(7FE0,0010)"

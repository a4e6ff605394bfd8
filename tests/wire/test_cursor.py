"""Reading field by field, and writing within the fields' ranges."""

from collections import Counter
from collections.abc import Callable

import pytest

from dicomport.wire import Deviation, EncodeError, ProtocolError, ProtocolLimits
from dicomport.wire.cursor import (
    Cursor,
    pack_ae_title,
    pack_bytes16,
    pack_text16,
    pack_u8,
    pack_u16,
    pack_u32,
)


def test_fields_are_read_big_endian_and_in_order() -> None:
    cursor = Cursor(bytes.fromhex("01 0203 04050607 0002 AABB CC DD"), "test")
    assert cursor.u8("a") == 0x01
    assert cursor.u16("b") == 0x0203
    assert cursor.u32("c") == 0x04050607
    assert cursor.bytes16("d") == b"\xaa\xbb"
    assert cursor.remaining == 2
    assert cursor.rest() == b"\xcc\xdd"
    assert cursor.rest() == b""
    cursor.end()


def test_a_read_past_the_end_names_the_field_and_reads_nothing() -> None:
    cursor = Cursor(b"\1", "outer")
    with pytest.raises(ProtocolError, match=r"^outer: length needs 2 bytes, but only 1 are left \(offset 0\)$"):
        cursor.u16("length")
    with pytest.raises(ProtocolError, match="number needs 4 bytes, but only 1 are left"):
        cursor.u32("number")
    assert cursor.u8("octet") == 1
    with pytest.raises(ProtocolError, match=r"octet needs 1 bytes, but only 0 are left \(offset 1\)"):
        cursor.u8("octet")


def test_octets_left_over_are_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="2 bytes are left over"):
        Cursor(b"\1\2", "test").end()


def test_limits_and_notes_travel_into_nested_structures() -> None:
    limits, notes = ProtocolLimits(user_items=7), Counter[Deviation]()
    cursor = Cursor(bytes.fromhex("50 00 0008 52 00 0004") + b"1.2\0" + b"\xff", "test", limits=limits, notes=notes)
    kind, outer = cursor.item()
    inner_kind, inner = outer.item()
    assert (kind, inner_kind) == (0x50, 0x52)
    assert inner.limits is limits
    assert inner.uid(inner.rest()) == "1.2"
    assert notes == {Deviation.UID_PADDING: 1}
    assert (inner.remaining, outer.remaining, cursor.remaining) == (0, 0, 1)


def test_a_nested_structure_cannot_read_its_neighbour() -> None:
    inner = Cursor(b"\1\2\3", "outer").sub(2, "inner")
    assert inner.read(2, "all") == b"\1\2"
    with pytest.raises(ProtocolError, match=r"^inner: "):
        inner.u8("more")


def test_each_cursor_has_its_counter_by_default() -> None:
    first, second = Cursor(b"", "a"), Cursor(b"", "b")
    first.note(Deviation.UID_PADDING)
    assert (first.notes, second.notes) == ({Deviation.UID_PADDING: 1}, {})


@pytest.mark.parametrize(("pack", "size"), [(pack_u8, 1), (pack_u16, 2), (pack_u32, 4)])
def test_numbers_are_written_within_their_range(pack: Callable[[int, str], bytes], size: int) -> None:
    top = 256**size - 1
    assert pack(0, "n") == bytes(size)
    assert pack(1, "n") == bytes(size - 1) + b"\1"
    assert pack(top, "n") == b"\xff" * size
    for wrong in (-1, top + 1):
        with pytest.raises(EncodeError, match=f"n {wrong} is not between 0 and {top}"):
            pack(wrong, "n")


def test_lengths_are_written_within_their_range() -> None:
    assert pack_bytes16(bytes(65535), "blob") == b"\xff\xff" + bytes(65535)
    assert pack_text16("é1", "text") == b"\0\2\xe91"
    with pytest.raises(EncodeError, match="blob length 65536"):
        pack_bytes16(bytes(65536), "blob")
    with pytest.raises(EncodeError, match="invalid characters"):
        pack_text16("…", "text")


def test_ae_titles_are_written_as_sixteen_octets() -> None:
    assert pack_ae_title("A", "title") == b"A               "
    assert pack_ae_title("SIXTEEN_CHARS_16", "title") == b"SIXTEEN_CHARS_16"
    with pytest.raises(EncodeError, match="has 17 characters"):
        pack_ae_title("SEVENTEEN_CHARS_X", "title")
    with pytest.raises(EncodeError, match="invalid characters"):
        pack_ae_title("中", "title")

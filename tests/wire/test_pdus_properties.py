"""Decoding encoded bytes returns the value; any other bytes are a value or raise the package's errors."""

from collections import Counter
from typing import Final

from hypothesis import example, given, settings, strategies as st
from tests.wire import strategies as some
from tests.wire.command_goldens import COMMANDS
from tests.wire.golden import with_pdu_length
from tests.wire.pdu_goldens import ITEMS, PDUS, Item

from dicomport.wire import (
    Command,
    CommandError,
    Deviation,
    FileMeta,
    FileMetaError,
    Pdu,
    ProtocolError,
    RawCommand,
    Response,
    decode,
    decode_command,
    decode_file_meta,
    encode,
    encode_command,
    encode_file_meta,
)
from dicomport.wire.cursor import Cursor

quick: Final = settings(max_examples=100, deadline=None)

# The position of a change, modulo the length.
places: Final = st.integers(0, 1 << 16)
damages: Final = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "graft", "repeat"]), places, st.binary(min_size=1, max_size=6)),
    min_size=1,
    max_size=4,
)


def damaged(data: bytes, damage: list[tuple[str, int, bytes]]) -> bytes:
    for kind, place, patch in damage:
        at = place % (len(data) or 1)
        if kind == "flip":
            data = data[:at] + patch + data[at + len(patch) :]
        elif kind == "cut":
            data = data[:at] + data[at + len(patch) :]
        elif kind == "graft":
            data = data[:at] + patch + data[at:]
        else:
            data = data[:at] + data[at : at + 20] * patch[0] + data[at + 20 :]
    return data


def read_pdu(data: bytes) -> None:
    try:
        pdu = decode(data)
    except ProtocolError:
        return
    assert decode(encode(pdu)) == pdu


def answerable(error: CommandError) -> None:
    answer = decode_command(encode_command(error.command.refusal(error.status, offending=(error.offending,))))
    assert isinstance(answer, Response)
    assert (answer.status, answer.offending_element) == (error.status, (error.offending,))


def read_command(data: bytes) -> None:
    try:
        command = decode_command(data)
    except CommandError as error:
        answerable(error)
    except ProtocolError:
        return
    else:
        assert decode_command(encode_command(command)) == command


def read_file_meta(data: bytes) -> None:
    try:
        meta, offset = decode_file_meta(data)
    except FileMetaError:
        return
    assert 132 <= offset <= len(data)
    assert decode_file_meta(encode_file_meta(meta) + bytes(8))[0] == meta


@quick
@given(some.pdus)
def test_every_pdu_reads_as_it_was_written(pdu: Pdu) -> None:
    assert decode(encode(pdu)) == pdu


@quick
@given(some.items)
def test_every_item_reads_as_it_was_written(item: Item) -> None:
    cursor = Cursor(item.encode(), "test")
    kind, body = cursor.item()
    assert kind == item.KIND
    assert type(item).decode(body) == item
    body.end()
    cursor.end()


@quick
@given(some.commands)
def test_every_command_reads_as_it_was_written(command: Command) -> None:
    assert decode_command(encode_command(command)) == command
    assert type(command).from_raw(command.to_raw()) == command


@quick
@given(some.raw_commands)
def test_every_raw_command_reads_as_it_was_written(command: RawCommand) -> None:
    octets = encode_command(command)
    notes: Counter[Deviation] = Counter()
    assert RawCommand.decode(octets, notes) == command
    assert not notes


@quick
@given(some.file_metas, st.binary(min_size=8, max_size=20).map(lambda tail: b"\x08\0" + tail))
def test_every_file_meta_reads_as_it_was_written(meta: FileMeta, data_set: bytes) -> None:
    octets = encode_file_meta(meta)
    assert decode_file_meta(octets + data_set) == (meta, len(octets))


@quick
@given(st.binary(max_size=200))
def test_any_octets_are_survived(data: bytes) -> None:
    read_pdu(data)
    read_command(data)
    read_file_meta(data)


@quick
@given(st.sampled_from(range(1, 8)), st.binary(max_size=200))
def test_any_body_of_a_pdu_is_survived(kind: int, body: bytes) -> None:
    read_pdu(with_pdu_length(bytes((kind,)) + bytes(5) + body))


nested: Final = st.recursive(
    st.binary(max_size=12),
    lambda bodies: st.lists(
        st.tuples(st.sampled_from([0x10, 0x20, 0x21, 0x30, 0x40, *range(0x50, 0x5A), 0xF0]), bodies), max_size=5
    ).map(lambda pairs: b"".join(bytes((kind, 0)) + len(body).to_bytes(2, "big") + body for kind, body in pairs)),
    max_leaves=12,
)


@quick
@given(st.sampled_from([1, 2]), nested)
@example(1, bytes.fromhex("50 00 0004 50 00 0000"))
def test_any_nest_of_items_is_survived(kind: int, items: bytes) -> None:
    read_pdu(with_pdu_length(bytes((kind,)) + bytes(5) + b"\0\1\0\0" + b" " * 32 + bytes(32) + items))


@quick
@given(st.sampled_from([octets.data for octets, _ in PDUS.values()]), damages)
def test_a_damaged_pdu_is_survived(octets: bytes, damage: list[tuple[str, int, bytes]]) -> None:
    data = damaged(octets, damage)
    read_pdu(data)
    read_pdu(with_pdu_length(data))


@quick
@given(st.sampled_from(list(ITEMS.values())), damages)
def test_a_damaged_item_is_survived(item: tuple[object, Item], damage: list[tuple[str, int, bytes]]) -> None:
    data = damaged(item[1].encode()[4:], damage)
    try:
        value = type(item[1]).decode(Cursor(data, "test"))
    except ProtocolError:
        return
    assert type(value).decode(Cursor(value.encode()[4:], "test")) == value


@quick
@given(st.sampled_from([octets.data for octets, _ in COMMANDS.values()]), damages)
def test_a_damaged_command_is_survived(octets: bytes, damage: list[tuple[str, int, bytes]]) -> None:
    read_command(damaged(octets, damage))


@quick
@given(some.file_metas, damages)
def test_a_damaged_file_meta_is_survived(meta: FileMeta, damage: list[tuple[str, int, bytes]]) -> None:
    octets = encode_file_meta(meta)
    read_file_meta(octets[:132] + damaged(octets[132:] + bytes(16), damage))

"""Earlier data sets change only the speed of reading the next one, not the result."""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from tests.wire.command_goldens import COMMANDS
from tests.wire.test_filemeta import DATA_SET, GOLDEN

from dicomport.encoding.templates import Templates
from dicomport.wire import Deviation, FileMetaError, ProtocolError, RawCommand, command_sets, decode_file_meta, filemeta


def read_command(data: bytes) -> object:
    notes: Counter[Deviation] = Counter()
    try:
        return RawCommand.decode(data, notes), notes
    except ProtocolError as error:
        return str(error), notes


def read_file_meta(data: bytes) -> object:
    try:
        return decode_file_meta(data)
    except FileMetaError as error:
        return type(error), str(error)


def mutated(data: bytes, first: int) -> Iterator[bytes]:
    """Spoil each octet in turn, cut the data off behind it, or take it out."""
    for at in range(first, len(data)):
        yield from (data[:at] + bytes((data[at] ^ flip,)) + data[at + 1 :] for flip in (0x01, 0x02, 0x80, data[at]))
        yield data[:at]
        yield data[:at] + data[at + 1 :]


@pytest.mark.parametrize(
    ("read", "example", "first"),
    [
        *((read_command, octets.data, 0) for octets, _ in COMMANDS.values()),
        (read_file_meta, GOLDEN.data + DATA_SET, 128),
    ],
)
def test_an_example_changes_no_result(
    monkeypatch: pytest.MonkeyPatch, read: Callable[[bytes], object], example: bytes, first: int
) -> None:
    def forget() -> None:
        monkeypatch.setattr(command_sets, "_templates", Templates())
        monkeypatch.setattr(filemeta, "_templates", Templates())

    for data in (example, *mutated(example, first)):
        forget()
        expected = read(data)
        forget()
        read(example)
        assert read(data) == expected
        assert read(data) == expected


def test_no_more_templates_are_remembered_than_there_is_room_for() -> None:
    templates = Templates()
    for length in range(1000):
        templates.add(length, [(1, b"header", 0)])
    found = [templates.match(length, b"header") for length in range(1000)]
    assert found.count(({1: b""}, 6)) + found.count(None) == 1000
    assert 0 < found.count(({1: b""}, 6)) <= 128


def test_a_template_of_very_many_elements_is_not_remembered() -> None:
    templates = Templates()
    templates.add(1, [(number, b"header", 0) for number in range(100_000)])
    assert templates.match(1, b"header" * 100_000) is None


def test_a_template_of_no_element_is_not_remembered() -> None:
    templates = Templates()
    templates.add(0, [])
    assert templates.match(0, b"") is None

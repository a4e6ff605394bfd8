"""Data sets in memory, up to a length."""

import pytest
from hypothesis import given, strategies as st

from dicomport.dimse import DataSetBuffer


@given(st.lists(st.binary(max_size=20)), st.integers(0, 100))
def test_a_data_set_is_complete_or_none(pieces: list[bytes], max_bytes: int) -> None:
    data_set = DataSetBuffer(max_bytes)
    for piece in pieces:
        data_set.append(memoryview(piece))

    data = b"".join(pieces)
    assert data_set.size == len(data)
    assert data_set.data == (data if len(data) <= max_bytes else None)


def test_bytes_are_copied() -> None:
    piece = bytearray(b"1234")
    data_set = DataSetBuffer(4)
    data_set.append(piece)
    piece[:] = bytes(4)

    assert data_set.data == b"1234"


@pytest.mark.parametrize("more", [1, 1000])
def test_a_long_data_set_is_not_kept(more: int) -> None:
    data_set = DataSetBuffer(10)
    for _ in range(10 + more):
        data_set.append(b"x")

    assert (data_set.size, data_set.data) == (10 + more, None)

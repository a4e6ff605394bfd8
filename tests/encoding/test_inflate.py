"""Bounded inflating: never more than the bound, in any split, and whole streams only."""

import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st
from tests.encoding.encode import cut

from dicomport.encoding.errors import DataSetError, DataSetTooLongError
from dicomport.encoding.inflate import BoundedInflater, Inflater, deflate, inflate

octets = st.binary(max_size=400).map(lambda raw: raw * 20)


@given(data=octets)
def test_deflated_bytes_are_inflated(data: bytes) -> None:
    deflated = deflate(data)
    assert len(deflated) % 2 == 0
    assert inflate(deflated, len(data)) == data
    assert zlib.decompress(deflated, -15) == data


@given(data=octets.filter(len))
def test_no_more_is_inflated_than_the_bound(data: bytes) -> None:
    with pytest.raises(DataSetTooLongError, match=f"more than {len(data) - 1} bytes"):
        inflate(deflate(data), len(data) - 1)


def test_a_stream_that_is_cut_or_none_is_an_error() -> None:
    deflated = deflate(bytes(1000))
    for size in range(len(deflated) - 2):
        with pytest.raises(DataSetError, match="ends inside"):
            inflate(deflated[:size], 1000)
    with pytest.raises(DataSetError, match="not a deflated stream"):
        inflate(b"\xff" * 20, 1000)


@given(data=octets, cuts=st.lists(st.integers(min_value=0), max_size=6), bound=st.integers(0, 10_000))
def test_in_any_split_the_same_is_inflated(data: bytes, cuts: Sequence[int], bound: int) -> None:
    inflater = BoundedInflater(bound)
    inflated = b"".join(piece for part in cut(deflate(data), cuts) for piece in inflater.pieces(part))
    assert inflated == data[: bound + 1]
    assert inflater.exceeded is (len(data) > bound)
    assert inflater.inflated == len(inflated)
    if not inflater.exceeded:
        assert inflater.eof


@given(data=octets, good=st.integers(0, 300))
def test_bytes_before_an_error_are_inflated(data: bytes, good: int) -> None:
    """The result equals that of inflating byte by byte."""
    deflated = deflate(data)[:good] + b"\xff" * 30

    def inflated(parts: Sequence[bytes]) -> tuple[bytes, bool]:
        inflater = BoundedInflater(1 << 20)
        pieces: list[bytes] = []
        try:
            for part in parts:
                pieces.extend(inflater.pieces(part))
        except DataSetError:
            return b"".join(pieces), False
        return b"".join(pieces), True

    whole, byte_by_byte = inflated([deflated]), inflated([bytes((octet,)) for octet in deflated])
    assert whole[1] is byte_by_byte[1]
    assert byte_by_byte[0].startswith(whole[0])


@pytest.mark.parametrize("gzip", [False, True])
def test_an_inflater_is_used_like_those_of_bz2_and_lzma(*, gzip: bool) -> None:
    stream = zlib.compressobj(wbits=31 if gzip else -15)
    deflated = stream.compress(bytes(100_000)) + stream.flush()
    inflater = Inflater(gzip=gzip)
    found = inflater.decompress(deflated + b"more", 1000)
    assert not inflater.needs_input
    while not inflater.eof:
        found += inflater.decompress(b"", 1000)
    assert found == bytes(100_000)
    assert inflater.unused_data == b"more"

"""Bounded inflating: a deflated stream never makes more bytes than its caller allows (PS3.5 A.5, RFC 1951)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from dicomport.encoding.errors import DataSetError, DataSetTooLongError

_RAW: Final = -zlib.MAX_WBITS
"""Neither header nor checksum, as in a data set (PS3.5 A.5) and in zip archives."""
_GZIP: Final = 16 + zlib.MAX_WBITS

# zlib returns the input that it did not reach, which is copied for each piece of output: so input is fed in pieces.
_DEFLATED_PIECE: Final = 16 << 10
_INFLATED_PIECE: Final = 64 << 10


class Inflater:
    """zlib's decompressor, with the interface of `bz2.BZ2Decompressor` and `lzma.LZMADecompressor`."""

    __slots__ = ("_zlib",)

    def __init__(self, *, gzip: bool = False) -> None:
        self._zlib = zlib.decompressobj(_GZIP if gzip else _RAW)

    @property
    def eof(self) -> bool:
        """Whether the end of the stream has been reached."""
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        """The bytes after the end of the stream."""
        return self._zlib.unused_data

    @property
    def needs_input(self) -> bool:
        """Whether more output requires more input."""
        return not self._zlib.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return up to `max_length` bytes of output; input beyond that is kept. Raises `DataSetError`."""
        try:
            return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        except zlib.error as error:
            raise DataSetError(f"not a deflated stream: {error}") from None


class BoundedInflater(Inflater):
    """Inflates a stream that arrives in pieces, up to a bound."""

    __slots__ = ("_max_bytes", "inflated", "tail")

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes
        self.inflated = 0
        """Length of the output so far, bytes."""
        self.tail = b""
        """The first two bytes after the stream."""

    @property
    def exceeded(self) -> bool:
        """Whether the stream makes more bytes than the bound."""
        return self.inflated > self._max_bytes

    def pieces(self, deflated: memoryview | bytes) -> Iterator[bytes]:
        """Inflate the next bytes of the stream. Raises `DataSetError` if they are not part of one."""
        for start in range(0, len(deflated), _DEFLATED_PIECE):
            rest = deflated[start : start + _DEFLATED_PIECE]
            if self.eof:
                self.tail += rest[: 2 - len(self.tail)]
                return
            more = True
            while more and not self.exceeded:
                # The byte above the bound distinguishes a stream that ends at the bound from a longer one.
                max_length = min(_INFLATED_PIECE, self._max_bytes + 1 - self.inflated)
                before = self._zlib.copy() if len(rest) > 1 else self._zlib
                try:
                    piece = self._zlib.decompress(rest, max_length)
                except zlib.error as error:
                    if before is self._zlib:
                        raise DataSetError(f"not a deflated stream: {error}") from None
                    # The output before the error is lost with it: halving the input saves all but the last byte's.
                    self._zlib = before
                    half = len(rest) // 2
                    yield from self.pieces(rest[:half])
                    yield from self.pieces(rest[half:])
                    return
                rest = self._zlib.unconsumed_tail
                self.inflated += len(piece)
                yield piece
                more = not self._zlib.eof and (len(rest) > 0 or len(piece) == max_length)
            self.tail = self._zlib.unused_data[:2]


def inflate(deflated: bytes, max_bytes: int) -> bytes:
    """Inflate a whole stream; bytes after its end are ignored. Raises `DataSetError`, `DataSetTooLongError`."""
    inflater = Inflater()
    data = inflater.decompress(deflated, max_bytes + 1)
    if len(data) > max_bytes:
        raise DataSetTooLongError(f"inflates to more than {max_bytes} bytes")
    if not inflater.eof:
        raise DataSetError("ends inside the deflated stream")
    return data


def deflate(data: bytes) -> bytes:
    """Deflate a whole data set, padded to even length with a NUL (PS3.5 A.5)."""
    deflater = zlib.compressobj(wbits=_RAW)
    deflated = deflater.compress(data) + deflater.flush()
    return deflated + b"\0" * (len(deflated) % 2)

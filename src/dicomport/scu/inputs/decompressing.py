"""Read a part of a file forward, and decompress it in bounded memory, independent of the sizes that it states."""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable
from typing import Final, Protocol

from dicomport.encoding.errors import DataSetError
from dicomport.encoding.inflate import Inflater
from dicomport.files import system
from dicomport.wire import FileMetaError

TOO_LONG: Final = "its decompressed size exceeds the limit: the rest is not read"
"""The reason for not reading an archive to its end."""

_PIECE_BYTES: Final = 1 << 16
"""Bytes that are read or decompressed at once."""

_XZ_MEMORY: Final = 256 << 20
"""Memory limit for liblzma, bytes: its strongest preset has a dictionary of 64 MiB, but a header may state 4 GiB."""


class Decompressor(Protocol):
    """The common interface of the decompressors of `bz2` and `lzma`."""

    @property
    def eof(self) -> bool:
        """Whether the end of the compressed stream has been reached."""

    @property
    def unused_data(self) -> bytes:
        """The bytes after that end."""

    @property
    def needs_input(self) -> bool:
        """Whether more output needs more input."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Consume input, and return up to `max_length` bytes of output."""


def begin_raw() -> Decompressor:
    """Return a decompressor for a deflated stream without a header, as in zip archives."""
    return Inflater()


def begin_gzip() -> Decompressor:
    """Return a decompressor for a gzip stream."""
    return Inflater(gzip=True)


def begin_bzip2() -> Decompressor:
    """Return a decompressor for a bzip2 stream."""
    return bz2.BZ2Decompressor()


def begin_xz() -> Decompressor:
    """Return a decompressor for an xz stream, or for the older lzma format."""
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)


class RangeReader:
    """Reads a part of a file forward."""

    def __init__(self, descriptor: int, start: int, end: int) -> None:
        self._descriptor = descriptor
        self._end = end
        self._piece = memoryview(b"")
        """Bytes that were read from the file, but not yet by the caller."""
        self._at = start
        self.position = 0
        """Number of bytes that the caller has read."""

    def read(self, size: int) -> bytes:
        """Read `size` bytes, fewer only at the end. Raises `OSError`, and `FileMetaError` for damaged data."""
        data = bytearray()
        while len(data) < size and (piece := self._some(size - len(data))):
            data += piece
        return bytes(data)

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer, except at the end; return the number of bytes. Raises as `read` does."""
        filled = 0
        while filled < len(buffer) and (piece := self._some(len(buffer) - filled)):
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
        return filled

    def skip(self, size: int) -> bool:
        """Skip `size` bytes; return False if there are fewer. Raises as `read` does."""
        self.position += size
        self._at += max(size - len(self._piece), 0)
        self._piece = self._piece[size:]
        return self._at <= self._end

    def _some(self, size: int) -> memoryview:
        """Return 1 to `size` bytes, none at the end."""
        if not self._piece:
            self._piece = memoryview(self._more())
        piece, self._piece = self._piece[:size], self._piece[size:]
        self.position += len(piece)
        return piece

    def _more(self) -> bytes:
        """Return at least one byte, none at the end."""
        data = system.pread(self._descriptor, max(min(_PIECE_BYTES, self._end - self._at), 0), self._at)
        self._at += len(data)
        return data


class DecompressingReader(RangeReader):
    """Reads the decompressed content of a part of a file forward. Consecutive streams are read as one."""

    def __init__(self, descriptor: int, start: int, end: int, begin: Callable[[], Decompressor], limit: int) -> None:
        super().__init__(descriptor, start, end)
        self._left = limit
        """Number of bytes that may still be decompressed."""
        self._begin = begin
        self._decompressor = begin()

    def skip(self, size: int) -> bool:
        """Decompress and skip `size` bytes; return False if there are fewer. Raises as `read` does."""
        while size and (piece := self._some(size)):
            size -= len(piece)
        return not size

    def _more(self) -> bytes:
        while True:
            data, at_end = b"", False
            if self._decompressor.eof:
                data = self._decompressor.unused_data or super()._more()
                if not data:
                    return b""
                self._decompressor = self._begin()
            elif self._decompressor.needs_input:
                data = super()._more()
                at_end = not data
            try:
                output = self._decompressor.decompress(data, _PIECE_BYTES)
            except (DataSetError, lzma.LZMAError, OSError) as error:
                raise FileMetaError(f"the compressed data is damaged: {error}") from None
            if at_end and not output:
                raise FileMetaError("the compressed data is truncated")
            if output:
                self._left -= len(output)
                if self._left < 0:
                    raise FileMetaError(TOO_LONG)
                return output

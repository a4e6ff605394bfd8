"""Decompressing a stretch of a file as it is read, in bounded memory whatever it says of itself."""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable
from typing import Final, Protocol

from dicomport.encoding.errors import DataSetError
from dicomport.encoding.inflate import Inflater
from dicomport.files import system
from dicomport.wire import FileMetaError

__all__ = [
    "TOO_MUCH",
    "DecompressingReader",
    "Decompressor",
    "RangeReader",
    "begin_bzip2",
    "begin_gzip",
    "begin_raw",
    "begin_xz",
]

TOO_MUCH: Final = "it unpacks to so much more than it is that the rest of it is left out"
"""Why an archive is not read to its end."""

_PIECE_BYTES: Final = 1 << 16
"""What is read, or decompressed, at once, bytes."""

_XZ_MEMORY: Final = 256 << 20
"""What liblzma may take, bytes: its strongest preset has a dictionary of 64 MiB, but a header may ask for 4 GiB."""


class Decompressor(Protocol):
    """What the decompressors of `bz2` and `lzma` have in common."""

    @property
    def eof(self) -> bool:
        """Whether the end of the compressed stream has been reached."""

    @property
    def unused_data(self) -> bytes:
        """What followed that end."""

    @property
    def needs_input(self) -> bool:
        """Whether there is no more to be had without more input."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Take input and give some output."""


def begin_raw() -> Decompressor:
    """Begin a deflated stream without a header, as zip archives have them."""
    return Inflater()


def begin_gzip() -> Decompressor:
    """Begin a stream of gzip."""
    return Inflater(gzip=True)


def begin_bzip2() -> Decompressor:
    """Begin a stream of bzip2."""
    return bz2.BZ2Decompressor()


def begin_xz() -> Decompressor:
    """Begin a stream of xz, or of lzma as it was before."""
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)


class RangeReader:
    """Reads forward through a stretch of a file."""

    def __init__(self, descriptor: int, start: int, end: int) -> None:
        self._descriptor = descriptor
        self._end = end
        self._piece = memoryview(b"")
        """What was had and not taken yet."""
        self._at = start
        self.position = 0
        """How much was taken so far, bytes."""

    def read(self, size: int) -> bytes:
        """Take so many bytes, fewer at the end only. Raises `OSError`, and `FileMetaError` for damaged data."""
        data = bytearray()
        while len(data) < size and (piece := self._take(size - len(data))):
            data += piece
        return bytes(data)

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer, less of it at the end only, and tell how much. Raises as `read` does."""
        filled = 0
        while filled < len(buffer) and (piece := self._take(len(buffer) - filled)):
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
        return filled

    def skip(self, size: int) -> bool:
        """Pass over so many bytes; False where there are not as many. Raises as `read` does."""
        self.position += size
        self._at += max(size - len(self._piece), 0)
        self._piece = self._piece[size:]
        return self._at <= self._end

    def _take(self, size: int) -> memoryview:
        """Take at least one byte and at most so many, none at the end."""
        if not self._piece:
            self._piece = memoryview(self._more())
        piece, self._piece = self._piece[:size], self._piece[size:]
        self.position += len(piece)
        return piece

    def _more(self) -> bytes:
        """Get at least one byte, none at the end."""
        data = system.pread(self._descriptor, max(min(_PIECE_BYTES, self._end - self._at), 0), self._at)
        self._at += len(data)
        return data


class DecompressingReader(RangeReader):
    """Reads forward through what a stretch of a file was compressed from; streams that follow one another are one."""

    def __init__(self, descriptor: int, start: int, end: int, begin: Callable[[], Decompressor], most: int) -> None:
        super().__init__(descriptor, start, end)
        self._left = most
        """How much may still come out of it, bytes."""
        self._begin = begin
        self._decompressor = begin()

    def skip(self, size: int) -> bool:
        """Pass over so many bytes by unpacking them; False where there are not as many. Raises as `read` does."""
        while size and (piece := self._take(size)):
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
                unpacked = self._decompressor.decompress(data, _PIECE_BYTES)
            except (DataSetError, lzma.LZMAError, OSError) as error:
                raise FileMetaError(f"the compressed data is damaged: {error}") from None
            if unpacked or at_end:
                self._left -= len(unpacked)
                if self._left < 0:
                    raise FileMetaError(TOO_MUCH)
                return unpacked

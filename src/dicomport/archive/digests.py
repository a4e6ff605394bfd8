"""BLAKE3 digests of stored data sets."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Final

from blake3 import blake3

from dicomport.files import read_part10
from dicomport.wire import FileMetaError

CHUNK_BYTES: Final = 1 << 20
"""Bytes of a data set to read at a time."""


class Digested:
    """The chunks of a data set; its digest is complete after the last one."""

    def __init__(self, chunks: Iterable[memoryview]) -> None:
        self._chunks = chunks
        self._digest = blake3()

    def __iter__(self) -> Iterator[memoryview]:
        for chunk in self._chunks:
            self._digest.update(chunk)
            yield chunk

    @property
    def digest(self) -> str:
        """Digest of the chunks so far."""
        return self._digest.hexdigest()


def compare(path: str | Path, digest: str) -> Generator[None, None, bool]:
    """Return whether a file contains a data set with this digest; stop after each chunk. Raises `OSError`."""
    try:
        data_set = Digested(read_part10(path).chunks(CHUNK_BYTES))
        for _ in data_set:
            yield
    except FileMetaError:
        return False
    return data_set.digest == digest


def has_digest(path: str | Path, digest: str, after_chunk: Callable[[], object] = lambda: None) -> bool:
    """Return whether a file contains a data set with this digest. Raises `OSError`.

    An exception of `after_chunk`, which is called after each chunk, ends the reading.
    """
    steps = compare(path, digest)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return bool(end.value)
        after_chunk()

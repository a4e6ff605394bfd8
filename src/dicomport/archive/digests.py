"""BLAKE3 digests of stored data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from blake3 import blake3

from dicomport.files import read_part10
from dicomport.wire import FileMetaError

CHUNK_BYTES: Final = 1 << 20
"""Bytes of a data set to read at a time."""


def data_set_digest(path: str | Path, before_chunk: Callable[[], object] = lambda: None) -> tuple[str, int]:
    """Return the digest of a stored data set, and its size in bytes. Raises `OSError` and `FileMetaError`.

    An exception of `before_chunk`, which is called before each chunk is read, ends the reading.
    """
    file, digest = read_part10(path), blake3()
    for chunk in file.chunks(CHUNK_BYTES):
        before_chunk()
        digest.update(chunk)
    return digest.hexdigest(), file.size


def has_digest(path: str | Path, digest: str, before_chunk: Callable[[], object] = lambda: None) -> bool:
    """Return whether a file contains a data set with this digest; see `data_set_digest`. Raises `OSError`."""
    try:
        return data_set_digest(path, before_chunk)[0] == digest
    except FileMetaError:
        return False

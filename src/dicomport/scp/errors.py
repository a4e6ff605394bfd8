"""What a handler may run into."""

from __future__ import annotations

from dicomport.errors import DicomportError

__all__ = ["UndecodableDataSetError"]


class UndecodableDataSetError(DicomportError):
    """The received data set can't be decoded. Not caught by a handler, it is answered with 0xC210."""

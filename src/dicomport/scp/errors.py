"""Exceptions of the receiver."""

from __future__ import annotations

from dicomport.errors import DicomportError


class UndecodableDataSetError(DicomportError):
    """The received data set can't be decoded. If a handler does not catch this, the response has the status 0xC210."""

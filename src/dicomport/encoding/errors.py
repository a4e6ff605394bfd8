"""Exceptions of this room."""

from __future__ import annotations

from dicomport.errors import DicomportError


class DataSetError(DicomportError, ValueError):
    """The bytes are not a data set in this transfer syntax."""


class DataSetTooLongError(DataSetError):
    """The data set inflates to more bytes than the caller allows."""

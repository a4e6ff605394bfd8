"""Strict decoding with pydicom, which itself accepts a data set that is truncated."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from dicomport.encoding.headers import EXPLICIT_BIG, EXPLICIT_LITTLE, UNDEFINED_LENGTH, Encoding
from dicomport.errors import DicomportError
from dicomport.standard import EXPLICIT_VR_BIG_ENDIAN, find_transfer_syntax

if TYPE_CHECKING:
    import pydicom

_END: Final = 0xFFFFFFFF
"""Tag of an element that is appended to the data set. If the data set is truncated, its last element contains it."""

_END_BYTES: Final = int.from_bytes(b"UN", "little")
"""Length of the element's value in Implicit VR. Its bytes are the VR "UN" in Explicit VR: the element fits both."""


class UndecodableDataSetError(DicomportError):
    """The received data set cannot be decoded. If a handler does not catch this, the response has the status 0xC210."""


def decode(part10: io.BytesIO, transfer_syntax_uid: str) -> pydicom.FileDataset:
    """Decode a Part 10 file in memory; bytes are appended to it. Raises `UndecodableDataSetError`."""
    import pydicom
    from pydicom.dataelem import RawDataElement

    syntax = find_transfer_syntax(transfer_syntax_uid)
    try:
        # zlib detects a deflated data set that is truncated.
        if syntax is None or not syntax.deflated:
            part10.seek(0, io.SEEK_END)
            part10.write(_end(EXPLICIT_BIG if syntax is EXPLICIT_VR_BIG_ENDIAN else EXPLICIT_LITTLE))
            part10.seek(0)
        dataset = pydicom.dcmread(part10)
        if syntax is None or not syntax.deflated:
            if _END not in dataset:
                raise UndecodableDataSetError("the data set ends inside an element")
            del dataset[_END]
        for tag in dataset.keys():  # noqa: SIM118  # iterating over the data set would convert the elements
            raw: object = dataset.get_item(tag)
            if isinstance(raw, RawDataElement) and raw.length not in (UNDEFINED_LENGTH, len(raw.value or b"")):
                raise UndecodableDataSetError(f"{tag} is truncated")
        for _ in dataset.iterall():
            pass
    except UndecodableDataSetError:
        raise
    except Exception as error:  # pydicom raises exceptions of any class
        # Their text may quote values, and this text is logged.
        raise UndecodableDataSetError(f"pydicom cannot decode the data set: {type(error).__name__}") from error
    if not dataset:
        raise UndecodableDataSetError("the data set has no element")
    return dataset


def _end(encoding: Encoding) -> bytes:
    length = _END_BYTES - 4
    return encoding.header(_END, b"UN", length) + bytes(length)

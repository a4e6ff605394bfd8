"""Decoding with pydicom, strictly: pydicom itself is content with a data set that ends too early."""

from __future__ import annotations

import io
from typing import Final

import pydicom
from pydicom.dataelem import RawDataElement

from dicomport.encoding.headers import EXPLICIT_BIG, EXPLICIT_LITTLE, UNDEFINED_LENGTH, Encoding
from dicomport.scp.errors import UndecodableDataSetError
from dicomport.standard import EXPLICIT_VR_BIG_ENDIAN, find_transfer_syntax

__all__ = ["decode"]

_END: Final = 0xFFFFFFFF
"""The tag of an element that is put behind the data set: where that ends too early, it swallows the element."""

_END_BYTES: Final = int.from_bytes(b"UN", "little")
"""Length of its value in Implicit VR, where the VR is read as a length: so it is an element in Explicit VR too."""


def decode(part10: io.BytesIO, transfer_syntax_uid: str) -> pydicom.FileDataset:
    """Decode a Part 10 file in memory, which is appended to. Raises `UndecodableDataSetError`."""
    syntax = find_transfer_syntax(transfer_syntax_uid)
    try:
        # The end of a deflated data set is the business of zlib.
        if syntax is None or not syntax.deflated:
            part10.seek(0, io.SEEK_END)
            part10.write(_end(EXPLICIT_BIG if syntax is EXPLICIT_VR_BIG_ENDIAN else EXPLICIT_LITTLE))
            part10.seek(0)
        dataset = pydicom.dcmread(part10)
        if syntax is None or not syntax.deflated:
            if _END not in dataset:
                raise UndecodableDataSetError("it ends inside an element")
            del dataset[_END]
        for tag in dataset.keys():  # noqa: SIM118  # iterating over the data set itself would convert the elements
            raw: object = dataset.get_item(tag)
            if isinstance(raw, RawDataElement) and raw.length not in (UNDEFINED_LENGTH, len(raw.value or b"")):
                raise UndecodableDataSetError(f"{tag} ends too early")
        for _ in dataset.iterall():
            pass
    except UndecodableDataSetError:
        raise
    except Exception as error:  # pydicom raises whatever its parsing ran into
        # Its text may quote values, and ours goes to the log.
        raise UndecodableDataSetError(f"pydicom can't decode it: {type(error).__name__}") from error
    if not dataset:
        raise UndecodableDataSetError("there is no element in it")
    return dataset


def _end(encoding: Encoding) -> bytes:
    length = _END_BYTES - 4
    return encoding.header(_END, b"UN", length) + bytes(length)

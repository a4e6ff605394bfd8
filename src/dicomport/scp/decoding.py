"""Decoding with pydicom, strictly: pydicom itself is content with a data set that ends too early."""

from __future__ import annotations

import io

import pydicom
from pydicom.dataelem import RawDataElement

from dicomport.scp.requests import UndecodableDataSetError

__all__ = ["decode"]

_UNDEFINED_LENGTH = 0xFFFFFFFF


def decode(part10: io.BytesIO) -> pydicom.FileDataset:
    """Decode a Part 10 file in memory. Raises `UndecodableDataSetError`."""
    try:
        dataset = pydicom.dcmread(part10)
        for tag in dataset.keys():  # noqa: SIM118  # iterating over the data set itself would convert the elements
            raw: object = dataset.get_item(tag)
            if isinstance(raw, RawDataElement) and raw.length not in (_UNDEFINED_LENGTH, len(raw.value or b"")):
                raise UndecodableDataSetError(f"{tag} ends too early")
        for _ in dataset.iterall():
            pass
    except UndecodableDataSetError:
        raise
    except Exception as error:  # pydicom raises whatever its parsing ran into
        raise UndecodableDataSetError(f"pydicom can't decode it: {error!r}") from error
    if not dataset:
        raise UndecodableDataSetError("there is no element in it")
    return dataset

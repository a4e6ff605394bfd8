"""Files without File Meta Information, or with incomplete one: the data set provides the missing UIDs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Final

import pydicom

from dicomport.encoding.headers import UNDEFINED_LENGTH
from dicomport.files import Part10File, open_regular, system
from dicomport.standard import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    looks_like_uid,
)
from dicomport.wire import FileMeta

_SYNTAXES: Final[dict[tuple[bool | None, bool | None], str]] = {
    (True, True): IMPLICIT_VR_LITTLE_ENDIAN.uid,
    (False, True): EXPLICIT_VR_LITTLE_ENDIAN.uid,
    (False, False): EXPLICIT_VR_BIG_ENDIAN.uid,
}
_DEFERRED_BYTES: Final = 1024
"""Longer values are skipped, not read."""


def identify(path: str | Path) -> Part10File | None:
    """Identify a data set without Part 10 header; return None if its encoding or its UIDs are unknown."""
    descriptor, status = open_regular(path)
    try:
        start = system.pread(descriptor, 2, 0)
    finally:
        system.close(descriptor)
    # The first element of an instance has group 0008, in either byte order.
    if start not in (b"\x08\x00", b"\x00\x08"):
        return None
    dataset = _read(path)
    if dataset is None:
        return None
    syntax = _SYNTAXES.get(dataset.original_encoding)
    pixels: Any = dataset.get_item("PixelData", keep_deferred=True)
    if syntax is None or (pixels is not None and pixels.length == UNDEFINED_LENGTH):
        # Encapsulated pixel data: only the missing header would name the codec.
        return None
    return _with_uids(
        Part10File(path, FileMeta(transfer_syntax_uid=syntax), 0, status.st_size, status.st_mtime_ns), dataset
    )


def complete(found: Part10File) -> Part10File:
    """Return the file with its missing UIDs from the data set, if it has them."""
    dataset = _read(found.path)
    return (dataset is not None and _with_uids(found, dataset)) or found


def _read(path: str | Path) -> pydicom.FileDataset | None:
    try:
        return pydicom.dcmread(path, force=True, defer_size=_DEFERRED_BYTES)
    except Exception:  # noqa: BLE001  # pydicom raises exceptions of any type
        return None


def _with_uids(found: Part10File, dataset: pydicom.FileDataset) -> Part10File | None:
    try:
        sop_class, sop_instance = str(dataset.get("SOPClassUID", "")), str(dataset.get("SOPInstanceUID", ""))
    except Exception:  # noqa: BLE001  # see _read: only now are the values decoded
        return None
    if not (looks_like_uid(sop_class) and looks_like_uid(sop_instance)):
        return None
    meta = dataclasses.replace(
        found.meta, media_storage_sop_class_uid=sop_class, media_storage_sop_instance_uid=sop_instance
    )
    return dataclasses.replace(found, meta=meta)

"""Files that a DICOMDIR refers to (PS3.10 8.6), limited to those below its folder."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from typing import BinaryIO, Final

from pydicom.filereader import read_dataset, read_partial

from dicomport.encoding.headers import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    ITEM,
    LONG_HEADER,
    SEQUENCE_DELIMITER,
    SHORT_HEADER,
    UNDEFINED_LENGTH,
)
from dicomport.files import BoundedReader, open_regular
from dicomport.scu.inputs.found import unsendable
from dicomport.scu.results import InstanceResult
from dicomport.standard import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN

# PS3.3 Table F.3-3.
_RECORDS: Final = 0x00041220
_IN_USE: Final = 0x00041410
_FILE_ID: Final = 0x00041500
_NOT_IN_USE: Final = b"\0\0"

_SEPARATORS: Final = re.compile(r"[\\/]")
"""The standard defines the backslash (PS3.10 8.2); some writers use the slash."""

_EXTENSIONS: Final = (".dcm", ".DCM")

_NO_NAMES: Final = frozenset(("", ".", ".."))
_NO_NAME: Final = re.compile(r"[:\0]")
"""A drive letter, or a NUL, which no file system allows."""


def references(path: str) -> Iterator[str | InstanceResult]:
    """Yield the files that a DICOMDIR refers to, and results with the reason for those that cannot be sent."""
    folder = os.path.dirname(path)
    root = os.path.realpath(folder)
    try:
        descriptor, _ = open_regular(path)
        with BoundedReader(descriptor) as file:
            for file_id in _file_ids(file):
                yield _file(path, folder, root, file_id)
    except Exception as error:  # noqa: BLE001  # pydicom raises exceptions of any type
        yield unsendable(path, f"not a readable DICOMDIR: {error}")


def _file_ids(file: BinaryIO) -> Iterator[bytes]:
    """Yield the Referenced File IDs of the records in use. Only one record is in memory at a time."""
    head = read_partial(file, stop_when=lambda tag, _vr, _length: tag >= _RECORDS)
    implicit, little = head.original_encoding
    if (
        implicit is None
        or little is None
        or head.file_meta.get("TransferSyntaxUID") == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN.uid
    ):
        raise ValueError("invalid transfer syntax; expected an uncompressed one, such as Explicit VR Little Endian")
    encoding = IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE if little else EXPLICIT_BIG
    element = file.read(SHORT_HEADER if implicit else LONG_HEADER)
    if len(element) < SHORT_HEADER:
        return
    header = encoding.read(element, 0, len(element))
    if header is None:
        raise ValueError("the file ends within its records")
    tag, _, length, _ = header
    if tag != _RECORDS:
        return
    end = None if length == UNDEFINED_LENGTH else file.tell() + length
    while end is None or file.tell() < end:
        start = file.read(SHORT_HEADER)
        item = encoding.read_item(start, 0, len(start))
        if item is None:
            raise ValueError("the file ends within its records")
        tag, length = item
        if tag == SEQUENCE_DELIMITER:
            return
        if tag != ITEM:
            raise ValueError("expected an item with a record, found another tag")
        # With a length, `read_dataset` would search for these tags beyond it.
        source = file if length == UNDEFINED_LENGTH else io.BytesIO(file.read(length))
        record = read_dataset(source, implicit, little, specific_tags=[_IN_USE, _FILE_ID], at_top_level=False)
        values = {tag: record.get_item(tag).value for tag in (_IN_USE, _FILE_ID) if tag in record}
        if values.get(_FILE_ID) and values.get(_IN_USE) != _NOT_IN_USE:
            yield values[_FILE_ID]


def _file(path: str, folder: str, root: str, file_id: bytes) -> str | InstanceResult:
    """Return the path of the file.

    Copied from a medium, its name may be in lower case. Some writers add an extension, which a File ID cannot have.
    """
    text = os.fsdecode(file_id.rstrip(b" \0"))
    names = [name.strip() for name in _SEPARATORS.split(text)]
    if any(name in _NO_NAMES or _NO_NAME.search(name) for name in names):
        return unsendable(path, f"it refers to {text!r}, which is not a file below its folder")
    as_named, lower = os.path.join(folder, *names), os.path.join(folder, *(name.lower() for name in names))
    for file in (as_named, lower, *(path + extension for path in (as_named, lower) for extension in _EXTENSIONS)):
        if os.path.lexists(file):
            if os.path.commonpath((root, os.path.realpath(file))) != root:
                return unsendable(file, "the DICOMDIR refers to it, but a link leads outside its folder")
            return file
    return unsendable(os.path.join(folder, *names), "the DICOMDIR refers to it, but there is no such file")

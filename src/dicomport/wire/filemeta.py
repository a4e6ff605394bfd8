"""File Meta Information (PS3.10 7.1): a 128-byte preamble, "DICM", and group 0002 in Explicit VR Little Endian.

Real files also lack the preamble, or have group 0002 in Implicit VR or with a wrong length: these are read, too.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any, Final

from dicomport.encoding.headers import EXPLICIT_LITTLE, IMPLICIT_LITTLE, SHORT_HEADER, format_tag
from dicomport.encoding.templates import Templates
from dicomport.encoding.vr import is_vr
from dicomport.errors import DicomportError
from dicomport.values import frozen
from dicomport.wire.command_sets import decode_text, encode_text, encode_uid
from dicomport.wire.deviations import Deviation
from dicomport.wire.errors import EncodeError

_PREAMBLE: Final = bytes(128)
_PREFIX: Final = b"DICM"
_START: Final = len(_PREAMBLE) + len(_PREFIX)
_GROUP: Final = 0x0002

_GROUP_START: Final = b"\x02\0"
_GROUP_LENGTH_BYTES: Final = 4
_FIRST_END: Final = _START + SHORT_HEADER + _GROUP_LENGTH_BYTES
"""Offset of the end of the first element, if that is the group length."""


class FileMetaError(DicomportError, ValueError):
    """The File Meta Information cannot be read."""


class NotPart10Error(FileMetaError):
    """Neither "DICM" after 128 bytes, nor group 0002 first: not a DICOM file, or a data set without its header."""


class EmptyFileError(NotPart10Error):
    """The file is empty."""


class TruncatedFileMetaError(FileMetaError):
    """The bytes end inside the File Meta Information: read more of the file, if there is more."""


def _element(number: int, vr: bytes) -> Any:
    return dataclasses.field(default="", metadata={"number": number, "vr": vr})


@frozen(kw_only=True)
class FileMeta:
    """Group 0002 of a file: identity, encoding and origin of its data set (PS3.10 Table 7.1-1)."""

    media_storage_sop_class_uid: str = _element(0x0002, b"UI")
    media_storage_sop_instance_uid: str = _element(0x0003, b"UI")
    transfer_syntax_uid: str = _element(0x0010, b"UI")
    implementation_class_uid: str = _element(0x0012, b"UI")
    implementation_version_name: str = _element(0x0013, b"SH")
    source_ae_title: str = _element(0x0016, b"AE")
    """The AE title of the file's origin: for a receiver, the calling AE title."""
    sending_ae_title: str = _element(0x0017, b"AE")
    """The calling AE title of the association that transferred the data set."""
    receiving_ae_title: str = _element(0x0018, b"AE")
    """The called AE title of the association that transferred the data set."""
    source_presentation_address: str = _element(0x0026, b"UR")
    """The URI of the file's origin: "dicom:192.0.2.7" (PS3.10 7.1.1.1)."""


_FIELDS: Final = dataclasses.fields(FileMeta)
_NUMBERS: Final = tuple(field.metadata["number"] for field in _FIELDS)
_VRS: Final = tuple(field.metadata["vr"] for field in _FIELDS)
_NAMES: Final = {field.metadata["number"]: field.name for field in _FIELDS}
_texts_of: Final = attrgetter(*_NAMES.values())


def encode_file_meta(meta: FileMeta) -> bytes:
    """Encode preamble, prefix and group 0002, without empty fields. The data set follows immediately.

    The preamble is zero, as files of other formats can hide in one. Raises `EncodeError` for a value that is too long.
    """
    before, after = file_meta_around_uid(meta)
    return b"".join((before, encode_uid(meta.media_storage_sop_instance_uid), after))


def file_meta_around_uid(meta: FileMeta) -> tuple[bytes, bytes]:
    """Return the bytes that `encode_file_meta` encodes before and behind the value of the SOP Instance UID.

    Files whose File Meta Information differs in this UID only have the same, if its encoded length is the same.
    """
    sop_class, sop_instance, *others = map(_encode_text, _NUMBERS, _VRS, _texts_of(meta))
    after = b"".join(others)
    length = _group_length(len(_VERSION) + len(sop_class) + len(sop_instance) + len(after))
    return b"".join((_PREAMBLE, _PREFIX, length, _VERSION, sop_class, sop_instance[:SHORT_HEADER])), after


@functools.lru_cache(maxsize=256)
def _group_length(size: int) -> bytes:
    return _encode_element(0x0000, b"UL", size.to_bytes(_GROUP_LENGTH_BYTES, "little"))


@functools.lru_cache(maxsize=256)
def _encode_text(number: int, vr: bytes, text: str) -> bytes:
    """Encode an element, or nothing for an empty text. All but one are the same for an association's instances."""
    if not text:
        return b""
    return _encode_element(number, vr, encode_uid(text) if vr == b"UI" else encode_text(text))


def _encode_element(number: int, vr: bytes, value: bytes) -> bytes:
    try:
        return _encode_header(_GROUP << 16 | number, vr, len(value)) + value
    except struct.error:
        raise EncodeError(f"(0002,{number:04X}) of {len(value)} bytes is too long") from None


_encode_header: Final = functools.lru_cache(maxsize=256)(EXPLICIT_LITTLE.header)
"""The files of a series have few different headers."""

_VERSION: Final = _encode_element(0x0001, b"OB", b"\0\1")
"""The element with the version of File Meta Information."""


def decode_file_meta(data: bytes, notes: list[Deviation] | None = None) -> tuple[FileMeta, int]:
    """Return the File Meta Information at the start of a file, and the offset of the data set.

    The group ends before the first element of another group, as some writers omit or miscount the group length. If the
    group length ends at the end of an element, the group ends there too, unless it continues with a higher tag: the
    first bytes of a data set can look like more elements. Raises `NotPart10Error`, or `TruncatedFileMetaError` if
    `data` ends before the data set. Tolerated deviations are added to `notes`.
    """
    if not data:
        raise EmptyFileError("the file is empty")
    if data[len(_PREAMBLE) : _START] != _PREFIX:
        if not data.startswith(_GROUP_START):
            raise NotPart10Error("neither a preamble and its prefix, nor File Meta Information")
        return _read(data, 0, notes)
    found = _templates.match(data[_START:_FIRST_END], data, _FIRST_END)
    if found is not None and found[1] < len(data) and data[found[1]] != _GROUP:
        return _file_meta(found[0]), found[1]
    return _read(data, _START, notes)


_templates: Final = Templates()
"""The elements after a correct group length, by the bytes of the latter."""


def _read(data: bytes, start: int, notes: list[Deviation] | None) -> tuple[FileMeta, int]:
    """Read the elements one by one; if nothing is wrong with them, remember them as a template."""
    values: dict[int, bytes] = {}
    elements: list[tuple[int, bytes, int]] = []
    at, first_end = start, start + SHORT_HEADER + _GROUP_LENGTH_BYTES
    in_implicit_vr = False
    for number, explicit, value_start, end in _elements(data, start):
        values.setdefault(number, data[value_start:end])
        elements.append((number, data[at:value_start], end - value_start))
        in_implicit_vr |= not explicit
        at = end
    right_length = int.from_bytes(values.get(0, b""), "little") == at - first_end
    deviations = list(_deviations(start, in_implicit_vr=in_implicit_vr, right_length=right_length))
    if notes is not None:
        notes += deviations
    group_length = data[start:first_end]
    if not deviations and len(values) == len(elements) > 1 and group_length == _group_length(at - first_end):
        _templates.add(group_length, elements[1:])
    return _file_meta(values), at


def _deviations(start: int, *, in_implicit_vr: bool, right_length: bool) -> Iterator[Deviation]:
    if not start:
        yield Deviation.FILE_META_WITHOUT_PREAMBLE
    if in_implicit_vr:
        yield Deviation.FILE_META_IN_IMPLICIT_VR
    if not right_length:
        yield Deviation.FILE_META_GROUP_LENGTH_WRONG


def _file_meta(values: Mapping[int, bytes]) -> FileMeta:
    return FileMeta(**{name: _decode_text(values[number]) for number, name in _NAMES.items() if number in values})


_decode_text: Final = functools.lru_cache(maxsize=256)(decode_text)
"""The files of a series have few different texts."""


def _elements(data: bytes, start: int) -> Iterator[tuple[int, bool, int, int]]:
    """Walk over group 0002: element number, whether it has a VR, and offsets of the start and end of the value."""
    at, end = start, 0
    last, in_implicit_vr = -1, False
    while at < len(data):
        header = data[at : at + SHORT_HEADER]
        if at == end and not _continues(header, last, in_implicit_vr=in_implicit_vr):
            return
        if len(header) == SHORT_HEADER and not header.startswith(_GROUP_START):
            return
        explicit = is_vr(header[4:6])
        element = (EXPLICIT_LITTLE if explicit else IMPLICIT_LITTLE).read(data, at, len(data))
        if element is None:
            raise TruncatedFileMetaError("ends inside a header")
        tag, _, size, at = element
        last, in_implicit_vr = tag & 0xFFFF, in_implicit_vr or not explicit
        if at + size > len(data):
            raise TruncatedFileMetaError(f"ends inside {format_tag(tag)}")
        yield last, explicit, at, at + size
        if last == 0 and size == _GROUP_LENGTH_BYTES:
            length = int.from_bytes(data[at : at + size], "little")
            end = at + size + length if length else 0
        at += size
    raise TruncatedFileMetaError("ends with group 0002, without a data set")


def _continues(header: bytes, last: int, *, in_implicit_vr: bool) -> bool:
    """Return whether group 0002 continues after its group length, also if that is unknown without more bytes.

    Some writers leave private elements at its end out of the length.
    """
    if len(header) < SHORT_HEADER:
        return header.startswith(_GROUP_START[: len(header)])
    number = int.from_bytes(header[2:4], "little")
    return header.startswith(_GROUP_START) and number > last and (in_implicit_vr or is_vr(header[4:6]))

"""The attributes of an instance that the archive needs, decoded from values of its data set."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass
from itertools import repeat
from typing import Any, Final

from dicomport.encoding.charsets import codec_of, decode_text
from dicomport.encoding.elements import Value
from dicomport.encoding.headers import ByteOrder

_CHARACTER_SET: Final = 0x00080005
_MAX_INTEGER_STRING: Final = 12
_ABSENT: Final[Value] = (b"", b"")


def _attribute(tag: int, kind: str = "text") -> Any:
    return dataclasses.field(default="" if kind in ("text", "uid") else None, metadata={"tag": tag, "kind": kind})


@dataclass(frozen=True, kw_only=True)
class InstanceAttributes:
    """Attributes of an instance, its series, study and patient, decoded and without padding, but not validated.

    Absent text is empty; an absent or invalid number is None. The values are a peer's, so they are not to be trusted.
    """

    sop_class_uid: str = _attribute(0x00080016, "uid")
    sop_instance_uid: str = _attribute(0x00080018, "uid")
    study_instance_uid: str = _attribute(0x0020000D, "uid")
    series_instance_uid: str = _attribute(0x0020000E, "uid")
    patient_id: str = _attribute(0x00100020)
    patient_name: str = _attribute(0x00100010)
    modality: str = _attribute(0x00080060)
    study_date: str = _attribute(0x00080020)
    series_date: str = _attribute(0x00080021)
    acquisition_date: str = _attribute(0x00080022)
    content_date: str = _attribute(0x00080023)
    study_time: str = _attribute(0x00080030)
    accession_number: str = _attribute(0x00080050)
    study_description: str = _attribute(0x00081030)
    series_description: str = _attribute(0x0008103E)
    series_number: str = _attribute(0x00200011)
    instance_number: str = _attribute(0x00200013)
    number_of_frames: int | None = _attribute(0x00280008, "integer string")
    rows: int | None = _attribute(0x00280010, "number")
    columns: int | None = _attribute(0x00280011, "number")
    specific_character_set: str = _attribute(_CHARACTER_SET)
    r"""The values, separated by "\"."""


_ATTRIBUTES: Final = dataclasses.fields(InstanceAttributes)
WANTED: Final = frozenset(field.metadata["tag"] for field in _ATTRIBUTES)
"""Tags of the decoded values."""

_SOP_INSTANCE_UID: Final = 0x00080018
_INSTANCE_NUMBER: Final = 0x00200013
_SHARED: Final = tuple(
    field for field in _ATTRIBUTES if field.metadata["tag"] not in (_SOP_INSTANCE_UID, _INSTANCE_NUMBER)
)
"""Attributes that nearly always are the same for all instances of a series."""
_SHARED_TAGS: Final = tuple(field.metadata["tag"] for field in _SHARED)


def decode_attributes(values: Mapping[int, Value], max_bytes: int, order: ByteOrder) -> InstanceAttributes:
    """Decode the values; text is cut at `max_bytes`."""
    codec = codec_of(_decode_latin(values.get(_CHARACTER_SET, _ABSENT)[1]))
    uid = _decode_uid(values.get(_SOP_INSTANCE_UID, _ABSENT)[1], max_bytes)
    number = decode_text(values.get(_INSTANCE_NUMBER, _ABSENT)[1][:max_bytes], codec)
    shared = _decode_shared(tuple(map(values.get, _SHARED_TAGS, repeat(_ABSENT))), codec, max_bytes, order)
    # The constructor of a frozen dataclass sets its 21 fields one by one, which takes six times as long.
    attributes = object.__new__(InstanceAttributes)
    attributes.__dict__.update(shared, sop_instance_uid=uid, instance_number=number)
    return attributes


@functools.lru_cache(maxsize=64)
def _decode_shared(values: Sequence[Value], codec: str, max_bytes: int, order: ByteOrder) -> dict[str, Any]:
    """Decode the shared attributes; cached for the other instances of the series, so do not change the result."""
    return {
        field.name: _decode(field, value, codec, max_bytes, order) for field, value in zip(_SHARED, values, strict=True)
    }


def _decode(field: Field[Any], value: Value, codec: str, max_bytes: int, order: ByteOrder) -> Any:
    vr, raw = value
    kind = field.metadata["kind"]
    if kind == "uid":
        return _decode_uid(raw, max_bytes)
    if kind == "text":
        return decode_text(raw[:max_bytes], codec)
    if kind == "number":
        return _decode_number(vr, raw, order)
    return _decode_integer_string(raw)


def _decode_uid(raw: bytes, max_bytes: int) -> str:
    # A UID that was cut would be a different UID.
    return _decode_latin(raw) if len(raw) <= max_bytes else ""


def _decode_latin(raw: bytes) -> str:
    return raw.decode("latin-1").strip("\0 ")


def _decode_number(vr: bytes, raw: bytes, order: ByteOrder) -> int | None:
    """Decode a value of VR US (PS3.5 6.2), also if its VR was replaced by UN."""
    if len(raw) != 2 or vr not in (b"US", b"UN", b""):
        return None
    return int.from_bytes(raw, order)


def _decode_integer_string(raw: bytes) -> int | None:
    """Decode a value of VR IS (PS3.5 6.2) that is a count."""
    text = raw.strip(b" \0").removeprefix(b"+")
    return int(text) if text.isdigit() and len(text) <= _MAX_INTEGER_STRING else None

"""What an archive wants to know of an instance, decoded from a few values of its data set."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass
from itertools import repeat
from typing import Any, Final

from dicomport.encoding.charsets import codec_of, decode_text
from dicomport.encoding.headers import ByteOrder
from dicomport.encoding.streaming import Value

__all__ = ["WANTED", "InstanceFacts", "decode_facts"]

_CHARACTER_SET: Final = 0x00080005
_MAX_INTEGER_STRING: Final = 12
_ABSENT: Final[Value] = (b"", b"")


def _uid(tag: int) -> Any:
    return dataclasses.field(default="", metadata={"tag": tag, "kind": "uid"})


def _text(tag: int) -> Any:
    return dataclasses.field(default="", metadata={"tag": tag, "kind": "text"})


def _integer_string(tag: int) -> Any:
    return dataclasses.field(default=None, metadata={"tag": tag, "kind": "integer string"})


def _number(tag: int) -> Any:
    return dataclasses.field(default=None, metadata={"tag": tag, "kind": "number"})


@dataclass(frozen=True, kw_only=True)
class InstanceFacts:
    """What a data set says of its instance, series, study and patient: as written, without padding, decoded.

    Text that is absent is empty, a number that is absent or none is None. It is a peer's, and to be treated as such.
    """

    sop_class_uid: str = _uid(0x00080016)
    sop_instance_uid: str = _uid(0x00080018)
    study_instance_uid: str = _uid(0x0020000D)
    series_instance_uid: str = _uid(0x0020000E)
    patient_id: str = _text(0x00100020)
    patient_name: str = _text(0x00100010)
    modality: str = _text(0x00080060)
    study_date: str = _text(0x00080020)
    series_date: str = _text(0x00080021)
    acquisition_date: str = _text(0x00080022)
    content_date: str = _text(0x00080023)
    study_time: str = _text(0x00080030)
    accession_number: str = _text(0x00080050)
    study_description: str = _text(0x00081030)
    series_description: str = _text(0x0008103E)
    series_number: str = _text(0x00200011)
    instance_number: str = _text(0x00200013)
    number_of_frames: int | None = _integer_string(0x00280008)
    rows: int | None = _number(0x00280010)
    columns: int | None = _number(0x00280011)
    specific_character_set: str = _text(_CHARACTER_SET)
    r"""Its values with "\" between them."""


_FACTS: Final = dataclasses.fields(InstanceFacts)
WANTED: Final = frozenset(field.metadata["tag"] for field in _FACTS)
"""Tags of the values that are decoded."""

_SOP_INSTANCE_UID: Final = 0x00080018
_INSTANCE_NUMBER: Final = 0x00200013
_SHARED: Final = tuple(field for field in _FACTS if field.metadata["tag"] not in (_SOP_INSTANCE_UID, _INSTANCE_NUMBER))
"""Facts that the instances of a series have in common, nearly always."""
_SHARED_TAGS: Final = tuple(field.metadata["tag"] for field in _SHARED)


def decode_facts(values: Mapping[int, Value], most: int, order: ByteOrder) -> InstanceFacts:
    """Decode the values, of which no more than `most` bytes count."""
    codec = codec_of(_decode_latin(values.get(_CHARACTER_SET, _ABSENT)[1]))
    uid = _decode_uid(values.get(_SOP_INSTANCE_UID, _ABSENT)[1], most)
    number = decode_text(values.get(_INSTANCE_NUMBER, _ABSENT)[1][:most], codec)
    shared = _decode_shared(tuple(map(values.get, _SHARED_TAGS, repeat(_ABSENT))), codec, most, order)
    # A frozen dataclass sets its 21 fields one by one, which takes six times as long.
    facts = object.__new__(InstanceFacts)
    facts.__dict__.update(shared, sop_instance_uid=uid, instance_number=number)
    return facts


@functools.lru_cache(maxsize=64)
def _decode_shared(values: Sequence[Value], codec: str, most: int, order: ByteOrder) -> dict[str, Any]:
    """Decode what is shared, unless that was done for an instance before; nobody changes it."""
    return {field.name: _decode(field, value, codec, most, order) for field, value in zip(_SHARED, values, strict=True)}


def _decode(field: Field[Any], value: Value, codec: str, most: int, order: ByteOrder) -> Any:
    vr, raw = value
    kind = field.metadata["kind"]
    if kind == "uid":
        return _decode_uid(raw, most)
    if kind == "text":
        return decode_text(raw[:most], codec)
    if kind == "number":
        return _decode_number(vr, raw, order)
    return _decode_integer_string(raw)


def _decode_uid(raw: bytes, most: int) -> str:
    # A UID that was cut would be another one.
    return _decode_latin(raw) if len(raw) <= most else ""


def _decode_latin(raw: bytes) -> str:
    return raw.decode("latin-1").strip("\0 ")


def _decode_number(vr: bytes, raw: bytes, order: ByteOrder) -> int | None:
    """Decode a value of VR US (PS3.5 6.2); one in UN has lost its VR and nothing else."""
    if len(raw) != 2 or vr not in (b"US", b"UN", b""):
        return None
    return int.from_bytes(raw, order)


def _decode_integer_string(raw: bytes) -> int | None:
    """Decode a value of VR IS (PS3.5 6.2) that counts something."""
    text = raw.strip(b" \0").removeprefix(b"+")
    return int(text) if text.isdigit() and len(text) <= _MAX_INTEGER_STRING else None

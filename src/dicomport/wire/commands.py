"""DIMSE commands as values (PS3.7 9.3 and 10.3).

Each field of a command names its element; all commands share one decoder and one encoder. Any other request is decoded
as a `RawCommand`, so that it can be refused.
"""

from __future__ import annotations

import dataclasses
import enum
import struct
from collections import Counter
from collections.abc import Callable
from operator import attrgetter
from typing import Any, ClassVar, Self

from dicomport.values import frozen
from dicomport.wire.command_sets import (
    NO_DATA_SET,
    RESPONSE,
    CommandError,
    Element,
    RawCommand,
    decode_number,
    decode_tags,
    decode_text,
    encode_number,
    encode_tags,
    encode_text,
    encode_uid,
)
from dicomport.wire.deviations import Deviation
from dicomport.wire.errors import ProtocolError

_INVALID_OBJECT_INSTANCE = 0x0117
_MISTYPED_ARGUMENT = 0x0212
# Looking up an enum member takes ten times as long as a module's name (Python 3.11).
_COMMAND_FIELD = Element.COMMAND_FIELD
_COMMAND_DATA_SET_TYPE = Element.COMMAND_DATA_SET_TYPE
_PRIORITY = Element.PRIORITY

_NEEDED_TO_ANSWER = (Element.MESSAGE_ID, Element.MESSAGE_ID_BEING_RESPONDED_TO)


class Priority(enum.IntEnum):
    """Priority of a C-STORE operation (0000,0700), PS3.7 E.1."""

    MEDIUM = 0
    HIGH = 1
    LOW = 2


@frozen
class _Field:
    """The element of a dataclass field, and the status of the response to a request without it."""

    element: Element
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    required: bool
    refused_with: int


def _field(
    element: Element,
    decode: Callable[[bytes], Any],
    encode: Callable[[Any], bytes],
    default: Any,
    refused_with: int = _MISTYPED_ARGUMENT,
) -> Any:
    required = default is dataclasses.MISSING
    return dataclasses.field(
        default=default, metadata={"field": _Field(element, decode, encode, required, refused_with)}
    )


def _number(element: Element, default: Any = dataclasses.MISSING) -> Any:
    return _field(element, decode_number, encode_number, default)


def _uid(element: Element, default: Any = dataclasses.MISSING, refused_with: int = _MISTYPED_ARGUMENT) -> Any:
    return _field(element, decode_text, encode_uid, default, refused_with)


def _text(element: Element) -> Any:
    return _field(element, decode_text, encode_text, "")


@frozen(kw_only=True)
class Command:
    """The base of all commands. UIDs and text have no padding; an absent optional element is None or empty."""

    COMMAND_FIELD: ClassVar[int]

    has_data_set: bool = False
    """Whether a data set follows (0000,0800)."""

    def to_raw(self) -> RawCommand:
        """Return the command set's encoded elements."""
        kind = type(self)
        has_data_set, *values = _VALUES[kind](self)
        elements: dict[int, bytes] = {
            _COMMAND_FIELD: encode_number(self.COMMAND_FIELD),
            # Any value except 0101H announces a data set (PS3.7 E.1); all peers understand 0000H.
            _COMMAND_DATA_SET_TYPE: encode_number(0 if has_data_set else NO_DATA_SET),
        }
        for (_, field), value in zip(_FIELDS[kind], values, strict=True):
            if value not in _ABSENT or field.required:
                elements[field.element] = field.encode(value)
        return RawCommand(elements)

    @classmethod
    def from_raw(cls, raw: RawCommand) -> Self:
        """Decode the fields.

        For a missing or malformed element, raises `CommandError` if this is a request, `ProtocolError` if a response.
        """
        values: dict[str, Any] = {"has_data_set": raw.has_data_set}
        elements = raw.elements
        for name, field in _FIELDS[cls]:
            data = elements.get(field.element)
            if data:
                try:
                    values[name] = value = field.decode(data)
                except (struct.error, ValueError):
                    raise cls._error(raw, field, "is malformed") from None
                if value == "" and field.required:
                    raise cls._error(raw, field, "contains only padding")
            elif field.required:
                raise cls._error(raw, field, "is missing")
        return cls(**values)

    @classmethod
    def _error(cls, raw: RawCommand, field: _Field, problem: str) -> ProtocolError:
        message = f"{cls.__name__}: (0000,{field.element:04X}) {problem}"
        # A request without a Message ID cannot be answered; a response and a C-CANCEL, which has none, never are.
        if cls.COMMAND_FIELD & RESPONSE or field.element in _NEEDED_TO_ANSWER:
            return ProtocolError(message)
        return CommandError(message, raw, status=field.refused_with, offending=field.element)


@frozen(kw_only=True)
class Response(Command):
    """The base of all responses (such as PS3.7 9.3.1.2). A missing Affected UID is tolerated."""

    message_id_being_responded_to: int = _number(Element.MESSAGE_ID_BEING_RESPONDED_TO)
    status: int = _number(Element.STATUS)
    affected_sop_class_uid: str = _uid(Element.AFFECTED_SOP_CLASS_UID, "")
    affected_sop_instance_uid: str = _uid(Element.AFFECTED_SOP_INSTANCE_UID, "")
    offending_element: tuple[int, ...] = _field(Element.OFFENDING_ELEMENT, decode_tags, encode_tags, ())
    """Tags as 32-bit numbers, 0x00100020 for (0010,0020)."""
    error_comment: str = _text(Element.ERROR_COMMENT)
    error_id: int | None = _number(Element.ERROR_ID, None)


@frozen(kw_only=True)
class CStoreRQ(Command):
    """C-STORE-RQ (PS3.7 9.3.1.1)."""

    COMMAND_FIELD: ClassVar = 0x0001

    has_data_set: bool = True
    message_id: int = _number(Element.MESSAGE_ID)
    affected_sop_class_uid: str = _uid(Element.AFFECTED_SOP_CLASS_UID)
    affected_sop_instance_uid: str = _uid(Element.AFFECTED_SOP_INSTANCE_UID, refused_with=_INVALID_OBJECT_INSTANCE)
    priority: int = _number(Element.PRIORITY, Priority.MEDIUM)
    move_originator_ae_title: str = _text(Element.MOVE_ORIGINATOR_AE_TITLE)
    move_originator_message_id: int | None = _number(Element.MOVE_ORIGINATOR_MESSAGE_ID, None)


@frozen(kw_only=True)
class CStoreRSP(Response):
    """C-STORE-RSP (PS3.7 9.3.1.2)."""

    COMMAND_FIELD: ClassVar = 0x8001


@frozen(kw_only=True)
class CEchoRQ(Command):
    """C-ECHO-RQ (PS3.7 9.3.5.1)."""

    COMMAND_FIELD: ClassVar = 0x0030

    message_id: int = _number(Element.MESSAGE_ID)
    affected_sop_class_uid: str = _uid(Element.AFFECTED_SOP_CLASS_UID)


@frozen(kw_only=True)
class CEchoRSP(Response):
    """C-ECHO-RSP (PS3.7 9.3.5.2)."""

    COMMAND_FIELD: ClassVar = 0x8030


@frozen(kw_only=True)
class NEventReportRQ(Command):
    """N-EVENT-REPORT-RQ (PS3.7 10.3.1.1)."""

    COMMAND_FIELD: ClassVar = 0x0100

    message_id: int = _number(Element.MESSAGE_ID)
    affected_sop_class_uid: str = _uid(Element.AFFECTED_SOP_CLASS_UID)
    affected_sop_instance_uid: str = _uid(Element.AFFECTED_SOP_INSTANCE_UID)
    event_type_id: int = _number(Element.EVENT_TYPE_ID)


@frozen(kw_only=True)
class NEventReportRSP(Response):
    """N-EVENT-REPORT-RSP (PS3.7 10.3.1.2)."""

    COMMAND_FIELD: ClassVar = 0x8100

    event_type_id: int | None = _number(Element.EVENT_TYPE_ID, None)


@frozen(kw_only=True)
class NActionRQ(Command):
    """N-ACTION-RQ (PS3.7 10.3.4.1)."""

    COMMAND_FIELD: ClassVar = 0x0130

    message_id: int = _number(Element.MESSAGE_ID)
    requested_sop_class_uid: str = _uid(Element.REQUESTED_SOP_CLASS_UID)
    requested_sop_instance_uid: str = _uid(Element.REQUESTED_SOP_INSTANCE_UID)
    action_type_id: int = _number(Element.ACTION_TYPE_ID)


@frozen(kw_only=True)
class NActionRSP(Response):
    """N-ACTION-RSP (PS3.7 10.3.4.2)."""

    COMMAND_FIELD: ClassVar = 0x8130

    action_type_id: int | None = _number(Element.ACTION_TYPE_ID, None)


@frozen(kw_only=True)
class CCancelRQ(Command):
    """C-CANCEL-RQ (PS3.7 9.3.2.3). It is never answered."""

    COMMAND_FIELD: ClassVar = 0x0FFF

    message_id_being_responded_to: int = _number(Element.MESSAGE_ID_BEING_RESPONDED_TO)


_COMMANDS: tuple[type[Command], ...] = (
    CStoreRQ,
    CStoreRSP,
    CEchoRQ,
    CEchoRSP,
    NEventReportRQ,
    NEventReportRSP,
    NActionRQ,
    NActionRSP,
    CCancelRQ,
)

_BY_COMMAND_FIELD = {command.COMMAND_FIELD: command for command in _COMMANDS}

_FIELDS: dict[type[Command], tuple[tuple[str, _Field], ...]] = {
    command: tuple((field.name, field.metadata["field"]) for field in dataclasses.fields(command) if field.metadata)
    for command in _COMMANDS
}

_VALUES = {command: attrgetter("has_data_set", *(name for name, _ in _FIELDS[command])) for command in _COMMANDS}

_ABSENT = (None, "", ())
"""Values of absent optional elements."""

_UIDS = (
    Element.AFFECTED_SOP_CLASS_UID,
    Element.AFFECTED_SOP_INSTANCE_UID,
    Element.REQUESTED_SOP_CLASS_UID,
    Element.REQUESTED_SOP_INSTANCE_UID,
)


def _is_padded_wrongly(uid: bytes) -> bool:
    """Return whether a UID has padding other than the one NUL that makes its length even (PS3.5 9.1)."""
    return bool(len(uid) % 2) or uid.endswith((b" ", b"\0\0")) or uid.startswith((b" ", b"\0"))


def decode_command(data: bytes, notes: Counter[Deviation] | None = None) -> Command | RawCommand:
    """Decode a complete command set; an unknown command is returned as a `RawCommand`.

    Raises `CommandError` for a request to refuse, and `ProtocolError` if the association cannot continue: truncated
    elements, no Command Field, no Command Data Set Type, no Message ID. `notes` counts tolerated deviations.
    """
    notes = Counter() if notes is None else notes
    raw = RawCommand.decode(data, notes)
    command = _BY_COMMAND_FIELD.get(raw.command_field)
    if command is None:
        # The elements needed for the refusal are checked now.
        _ = raw.has_data_set
        if not raw.is_response:
            _ = raw.message_id
        return raw
    if command is CStoreRQ and not raw.elements.get(_PRIORITY):
        notes[Deviation.PRIORITY_MISSING] += 1
    for uid in map(raw.elements.get, _UIDS):
        if uid and _is_padded_wrongly(uid):
            notes[Deviation.UID_PADDING] += 1
            break
    return command.from_raw(raw)


def encode_command(command: Command | RawCommand) -> bytes:
    """Encode a complete command set. Raises `EncodeError` for a value outside the range of its element."""
    return (command if isinstance(command, RawCommand) else command.to_raw()).encode()

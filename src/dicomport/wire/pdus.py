"""The seven PDUs of the DICOM Upper Layer (PS3.8 9.3)."""

from __future__ import annotations

import enum
import struct
from collections import Counter
from typing import ClassVar, Final, Generic, Self, TypeVar

from dicomport.values import frozen
from dicomport.wire.cursor import Cursor, pack_ae_title, pack_u8, pack_u16, pack_u32
from dicomport.wire.deviations import Deviation
from dicomport.wire.errors import AbortReason, ProtocolError
from dicomport.wire.items import (
    APPLICATION_CONTEXT,
    PresentationContextAC,
    PresentationContextRQ,
    UnknownItem,
    UserInformation,
    pack_text_item,
)
from dicomport.wire.limits import DEFAULT_PROTOCOL_LIMITS, ProtocolLimits

PDU_HEADER: Final = struct.Struct(">BxL")
"""PDU type, a reserved byte, length of the body (PS3.8 9.3.1)."""

PDV_HEADER: Final = struct.Struct(">LBB")
"""PDV item length, presentation context id, message control header (PS3.8 9.3.5.1 and E.2)."""

P_DATA_HEADERS: Final = struct.Struct(">BxLLBB")
"""Both headers: the beginning of a P-DATA-TF with a PDV."""

COMMAND: Final = 0x01
"""Bit 0 of the message control header: the fragment belongs to a command set (PS3.8 E.2)."""

LAST: Final = 0x02
"""Bit 1 of the message control header: the fragment is the last one (PS3.8 E.2)."""

_APPLICATION_CONTEXT = 0x10
_ONCE = (_APPLICATION_CONTEXT, UserInformation.KIND)

Context = TypeVar("Context", PresentationContextRQ, PresentationContextAC)


class RejectReason(enum.Enum):
    """Source and reason of an A-ASSOCIATE-RJ, as the valid pairs (PS3.8 9.3.4, Table 9-21)."""

    USER_NO_REASON = (1, 1)
    APPLICATION_CONTEXT_NAME_NOT_SUPPORTED = (1, 2)
    CALLING_AE_TITLE_NOT_RECOGNIZED = (1, 3)
    CALLED_AE_TITLE_NOT_RECOGNIZED = (1, 7)
    ACSE_NO_REASON = (2, 1)
    PROTOCOL_VERSION_NOT_SUPPORTED = (2, 2)
    PRESENTATION_NO_REASON = (3, 0)
    TEMPORARY_CONGESTION = (3, 1)
    LOCAL_LIMIT_EXCEEDED = (3, 2)

    @property
    def source(self) -> int:
        """1 for the service-user, 2 for the provider's ACSE function, 3 for its presentation function."""
        return self.value[0]

    @property
    def reason(self) -> int:
        """The reason/diagnostic field."""
        return self.value[1]

    @property
    def meaning(self) -> str:
        """The description of the pair."""
        return self.name.lower().replace("_", " ").replace("ae title", "AE title")


_NO_REASON = {
    1: RejectReason.USER_NO_REASON,
    2: RejectReason.ACSE_NO_REASON,
    3: RejectReason.PRESENTATION_NO_REASON,
}


def _pdu(kind: int, body: bytes) -> bytes:
    return bytes((kind, 0)) + pack_u32(len(body), "PDU length") + body


@frozen(kw_only=True)
class _Associate(Generic[Context]):
    """The common fields and items of a request and its acceptance."""

    KIND: ClassVar[int]
    CONTEXT: ClassVar[type[PresentationContextRQ | PresentationContextAC]]

    called_ae_title: str
    calling_ae_title: str
    presentation_contexts: tuple[Context, ...]
    user_information: UserInformation
    application_context: str = APPLICATION_CONTEXT
    """Empty if the peer sent no such item."""
    protocol_version: int = 1
    unknown: tuple[UnknownItem, ...] = ()

    def encode(self) -> bytes:
        """Encode the PDU."""
        return _pdu(
            self.KIND,
            pack_u16(self.protocol_version, "protocol version")
            + bytes(2)
            + pack_ae_title(self.called_ae_title, "called AE title")
            + pack_ae_title(self.calling_ae_title, "calling AE title")
            + bytes(32)
            + pack_text_item(_APPLICATION_CONTEXT, self.application_context)
            + b"".join(context.encode() for context in self.presentation_contexts)
            + self.user_information.encode()
            + b"".join(item.encode() for item in self.unknown),
        )

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        """Decode the PDU's body."""
        protocol_version = cursor.u16("protocol version")
        cursor.read(2, "reserved")
        called = cursor.ae_title("called AE title")
        calling = cursor.ae_title("calling AE title")
        cursor.read(32, "reserved")
        application_context: str | None = None
        user_information: UserInformation | None = None
        contexts: list[PresentationContextRQ | PresentationContextAC] = []
        unknown: list[UnknownItem] = []
        while cursor.remaining:
            kind, body = cursor.item()
            if kind == cls.CONTEXT.KIND:
                contexts.append(cls.CONTEXT.decode(body))
            elif kind == _APPLICATION_CONTEXT and application_context is None:
                application_context = body.uid(body.rest())
            elif kind == UserInformation.KIND and user_information is None:
                user_information = UserInformation.decode(body)
            else:
                if kind in _ONCE:
                    cursor.note(Deviation.REPEATED_ITEM)
                unknown.append(UnknownItem(kind, body.rest()))
            cursor.limit("presentation_contexts", len(contexts))
            cursor.limit("user_items", len(unknown))
        # The answer's AE titles are reserved and not tested (PS3.8 9.3.3).
        if cls.CONTEXT is PresentationContextRQ and not (called and calling):
            cursor.note(Deviation.AE_TITLE_BLANK)
        return cls(
            called_ae_title=called,
            calling_ae_title=calling,
            presentation_contexts=tuple(contexts),  # type: ignore[arg-type]  # of the class that CONTEXT names
            user_information=user_information or UserInformation(),
            application_context=application_context or "",
            protocol_version=protocol_version,
            unknown=tuple(unknown),
        )


@frozen(kw_only=True)
class AssociateRQ(_Associate[PresentationContextRQ]):
    """A-ASSOCIATE-RQ (PS3.8 9.3.2)."""

    KIND: ClassVar = 0x01
    CONTEXT: ClassVar = PresentationContextRQ


@frozen(kw_only=True)
class AssociateAC(_Associate[PresentationContextAC]):
    """A-ASSOCIATE-AC (PS3.8 9.3.3). The AE titles repeat the request's and must not be tested."""

    KIND: ClassVar = 0x02
    CONTEXT: ClassVar = PresentationContextAC


@frozen
class AssociateRJ:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    KIND: ClassVar = 0x03

    reason: RejectReason
    transient: bool = False

    def encode(self) -> bytes:
        """Encode the PDU."""
        return _pdu(self.KIND, bytes((0, 2 if self.transient else 1, self.reason.source, self.reason.reason)))

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        """Decode the PDU's body; a reserved reason is decoded as its source's "no reason"."""
        cursor.read(1, "reserved")
        result, source, reason = cursor.u8("result"), cursor.u8("source"), cursor.u8("reason")
        try:
            known = RejectReason((source, reason))
        except ValueError:
            cursor.note(Deviation.REJECT_REASON_RESERVED)
            known = _NO_REASON.get(source, RejectReason.USER_NO_REASON)
        return cls(known, transient=result == 2)


@frozen
class PresentationDataValue:
    """One PDV: a fragment of a command set or of a data set (PS3.8 9.3.5.1, Annex E.2)."""

    context_id: int
    is_command: bool
    is_last: bool
    data: bytes

    def encode(self) -> bytes:
        """Encode the PDV item."""
        control = self.is_command * COMMAND | self.is_last * LAST
        return (
            pack_u32(len(self.data) + 2, "PDV length")
            + pack_u8(self.context_id, "presentation context id")
            + bytes((control,))
            + self.data
        )

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        """Decode one PDV item; all but bits 0 and 1 of the control header are reserved (PS3.8 E.2)."""
        size = cursor.u32("PDV length")
        if size < 2:
            raise cursor.fail(f"PDV length {size} is too short for its header")
        body = cursor.sub(size, "PDV")
        context_id = body.u8("presentation context id")
        control = body.u8("message control header")
        return cls(context_id, bool(control & COMMAND), bool(control & LAST), body.rest())


@frozen
class PDataTF:
    """P-DATA-TF (PS3.8 9.3.5), complete. The core streams data sets and does not use this class for them."""

    KIND: ClassVar = 0x04

    values: tuple[PresentationDataValue, ...]

    def encode(self) -> bytes:
        """Encode the PDU."""
        return _pdu(self.KIND, b"".join(value.encode() for value in self.values))

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        """Decode the PDU's body."""
        values: list[PresentationDataValue] = []
        while cursor.remaining:
            values.append(PresentationDataValue.decode(cursor))
        return cls(tuple(values))


class _Release:
    """The two release PDUs, which have no fields."""

    __slots__ = ()

    KIND: ClassVar[int]

    def encode(self) -> bytes:
        """Encode the PDU."""
        return _pdu(self.KIND, bytes(4))

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        """Decode the PDU's body."""
        cursor.read(4, "reserved")
        return cls()


@frozen
class ReleaseRQ(_Release):
    """A-RELEASE-RQ (PS3.8 9.3.6)."""

    KIND: ClassVar = 0x05


@frozen
class ReleaseRP(_Release):
    """A-RELEASE-RP (PS3.8 9.3.7)."""

    KIND: ClassVar = 0x06


@frozen
class Abort:
    """A-ABORT (PS3.8 9.3.8)."""

    KIND: ClassVar = 0x07

    reason: AbortReason = AbortReason.SERVICE_USER

    def encode(self) -> bytes:
        """Encode the PDU."""
        return _pdu(self.KIND, bytes((0, 0, self.reason.source, self.reason.reason)))

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        """Decode the PDU's body. A user's reason is not significant; a reserved pair becomes "not specified"."""
        cursor.read(2, "reserved")
        source, reason = cursor.u8("source"), cursor.u8("reason")
        if source == 0:
            return cls(AbortReason.SERVICE_USER)
        try:
            return cls(AbortReason((source, reason)))
        except ValueError:
            cursor.note(Deviation.ABORT_REASON_RESERVED)
            return cls(AbortReason.NOT_SPECIFIED)


Pdu = AssociateRQ | AssociateAC | AssociateRJ | PDataTF | ReleaseRQ | ReleaseRP | Abort
"""Any PDU."""

_KINDS: dict[int, type[Pdu]] = {
    pdu.KIND: pdu for pdu in (AssociateRQ, AssociateAC, AssociateRJ, PDataTF, ReleaseRQ, ReleaseRP, Abort)
}


def decode(
    data: bytes, *, limits: ProtocolLimits = DEFAULT_PROTOCOL_LIMITS, notes: Counter[Deviation] | None = None
) -> Pdu:
    """Decode one complete PDU with its header (PS3.8 9.3).

    `notes` counts tolerated deviations. Raises `ProtocolError` for missing or additional bytes, a value outside the
    range of its field, or an unknown PDU type; its `reason` is the reason of the A-ABORT to send.
    """
    if len(data) < PDU_HEADER.size:
        raise ProtocolError(f"PDU: {len(data)} bytes are too few for a header")
    kind, size = PDU_HEADER.unpack_from(data)
    if kind not in _KINDS:
        raise ProtocolError(f"unknown PDU type {kind:02X}H", AbortReason.UNRECOGNIZED_PDU)
    pdu = _KINDS[kind]
    cursor = Cursor(bytes(data[PDU_HEADER.size :]), pdu.__name__, limits=limits, notes=notes)
    if cursor.remaining != size:
        raise cursor.fail(f"PDU length is {size}, but {cursor.remaining} bytes follow")
    value = pdu.decode(cursor)
    cursor.end()
    return value


def encode(pdu: Pdu) -> bytes:
    """Encode a complete PDU. Raises `EncodeError` for a value outside the range of its field."""
    return pdu.encode()

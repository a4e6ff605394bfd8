"""Items and sub-items of the A-ASSOCIATE PDUs (PS3.8 9.3.2 and 9.3.3, PS3.7 Annex D.3.3)."""

from __future__ import annotations

import enum
from dataclasses import field
from typing import ClassVar, Final, Self

from dicomport.values import frozen
from dicomport.wire.cursor import Cursor, pack_bytes16, pack_text16, pack_u8, pack_u16, pack_u32
from dicomport.wire.deviations import Deviation
from dicomport.wire.errors import ProtocolError

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
"""The DICOM Application Context Name (PS3.7 Annex A.2.1)."""

_ABSTRACT_SYNTAX = 0x30
_TRANSFER_SYNTAX = 0x40
_MAXIMUM_LENGTH = 0x51
_IMPLEMENTATION_CLASS_UID = 0x52
_IMPLEMENTATION_VERSION_NAME = 0x55


def pack_item(kind: int, body: bytes) -> bytes:
    """Encode an item or sub-item: type, a reserved byte, 16-bit length, body."""
    return pack_u8(kind, "item type") + b"\0" + pack_bytes16(body, f"item {kind:02X}H")


def pack_text_item(kind: int, text: str) -> bytes:
    """Encode an item or sub-item whose body is text."""
    return bytes((kind, 0)) + pack_text16(text, f"item {kind:02X}H")


@frozen
class UnknownItem:
    """An item or sub-item of an unknown type, kept unchanged."""

    kind: int
    body: bytes

    def encode(self) -> bytes:
        """Encode the item unchanged."""
        return pack_item(self.kind, self.body)


@frozen
class PresentationContextRQ:
    """A proposed Presentation Context (PS3.8 9.3.2.2), with transfer syntaxes in the order of preference."""

    KIND: ClassVar = 0x20

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    unknown: tuple[UnknownItem, ...] = ()

    def encode(self) -> bytes:
        """Encode the item."""
        return pack_item(
            self.KIND,
            pack_u8(self.context_id, "presentation context id")
            + bytes(3)
            + pack_text_item(_ABSTRACT_SYNTAX, self.abstract_syntax)
            + b"".join(pack_text_item(_TRANSFER_SYNTAX, uid) for uid in self.transfer_syntaxes)
            + b"".join(item.encode() for item in self.unknown),
        )

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        """Decode the item's body; a missing abstract syntax becomes an empty one."""
        context_id = cursor.u8("presentation context id")
        cursor.read(3, "reserved")
        abstract_syntax: str | None = None
        transfer_syntaxes: list[str] = []
        unknown: list[UnknownItem] = []
        while cursor.remaining:
            kind, body = cursor.item()
            if kind == _TRANSFER_SYNTAX:
                transfer_syntaxes.append(body.uid(body.rest()))
            elif kind == _ABSTRACT_SYNTAX and abstract_syntax is None:
                abstract_syntax = body.uid(body.rest())
            else:
                if kind == _ABSTRACT_SYNTAX:
                    cursor.note(Deviation.REPEATED_ITEM)
                unknown.append(UnknownItem(kind, body.rest()))
            cursor.limit("transfer_syntaxes_per_context", len(transfer_syntaxes) + len(unknown))
        return cls(context_id, abstract_syntax or "", tuple(transfer_syntaxes), tuple(unknown))


class ContextResult(enum.IntEnum):
    """The acceptor's answer to a proposed Presentation Context (PS3.8 9.3.3.2, Table 9-18)."""

    ACCEPTED = 0
    USER_REJECTION = 1
    NO_REASON = 2
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4

    @property
    def meaning(self) -> str:
        """The description of the result."""
        return _RESULT_MEANINGS[self]


_RESULT_MEANINGS = {
    ContextResult.ACCEPTED: "accepted",
    ContextResult.USER_REJECTION: "rejected by the peer's user",
    ContextResult.NO_REASON: "rejected by the peer without a reason",
    ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED: "the peer does not support the SOP Class",
    ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED: "the peer supports none of the transfer syntaxes",
}


@frozen
class PresentationContextAC:
    """The answer to one Presentation Context (PS3.8 9.3.3.2); the transfer syntax is significant only if accepted."""

    KIND: ClassVar = 0x21

    context_id: int
    result: ContextResult
    transfer_syntax: str = ""

    def encode(self) -> bytes:
        """Encode the item."""
        return pack_item(
            self.KIND,
            pack_u8(self.context_id, "presentation context id")
            + bytes((0, self.result, 0))
            + pack_text_item(_TRANSFER_SYNTAX, self.transfer_syntax),
        )

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        """Decode the item's body; a reserved result becomes a rejection."""
        context_id = cursor.u8("presentation context id")
        cursor.read(1, "reserved")
        code = cursor.u8("result")
        cursor.read(1, "reserved")
        try:
            result = ContextResult(code)
        except ValueError:
            cursor.note(Deviation.RESULT_RESERVED)
            result = ContextResult.NO_REASON
        try:
            transfer_syntax = cls._decode_transfer_syntax(cursor)
        except ProtocolError:
            if result is ContextResult.ACCEPTED:
                raise
            # The transfer syntax of a rejected context is not significant (PS3.8 9.3.3.2); some peers send junk.
            cursor.note(Deviation.JUNK_IN_REJECTED_CONTEXT)
            cursor.rest()
            transfer_syntax = ""
        return cls(context_id, result, transfer_syntax)

    @staticmethod
    def _decode_transfer_syntax(cursor: Cursor) -> str:
        transfer_syntax = ""
        while cursor.remaining:
            kind, body = cursor.item()
            if kind == _TRANSFER_SYNTAX and not transfer_syntax:
                transfer_syntax = body.uid(body.rest())
        return transfer_syntax


@frozen
class AsynchronousOperationsWindow:
    """The maximum numbers of outstanding operations, from the requestor's view (PS3.7 D.3.3.3); 0 means unlimited."""

    KIND: ClassVar = 0x53

    invoked: int
    performed: int

    def encode(self) -> bytes:
        """Encode the sub-item."""
        return pack_item(
            self.KIND,
            pack_u16(self.invoked, "operations invoked") + pack_u16(self.performed, "operations performed"),
        )

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        """Decode the sub-item's body."""
        return cls(cursor.u16("operations invoked"), cursor.u16("operations performed"))


@frozen
class RoleSelection:
    """SCP/SCU roles of the association-requestor for one SOP Class (PS3.7 D.3.3.4)."""

    KIND: ClassVar = 0x54

    sop_class_uid: str
    scu: bool
    scp: bool

    def encode(self) -> bytes:
        """Encode the sub-item."""
        return pack_item(self.KIND, pack_text16(self.sop_class_uid, "SOP class UID") + bytes((self.scu, self.scp)))

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        """Decode the sub-item's body."""
        uid = cursor.uid(cursor.bytes16("SOP class UID"))
        return cls(uid, bool(cursor.u8("SCU role")), bool(cursor.u8("SCP role")))


@frozen
class SOPClassExtendedNegotiation:
    """Service class application information for one SOP Class (PS3.7 D.3.3.5); PS3.4 defines the bytes."""

    KIND: ClassVar = 0x56

    sop_class_uid: str
    information: bytes

    def encode(self) -> bytes:
        """Encode the sub-item."""
        return pack_item(self.KIND, pack_text16(self.sop_class_uid, "SOP class UID") + self.information)

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        """Decode the sub-item's body."""
        return cls(cursor.uid(cursor.bytes16("SOP class UID")), cursor.rest())


@frozen
class SOPClassCommonExtendedNegotiation:
    """The service class and the related SOP Classes of a proposed SOP Class (PS3.7 D.3.3.6)."""

    KIND: ClassVar = 0x57

    sop_class_uid: str
    service_class_uid: str
    related_general_sop_class_uids: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Encode the sub-item; its second byte is the item's version, 0."""
        related = b"".join(pack_text16(uid, "related SOP class UID") for uid in self.related_general_sop_class_uids)
        return pack_item(
            self.KIND,
            pack_text16(self.sop_class_uid, "SOP class UID")
            + pack_text16(self.service_class_uid, "service class UID")
            + pack_bytes16(related, "related SOP classes"),
        )

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        """Decode the sub-item's body; bytes appended by later versions are ignored, as D.3.3.6 requires."""
        sop_class_uid = cursor.uid(cursor.bytes16("SOP class UID"))
        service_class_uid = cursor.uid(cursor.bytes16("service class UID"))
        related = cursor.sub(cursor.u16("related SOP classes length"), "related SOP classes")
        uids: list[str] = []
        while related.remaining:
            uids.append(related.uid(related.bytes16("related SOP class UID")))
        cursor.rest()
        return cls(sop_class_uid, service_class_uid, tuple(uids))


@frozen
class UserIdentityRQ:
    """The identity of the requestor's user (PS3.7 D.3.3.7.1). Both fields are secrets and not part of `repr`.

    Types: 1 user name, 2 user name and passcode, 3 Kerberos ticket, 4 SAML assertion, 5 JSON Web Token.
    """

    KIND: ClassVar = 0x58
    USER_NAME: ClassVar = 1
    USER_NAME_AND_PASSCODE: ClassVar = 2

    identity_type: int
    positive_response_requested: bool
    primary_field: bytes = field(repr=False)
    secondary_field: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        """Encode the sub-item."""
        return pack_item(
            self.KIND,
            pack_u8(self.identity_type, "user identity type")
            + bytes((self.positive_response_requested,))
            + pack_bytes16(self.primary_field, "primary field")
            + pack_bytes16(self.secondary_field, "secondary field"),
        )

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        """Decode the sub-item's body."""
        cursor.limit("user_identity_bytes", cursor.remaining)
        return cls(
            cursor.u8("user identity type"),
            bool(cursor.u8("positive response requested")),
            cursor.bytes16("primary field"),
            cursor.bytes16("secondary field"),
        )


@frozen
class UserIdentityAC:
    """The acceptor's response to a user identity (PS3.7 D.3.3.7.2); empty for types 1 and 2."""

    KIND: ClassVar = 0x59

    server_response: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        """Encode the sub-item."""
        return pack_item(self.KIND, pack_bytes16(self.server_response, "server response"))

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        """Decode the sub-item's body."""
        return cls(cursor.bytes16("server response"))


@frozen(kw_only=True)
class UserInformation:
    """The User Information item (PS3.8 9.3.2.3, PS3.7 D.3.3) of a request or an acceptance."""

    KIND: ClassVar = 0x50

    maximum_length: int | None = None
    """Maximum P-DATA-TF body, bytes, that the sender of this item accepts; 0 means no limit (PS3.8 D.1)."""
    implementation_class_uid: str | None = None
    implementation_version_name: str | None = None
    operations_window: AsynchronousOperationsWindow | None = None
    roles: tuple[RoleSelection, ...] = ()
    extended: tuple[SOPClassExtendedNegotiation, ...] = ()
    common_extended: tuple[SOPClassCommonExtendedNegotiation, ...] = ()
    user_identity: UserIdentityRQ | None = None
    user_identity_response: UserIdentityAC | None = None
    unknown: tuple[UnknownItem, ...] = ()

    def encode(self) -> bytes:
        """Encode the item, its sub-items in the order of their types."""
        parts: list[bytes] = []
        if self.maximum_length is not None:
            parts.append(pack_item(_MAXIMUM_LENGTH, pack_u32(self.maximum_length, "maximum length")))
        if self.implementation_class_uid is not None:
            parts.append(pack_text_item(_IMPLEMENTATION_CLASS_UID, self.implementation_class_uid))
        if self.operations_window is not None:
            parts.append(self.operations_window.encode())
        parts += (item.encode() for item in self.roles)
        if self.implementation_version_name is not None:
            parts.append(pack_text_item(_IMPLEMENTATION_VERSION_NAME, self.implementation_version_name))
        parts += (item.encode() for item in self.extended)
        parts += (item.encode() for item in self.common_extended)
        parts += (item.encode() for item in (self.user_identity, self.user_identity_response) if item is not None)
        parts += (item.encode() for item in self.unknown)
        return pack_item(self.KIND, b"".join(parts))

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        """Decode the item's body; of repeated single sub-items, the first is significant."""
        single: dict[int, object] = {}
        lists: dict[int, list[object]] = {kind: [] for kind in (*_LISTS, -1)}
        count = 0
        while cursor.remaining:
            count += 1
            cursor.limit("user_items", count)
            kind, body = cursor.item()
            if kind in _LISTS:
                lists[kind].append(_LISTS[kind].decode(body))
                body.end()
            elif kind in _SINGLES:
                value = _SINGLES[kind](body)
                body.end()
                if kind in single:
                    cursor.note(Deviation.REPEATED_ITEM)
                single.setdefault(kind, value)
            else:
                lists[-1].append(UnknownItem(kind, body.rest()))
        fields = {_FIELDS[kind]: value for kind, value in single.items()}
        fields |= {_FIELDS[kind]: tuple(values) for kind, values in lists.items()}
        return cls(**fields)  # type: ignore[arg-type]  # _FIELDS pairs each kind with the field of its type


_LISTS: dict[int, type[RoleSelection | SOPClassExtendedNegotiation | SOPClassCommonExtendedNegotiation]] = {
    item.KIND: item for item in (RoleSelection, SOPClassExtendedNegotiation, SOPClassCommonExtendedNegotiation)
}

_SINGLES = {
    _MAXIMUM_LENGTH: lambda cursor: cursor.u32("maximum length"),
    _IMPLEMENTATION_CLASS_UID: lambda cursor: cursor.uid(cursor.rest()),
    _IMPLEMENTATION_VERSION_NAME: lambda cursor: cursor.rest().decode("latin-1").strip("\0 "),
    AsynchronousOperationsWindow.KIND: AsynchronousOperationsWindow.decode,
    UserIdentityRQ.KIND: UserIdentityRQ.decode,
    UserIdentityAC.KIND: UserIdentityAC.decode,
}

_FIELDS = {
    _MAXIMUM_LENGTH: "maximum_length",
    _IMPLEMENTATION_CLASS_UID: "implementation_class_uid",
    _IMPLEMENTATION_VERSION_NAME: "implementation_version_name",
    AsynchronousOperationsWindow.KIND: "operations_window",
    RoleSelection.KIND: "roles",
    SOPClassExtendedNegotiation.KIND: "extended",
    SOPClassCommonExtendedNegotiation.KIND: "common_extended",
    UserIdentityRQ.KIND: "user_identity",
    UserIdentityAC.KIND: "user_identity_response",
    -1: "unknown",
}

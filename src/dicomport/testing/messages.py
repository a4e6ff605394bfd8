"""DIMSE messages, association requests and acceptances for scripts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import field
from typing import Final, Generic, TypeAlias, TypeVar

from dicomport.core.messages import split_into_pdus
from dicomport.standard import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION, sop_classes
from dicomport.values import frozen
from dicomport.wire import (
    AssociateAC,
    AssociateRQ,
    AsynchronousOperationsWindow,
    CEchoRQ,
    CEchoRSP,
    Command,
    ContextResult,
    CStoreRQ,
    CStoreRSP,
    NActionRQ,
    NActionRSP,
    NEventReportRQ,
    NEventReportRSP,
    PresentationContextAC,
    PresentationContextRQ,
    RawCommand,
    Response,
    UserInformation,
    encode_command,
)

AnyCommand: TypeAlias = Command | RawCommand

CommandT_co = TypeVar("CommandT_co", bound=AnyCommand, covariant=True)

Proposal: TypeAlias = str | tuple[str, Sequence[str]]
"""An abstract syntax, alone or with the transfer syntaxes proposed for it."""

MAXIMUM_LENGTH: Final = 16384
"""Maximum P-DATA-TF body, bytes, that scripts announce; also the maximum sent if the other side has no limit."""

_NATIVE: Final = (EXPLICIT_VR_LITTLE_ENDIAN.uid, IMPLICIT_VR_LITTLE_ENDIAN.uid)
_IMPLEMENTATION: Final = "2.25.42987757112775325602840897759690426893"


@frozen
class Message(Generic[CommandT_co]):
    """A received command with its data set."""

    context_id: int
    command: CommandT_co
    data: bytes = field(default=b"", repr=False)
    """The encoded data set; empty if there is none, or with `keep_data=False`."""
    fragments: tuple[int, ...] = field(default=(), repr=False)
    """Lengths of the data set's fragments, bytes (PS3.8 E.2)."""
    longest: int = 0
    """Length of its longest P-DATA-TF body, bytes, which the announced maximum limits (PS3.8 D.1)."""


def encode_message(
    context_id: int, command: AnyCommand, data: bytes | None = b"", *, maximum_length: int = MAXIMUM_LENGTH
) -> bytes:
    """Encode a message as P-DATA-TFs with bodies of at most `maximum_length` bytes.

    If the command announces a data set, `data` follows, even if empty; None omits it nevertheless.
    """
    parts = [
        *split_into_pdus(context_id, encode_command(command), is_command=True, last=True, maximum_length=maximum_length)
    ]
    if data is not None and (data or command.has_data_set):
        parts += split_into_pdus(context_id, data, is_command=False, last=True, maximum_length=maximum_length)
    return b"".join(parts)


def response(request: AnyCommand, status: int = 0) -> Response:
    """Return the response to a request; change it with `dataclasses.replace`. Raises `ValueError` if none is known."""
    kind: type[Response]
    match request:
        case CStoreRQ(affected_sop_class_uid=sop_class, affected_sop_instance_uid=instance):
            kind = CStoreRSP
        case CEchoRQ(affected_sop_class_uid=sop_class):
            kind, instance = CEchoRSP, ""
        case NActionRQ(requested_sop_class_uid=sop_class, requested_sop_instance_uid=instance):
            kind = NActionRSP
        case NEventReportRQ(affected_sop_class_uid=sop_class, affected_sop_instance_uid=instance):
            kind = NEventReportRSP
        case _:
            raise ValueError(f"unknown response to {request}")
    return kind(
        message_id_being_responded_to=request.message_id,
        status=status,
        affected_sop_class_uid=sop_class,
        affected_sop_instance_uid=instance,
    )


def association_request(
    *proposals: Proposal,
    called: str = "ANY-SCP",
    calling: str = "SCRIPTED",
    window: int | None = None,
    maximum_length: int = MAXIMUM_LENGTH,
) -> AssociateRQ:
    """Return an A-ASSOCIATE-RQ with context 1, 3, 5... for each abstract syntax.

    The default proposes Verification and CT Image Storage; the default transfer syntaxes are Explicit and Implicit VR
    Little Endian. `window` is the proposed number of outstanding operations (PS3.7 D.3.3.3), 0 for unlimited.
    """
    wanted = [
        (proposal, _NATIVE) if isinstance(proposal, str) else proposal
        for proposal in proposals or (VERIFICATION, sop_classes.CTImageStorage.uid)
    ]
    return AssociateRQ(
        called_ae_title=called,
        calling_ae_title=calling,
        presentation_contexts=tuple(
            PresentationContextRQ(2 * number + 1, abstract_syntax, tuple(transfer_syntaxes))
            for number, (abstract_syntax, transfer_syntaxes) in enumerate(wanted)
        ),
        user_information=_user_information(window, maximum_length),
    )


def acceptance(
    request: AssociateRQ,
    *,
    refuse: Collection[str | int] = (),
    window: int | None = None,
    maximum_length: int = MAXIMUM_LENGTH,
) -> AssociateAC:
    """Return the A-ASSOCIATE-AC that accepts each context with its first transfer syntax.

    `refuse` has the abstract syntaxes, transfer syntaxes and context ids to reject. `window` is the accepted number of
    outstanding operations (PS3.7 D.3.3.3), 0 for unlimited; None omits the item.
    """
    return AssociateAC(
        called_ae_title=request.called_ae_title,
        calling_ae_title=request.calling_ae_title,
        presentation_contexts=tuple(_answer(context, refuse) for context in request.presentation_contexts),
        user_information=_user_information(window, maximum_length),
    )


def _answer(context: PresentationContextRQ, refuse: Collection[str | int]) -> PresentationContextAC:
    accepted = [uid for uid in context.transfer_syntaxes if uid not in refuse]
    result = ContextResult.ACCEPTED
    if context.context_id in refuse:
        result = ContextResult.USER_REJECTION
    elif context.abstract_syntax in refuse:
        result = ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
    elif not accepted:
        result = ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED
    return PresentationContextAC(context.context_id, result, accepted[0] if accepted else IMPLICIT_VR_LITTLE_ENDIAN.uid)


def _user_information(window: int | None, maximum_length: int) -> UserInformation:
    return UserInformation(
        maximum_length=maximum_length,
        implementation_class_uid=_IMPLEMENTATION,
        operations_window=None if window is None else AsynchronousOperationsWindow(window, 1),
    )

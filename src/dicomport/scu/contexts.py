"""Presentation contexts and A-ASSOCIATE-RQ from a caller's arguments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias, TypedDict, Unpack

from dicomport.core import DEFAULT_MAXIMUM_LENGTH, IMPLEMENTATION
from dicomport.standard import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    SOPClass,
    TransferSyntax,
    check_ae_title,
    find_transfer_syntax,
)
from dicomport.wire import (
    AssociateRQ,
    AsynchronousOperationsWindow,
    PresentationContextRQ,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityRQ,
    UserInformation,
)

MAX_CONTEXTS: Final = 128
"""Presentation contexts in one association: their IDs are the odd numbers from 1 to 255 (PS3.8 9.3.2.2)."""

_DEFAULT_SYNTAXES: Final = (EXPLICIT_VR_LITTLE_ENDIAN.uid, IMPLICIT_VR_LITTLE_ENDIAN.uid)

_AbstractSyntax: TypeAlias = SOPClass | str
_TransferSyntax: TypeAlias = TransferSyntax | str

ContextLike: TypeAlias = _AbstractSyntax | tuple[_AbstractSyntax, _TransferSyntax | Sequence[_TransferSyntax]]
"""A SOP Class or its UID, proposed in Explicit and Implicit VR Little Endian; or a pair of it and its transfer syntaxes
in the order of preference."""


def presentation_contexts(wanted: Iterable[ContextLike]) -> tuple[PresentationContextRQ, ...]:
    """Return the contexts with their IDs, in order. Raises `ValueError` unless there are 1 to 128."""
    contexts: list[PresentationContextRQ] = []
    for number, item in enumerate(wanted):
        abstract_syntax, syntaxes = item if isinstance(item, tuple) else (item, _DEFAULT_SYNTAXES)
        if isinstance(syntaxes, str | TransferSyntax):
            syntaxes = (syntaxes,)
        contexts.append(PresentationContextRQ(2 * number + 1, _uid(abstract_syntax), tuple(map(_uid, syntaxes))))
    if not 1 <= len(contexts) <= MAX_CONTEXTS:
        raise ValueError(f"an association has 1 to {MAX_CONTEXTS} presentation contexts, not {len(contexts)}")
    return tuple(contexts)


def uncompressed_default(transfer_syntax_uid: str) -> tuple[str, ...]:
    """Return Implicit VR Little Endian for an uncompressed transfer syntax: PS3.5 10.1 requires it to be proposed."""
    syntax = find_transfer_syntax(transfer_syntax_uid)
    return (IMPLICIT_VR_LITTLE_ENDIAN.uid,) if syntax is not None and syntax.uncompressed else ()


def _uid(item: SOPClass | TransferSyntax | str) -> str:
    return item if isinstance(item, str) else item.uid


class NegotiationItems(TypedDict, total=False):
    """Optional items of an association request (PS3.7 D.3.3), named as the fields of `UserInformation`."""

    maximum_length: int
    operations_window: AsynchronousOperationsWindow
    roles: tuple[RoleSelection, ...]
    extended: tuple[SOPClassExtendedNegotiation, ...]
    common_extended: tuple[SOPClassCommonExtendedNegotiation, ...]
    user_identity: UserIdentityRQ


def association_request(
    contexts: Iterable[ContextLike], *, ae_title: str, called_ae_title: str, **negotiation: Unpack[NegotiationItems]
) -> AssociateRQ:
    """Build an A-ASSOCIATE-RQ (PS3.8 9.3.2). Raises `ValueError` for invalid AE titles or contexts."""
    items: NegotiationItems = {"maximum_length": DEFAULT_MAXIMUM_LENGTH, **negotiation}
    return AssociateRQ(
        called_ae_title=check_ae_title(called_ae_title),
        calling_ae_title=check_ae_title(ae_title),
        presentation_contexts=presentation_contexts(contexts),
        user_information=UserInformation(
            implementation_class_uid=IMPLEMENTATION.class_uid,
            implementation_version_name=IMPLEMENTATION.version_name,
            **items,
        ),
    )

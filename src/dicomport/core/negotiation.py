"""Negotiation of an association as two pure functions, one for each side (PS3.8 7.1 and 9.3, PS3.7 D.3).

`negotiate` is the acceptor's: request and policy in, reply and outcome out. `resolve_reply` is the requestor's: request
and reply in, outcome out. Both return a reason for each Presentation Context.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import Final, NamedTuple, TypeAlias

from dicomport.standard import IMPLICIT_VR_LITTLE_ENDIAN, MAX_UID_LENGTH, describe
from dicomport.values import frozen
from dicomport.wire import (
    APPLICATION_CONTEXT,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    AsynchronousOperationsWindow,
    ContextResult,
    Deviation,
    PresentationContextAC,
    PresentationContextRQ,
    RejectReason,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityAC,
    UserInformation,
)

MIN_MAXIMUM_LENGTH: Final = 8
"""Shortest maximum length with room for data: a PDV header has 6 bytes, a fragment an even number (PS3.8 E.1)."""


_INSIGNIFICANT: Final = IMPLICIT_VR_LITTLE_ENDIAN.uid


class ImplementationInfo(NamedTuple):
    """The identification of an implementation (PS3.7 D.3.3.2)."""

    class_uid: str
    version_name: str


IMPLEMENTATION: Final = ImplementationInfo("2.25.284104925834416107264219340953541417361", "DICOMPORT_0_1_0")
"""The Implementation Class UID and Implementation Version Name of dicomport (PS3.7 D.3.3.2)."""

DEFAULT_MAXIMUM_LENGTH: Final = 1 << 18
"""Announced maximum length of a P-DATA-TF body, bytes (PS3.8 D.1). Data are streamed, so it needs no memory."""


class AcceptedContext(NamedTuple):
    """An accepted Presentation Context."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str


@frozen
class ContextOutcome:
    """The result of one proposed Presentation Context, with the reason."""

    context_id: int
    abstract_syntax: str
    result: ContextResult
    transfer_syntax: str
    """The accepted transfer syntax; empty if the context was rejected."""
    reason: str


@frozen(kw_only=True)
class NegotiationResult:
    """The negotiated parameters of an association."""

    contexts: tuple[ContextOutcome, ...]
    peer_maximum_length: int
    """Maximum P-DATA-TF body, bytes, that the peer accepts; 0 means no limit (PS3.8 D.1)."""
    operations_window: AsynchronousOperationsWindow
    """The default is 1/1 if either side's PDU has none (PS3.7 D.3.3.3)."""
    roles: tuple[RoleSelection, ...]
    """Roles that differ from the default, requestor SCU and acceptor SCP (PS3.7 D.3.3.4)."""
    extended: tuple[SOPClassExtendedNegotiation, ...]
    user_identity_response: UserIdentityAC | None
    """Present if the requestor requested it and the acceptor checks user identities (PS3.7 D.3.3.7)."""
    peer: ImplementationInfo

    @property
    def accepted(self) -> dict[int, AcceptedContext]:
        """The accepted contexts by id."""
        return {
            context.context_id: AcceptedContext(context.context_id, context.abstract_syntax, context.transfer_syntax)
            for context in self.contexts
            if context.result is ContextResult.ACCEPTED
        }


class Negotiation(NamedTuple):
    """The acceptor's answer: the PDU to send, and the outcome. A rejection has no outcome, but a `reason`."""

    reply: AssociateAC | AssociateRJ
    outcome: NegotiationResult | None
    reason: str = ""
    encoded: bytes = b""
    """The encoded `reply`, if it was encoded before."""


ExtendedAnswer: TypeAlias = Callable[[SOPClassExtendedNegotiation], bytes | None]
"""A function that returns the answer's service class application information, or None for no answer."""


@frozen(kw_only=True)
class AcceptorPolicy:
    """The rules by which an acceptor answers. The defaults accept every peer; `abstract_syntaxes` has no default."""

    ae_title: str
    identity: ImplementationInfo
    maximum_length: int
    """Announced maximum P-DATA-TF body, bytes; 0 means no limit."""
    abstract_syntaxes: Callable[[str, SOPClassCommonExtendedNegotiation | None], bool]
    """Returns whether to accept an abstract syntax, given the requestor's common extended negotiation, if any."""
    transfer_syntaxes: Collection[str] | None = None
    """Accepted transfer syntaxes; None means all."""
    in_any_transfer_syntax: Collection[str] = ()
    """Abstract syntaxes that `transfer_syntaxes` does not restrict, such as Verification, which has no data set."""
    preferred_transfer_syntaxes: tuple[str, ...] = ()
    """Transfer syntaxes to prefer, in this order; otherwise the requestor's order decides."""
    check_called_ae_title: bool = False
    operations_window: int = 1
    """Maximum number of outstanding operations of a requestor that proposes more than one."""
    extended: ExtendedAnswer | None = None
    requestor_as_scp: Collection[str] = ()
    """SOP Classes for which a requestor that proposes it may be the SCP, and this side only the SCU."""
    is_constant: bool = False
    """Whether the functions always return the same for the same arguments, so that results may be remembered."""


def negotiate(
    request: AssociateRQ,
    policy: AcceptorPolicy,
    notes: Counter[Deviation] | None = None,
    *,
    user_identity_response: UserIdentityAC | None = None,
) -> Negotiation:
    """Answer a request for an association (PS3.8 7.1.1, 9.3.3 and 9.3.4).

    The service-provider checks the protocol version (AE-6). The caller checks the user identity, which may take time,
    and passes the `user_identity_response` of a valid one; it is sent if requested (PS3.7 D.3.3.7). `notes` counts
    tolerated deviations.
    """
    rejection = _rejection(request, policy)
    if rejection is not None:
        return Negotiation(AssociateRJ(rejection[0]), None, rejection[1])
    asked = request.user_information
    contexts = _answer_contexts(request, policy, Counter() if notes is None else notes)
    answerable = _answerable(contexts)
    answer = UserInformation(
        maximum_length=policy.maximum_length,
        implementation_class_uid=policy.identity.class_uid,
        implementation_version_name=policy.identity.version_name,
        operations_window=_answer_window(asked.operations_window, policy.operations_window),
        roles=_answer_roles(asked.roles, answerable, policy),
        extended=_answer_extended(asked.extended, answerable, policy),
        user_identity_response=(
            user_identity_response
            if asked.user_identity is not None and asked.user_identity.positive_response_requested
            else None
        ),
    )
    reply = AssociateAC(
        # The two titles are reserved fields in the answer: they repeat the request's (PS3.8 9.3.3).
        called_ae_title=request.called_ae_title,
        calling_ae_title=request.calling_ae_title,
        presentation_contexts=tuple(
            # A rejected context needs a transfer syntax too, although it is not significant (PS3.8 9.3.3.2).
            PresentationContextAC(context.context_id, context.result, context.transfer_syntax or _INSIGNIFICANT)
            for context in contexts
        ),
        user_information=answer,
    )
    return Negotiation(reply, _outcome(contexts, asked, answer))


_CALLED_AE_TITLE_HINT: Final = "set it at the peer, or omit --require-called-aet"


def _rejection(request: AssociateRQ, policy: AcceptorPolicy) -> tuple[RejectReason, str] | None:
    """Return the reason for rejecting the whole association, if any (PS3.8 9.3.4)."""
    if request.application_context != APPLICATION_CONTEXT:
        return (
            RejectReason.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED,
            f"application context is {request.application_context!r}, expected {APPLICATION_CONTEXT!r}",
        )
    if policy.check_called_ae_title and request.called_ae_title != policy.ae_title:
        return (
            RejectReason.CALLED_AE_TITLE_NOT_RECOGNIZED,
            f"called AE title is {request.called_ae_title!r}, expected {policy.ae_title!r}: {_CALLED_AE_TITLE_HINT}",
        )
    if not request.presentation_contexts:
        return RejectReason.USER_NO_REASON, "no presentation context was proposed"
    if 0 < (request.user_information.maximum_length or 0) < MIN_MAXIMUM_LENGTH:
        return (
            RejectReason.USER_NO_REASON,
            f"a maximum length of {request.user_information.maximum_length} bytes is too short for data",
        )
    return None


def _answer_contexts(
    request: AssociateRQ, policy: AcceptorPolicy, notes: Counter[Deviation]
) -> tuple[ContextOutcome, ...]:
    kinds = {item.sop_class_uid: item for item in request.user_information.common_extended}
    seen: set[int] = set()
    outcomes: list[ContextOutcome] = []
    for proposed in request.presentation_contexts:
        if proposed.context_id in seen:
            # One answer for each id: the peer could not distinguish two.
            notes[Deviation.CONTEXT_ID_REPEATED] += 1
            continue
        seen.add(proposed.context_id)
        if proposed.context_id % 2 == 0:
            notes[Deviation.CONTEXT_ID_EVEN] += 1
        outcomes.append(_answer_context(proposed, policy, kinds.get(proposed.abstract_syntax)))
    return tuple(outcomes)


def _answer_context(
    proposed: PresentationContextRQ, policy: AcceptorPolicy, kind: SOPClassCommonExtendedNegotiation | None
) -> ContextOutcome:
    if not proposed.abstract_syntax or not policy.abstract_syntaxes(proposed.abstract_syntax, kind):
        return _context(
            proposed,
            ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED,
            f"{describe(proposed.abstract_syntax) or 'an empty abstract syntax'} is not accepted",
        )
    accepted = [
        uid
        for uid in proposed.transfer_syntaxes
        if uid
        and (
            policy.transfer_syntaxes is None
            or uid in policy.transfer_syntaxes
            or proposed.abstract_syntax in policy.in_any_transfer_syntax
        )
    ]
    if not accepted:
        return _context(
            proposed,
            ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED,
            "no proposed transfer syntax is accepted",
        )
    preferred = next((uid for uid in policy.preferred_transfer_syntaxes if uid in accepted), accepted[0])
    return _context(proposed, ContextResult.ACCEPTED, "accepted", preferred)


def _answer_window(asked: AsynchronousOperationsWindow | None, maximum: int) -> AsynchronousOperationsWindow | None:
    """Return the proposed window, at most `maximum` also for an unlimited one (PS3.7 D.3.3.3)."""
    if asked is None:
        return None
    return AsynchronousOperationsWindow(min(asked.invoked or maximum, maximum), 1)


def _answerable(contexts: tuple[ContextOutcome, ...]) -> frozenset[str]:
    """Return the SOP Classes of accepted contexts whose UIDs have a valid length (PS3.5 9.1).

    Only these appear in items of the answer, so that a peer cannot make it longer than an item's 64 KiB.
    """
    return frozenset(
        context.abstract_syntax
        for context in contexts
        if context.result is ContextResult.ACCEPTED and len(context.abstract_syntax) <= MAX_UID_LENGTH
    )


def _answer_roles(
    asked: tuple[RoleSelection, ...], answerable: frozenset[str], policy: AcceptorPolicy
) -> tuple[RoleSelection, ...]:
    """Return one answer for each SOP Class. The acceptor is its SCP or its SCU, never both (PS3.7 D.3.3.4)."""
    answers: dict[str, RoleSelection] = {}
    for role in asked:
        uid = role.sop_class_uid
        if uid in answerable:
            swapped = uid in policy.requestor_as_scp
            answers.setdefault(uid, RoleSelection(uid, scu=role.scu and not swapped, scp=role.scp and swapped))
    return tuple(answers.values())


def _answer_extended(
    asked: tuple[SOPClassExtendedNegotiation, ...], answerable: frozenset[str], policy: AcceptorPolicy
) -> tuple[SOPClassExtendedNegotiation, ...]:
    """Return the policy's answers, one for each SOP Class (PS3.7 D.3.3.5)."""
    if policy.extended is None:
        return ()
    answers: dict[str, SOPClassExtendedNegotiation] = {}
    for item in asked:
        if item.sop_class_uid in answerable and item.sop_class_uid not in answers:
            information = policy.extended(item)
            if information is not None:
                answers[item.sop_class_uid] = SOPClassExtendedNegotiation(item.sop_class_uid, information)
    return tuple(answers.values())


def resolve_reply(
    request: AssociateRQ, reply: AssociateAC, notes: Counter[Deviation] | None = None
) -> NegotiationResult:
    """Return the outcome of an acceptance for the requestor (PS3.8 9.3.3.2).

    A context without an answer, or accepted with a transfer syntax that was not proposed, is rejected. `notes` counts
    tolerated deviations.
    """
    notes = Counter() if notes is None else notes
    answers: dict[int, PresentationContextAC] = {}
    for answer in reply.presentation_contexts:
        if answer.context_id in answers:
            notes[Deviation.CONTEXT_ID_REPEATED] += 1
        answers.setdefault(answer.context_id, answer)
    contexts = tuple(
        _resolve_context(proposed, answers.pop(proposed.context_id, None), notes)
        for proposed in request.presentation_contexts
    )
    if answers:
        notes[Deviation.CONTEXT_ID_UNKNOWN] += len(answers)
    return _outcome(contexts, reply.user_information, reply.user_information)


def _resolve_context(
    proposed: PresentationContextRQ, answer: PresentationContextAC | None, notes: Counter[Deviation]
) -> ContextOutcome:
    if answer is None:
        return _context(proposed, ContextResult.NO_REASON, "the peer's answer is missing")
    if answer.result is not ContextResult.ACCEPTED:
        return _context(proposed, answer.result, answer.result.meaning)
    if answer.transfer_syntax not in proposed.transfer_syntaxes:
        notes[Deviation.ANSWER_NOT_PROPOSED] += 1
        return _context(
            proposed, ContextResult.NO_REASON, f"the peer chose {answer.transfer_syntax!r}, which was not proposed"
        )
    return _context(proposed, ContextResult.ACCEPTED, "accepted", answer.transfer_syntax)


def _context(
    proposed: PresentationContextRQ, result: ContextResult, reason: str, transfer_syntax: str = ""
) -> ContextOutcome:
    return ContextOutcome(proposed.context_id, proposed.abstract_syntax, result, transfer_syntax, reason)


def _outcome(contexts: tuple[ContextOutcome, ...], peer: UserInformation, reply: UserInformation) -> NegotiationResult:
    return NegotiationResult(
        contexts=contexts,
        peer_maximum_length=peer.maximum_length or 0,
        operations_window=reply.operations_window or AsynchronousOperationsWindow(1, 1),
        roles=reply.roles,
        extended=reply.extended,
        user_identity_response=reply.user_identity_response,
        peer=ImplementationInfo(peer.implementation_class_uid or "", peer.implementation_version_name or ""),
    )

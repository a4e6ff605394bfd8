"""Negotiation of an association as two pure functions, one for each side (PS3.8 7.1 and 9.3, PS3.7 D.3).

`negotiate` is the acceptor's: request and policy in, reply and outcome out. `settle` is the requestor's: request and
reply in, outcome out. Both give a reason for each Presentation Context.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from dicomport.standard import IMPLICIT_VR_LITTLE_ENDIAN, MAX_UID_LENGTH, describe
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

__all__ = [
    "DEFAULT_MAXIMUM_LENGTH",
    "IMPLEMENTATION",
    "SMALLEST_USEFUL_LENGTH",
    "AcceptedContext",
    "AcceptorPolicy",
    "ContextOutcome",
    "ImplementationInfo",
    "Negotiation",
    "NegotiationResult",
    "negotiate",
    "resolve_reply",
]

SMALLEST_USEFUL_LENGTH: Final = 8
"""A PDV header takes 6 bytes, and fragments are of even length (PS3.8 E.1)."""


_INSIGNIFICANT: Final = IMPLICIT_VR_LITTLE_ENDIAN.uid


class ImplementationInfo(NamedTuple):
    """How this implementation names itself (PS3.7 D.3.3.2)."""

    class_uid: str
    version_name: str


IMPLEMENTATION: Final = ImplementationInfo("2.25.284104925834416107264219340953541417361", "DICOMPORT_0_1_0")
"""The Implementation Class UID and Implementation Version Name of dicomport (PS3.7 D.3.3.2)."""

DEFAULT_MAXIMUM_LENGTH: Final = 1 << 18
"""Announced maximum length of a P-DATA-TF body, bytes (PS3.8 D.1). Data is streamed, so a large one costs nothing."""


class AcceptedContext(NamedTuple):
    """A Presentation Context that both sides agreed on."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class ContextOutcome:
    """What became of one proposed Presentation Context, and why."""

    context_id: int
    abstract_syntax: str
    result: ContextResult
    transfer_syntax: str
    """The one agreed on; empty where the context was rejected."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NegotiationResult:
    """What the two sides agreed on."""

    contexts: tuple[ContextOutcome, ...]
    peer_maximum_length: int
    """The longest P-DATA-TF body, bytes, that the peer takes; 0 is no limit (PS3.8 D.1)."""
    operations_window: AsynchronousOperationsWindow
    """Absent from either side's PDU it is 1/1 (PS3.7 D.3.3.3)."""
    roles: tuple[RoleSelection, ...]
    """Of SOP Classes whose roles are not the default, requestor SCU and acceptor SCP (PS3.7 D.3.3.4)."""
    extended: tuple[SOPClassExtendedNegotiation, ...]
    user_identity_response: UserIdentityAC | None
    """There where the requestor asked for it, and the acceptor checks user identities (PS3.7 D.3.3.7)."""
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
    """The acceptor's answer: what to send, and what it means. A rejection has no outcome, and says in `reason` why."""

    reply: AssociateAC | AssociateRJ
    outcome: NegotiationResult | None
    reason: str = ""


ExtendedAnswer: TypeAlias = Callable[[SOPClassExtendedNegotiation], bytes | None]
"""Gives the service class application information of the answer, or None for no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptorPolicy:
    """What an acceptor takes. The defaults take every peer; the abstract syntaxes are always the user's to name."""

    ae_title: str
    identity: ImplementationInfo
    maximum_length: int
    """The longest P-DATA-TF body, bytes, announced as acceptable; 0 is no limit."""
    abstract_syntaxes: Callable[[str, SOPClassCommonExtendedNegotiation | None], bool]
    """Whether an abstract syntax is taken, given what the requestor said of its kind, if anything."""
    transfer_syntaxes: Collection[str] | None = None
    """Those taken; None for all."""
    preferred_transfer_syntaxes: tuple[str, ...] = ()
    """Those taken before any other, in this order, where they are proposed. Otherwise the requestor's order wins."""
    check_called_ae_title: bool = False
    operations_window: int = 1
    """How many operations the requestor may have outstanding at most, where it asks for more than one."""
    extended: ExtendedAnswer | None = None
    requestor_as_scp: Collection[str] = ()
    """SOP Classes of which the requestor may be the SCP, where it asks for that role, and this side only the SCU."""


def negotiate(
    request: AssociateRQ,
    policy: AcceptorPolicy,
    notes: Counter[Deviation] | None = None,
    *,
    user_identity_response: UserIdentityAC | None = None,
) -> Negotiation:
    """Answer a request for an association (PS3.8 7.1.1, 9.3.3 and 9.3.4).

    The protocol version is not looked at here: that is the service-provider's own check (AE-6). Nor is the user
    identity, as that may take a while: `user_identity_response` is for one that was found good, and sent where it was
    asked for; those who do not check send none (PS3.7 D.3.3.7). `notes` counts tolerated deviations.
    """
    refusal = _refusal(request, policy)
    if refusal is not None:
        return Negotiation(AssociateRJ(refusal[0]), None, refusal[1])
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
        # The two titles are reserved fields here: they go back as they came and mean nothing (PS3.8 9.3.3).
        called_ae_title=request.called_ae_title,
        calling_ae_title=request.calling_ae_title,
        presentation_contexts=tuple(
            # A rejected context needs a transfer syntax too, though it is not significant (PS3.8 9.3.3.2).
            PresentationContextAC(context.context_id, context.result, context.transfer_syntax or _INSIGNIFICANT)
            for context in contexts
        ),
        user_information=answer,
    )
    return Negotiation(reply, _outcome(contexts, asked, answer))


def _refusal(request: AssociateRQ, policy: AcceptorPolicy) -> tuple[RejectReason, str] | None:
    """Say why the association as a whole is refused, if it is (PS3.8 9.3.4)."""
    if request.application_context != APPLICATION_CONTEXT:
        return (
            RejectReason.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED,
            f"application context {request.application_context!r} is not DICOM's",
        )
    if policy.check_called_ae_title and request.called_ae_title != policy.ae_title:
        return (
            RejectReason.CALLED_AE_TITLE_NOT_RECOGNIZED,
            f"called AE title {request.called_ae_title!r} is not {policy.ae_title!r}, which has to be called",
        )
    if not request.presentation_contexts:
        return RejectReason.USER_NO_REASON, "no presentation context was proposed"
    if 0 < (request.user_information.maximum_length or 0) < SMALLEST_USEFUL_LENGTH:
        return (
            RejectReason.USER_NO_REASON,
            f"a maximum length of {request.user_information.maximum_length} bytes leaves no room for data",
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
            # One answer for each id: a second one could not be told from the first.
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
            f"{describe(proposed.abstract_syntax) or 'no abstract syntax'} is not among the SOP Classes taken here",
        )
    taken = [
        uid
        for uid in proposed.transfer_syntaxes
        if uid and (policy.transfer_syntaxes is None or uid in policy.transfer_syntaxes)
    ]
    if not taken:
        return _context(
            proposed,
            ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED,
            "none of its transfer syntaxes is taken here",
        )
    preferred = next((uid for uid in policy.preferred_transfer_syntaxes if uid in taken), taken[0])
    return _context(proposed, ContextResult.ACCEPTED, "accepted", preferred)


def _answer_window(asked: AsynchronousOperationsWindow | None, most: int) -> AsynchronousOperationsWindow | None:
    """Answer what was offered, never more, and bound an unlimited offer (PS3.7 D.3.3.3)."""
    if asked is None:
        return None
    return AsynchronousOperationsWindow(min(asked.invoked or most, most), 1)


def _answerable(contexts: tuple[ContextOutcome, ...]) -> frozenset[str]:
    """Give the SOP Classes that items of the answer may name.

    They are those of the accepted contexts, with UIDs of a length that a UID can have (PS3.5 9.1): the answer is
    one item of 64 KiB at most, and what a peer asks must not make it longer.
    """
    return frozenset(
        context.abstract_syntax
        for context in contexts
        if context.result is ContextResult.ACCEPTED and len(context.abstract_syntax) <= MAX_UID_LENGTH
    )


def _answer_roles(
    asked: tuple[RoleSelection, ...], answerable: frozenset[str], policy: AcceptorPolicy
) -> tuple[RoleSelection, ...]:
    """Answer once for each SOP Class. An acceptor is its SCP or its SCU, never both (PS3.7 D.3.3.4)."""
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
    """Answer once for each SOP Class what the policy has to say (PS3.7 D.3.3.5)."""
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
    """Say what an acceptance means to the requestor (PS3.8 9.3.3.2).

    A context that the reply leaves out, or accepts with a transfer syntax that was not proposed, is a rejected one.
    `notes` counts tolerated deviations.
    """
    notes = Counter() if notes is None else notes
    answers: dict[int, PresentationContextAC] = {}
    for answer in reply.presentation_contexts:
        if answer.context_id in answers:
            notes[Deviation.CONTEXT_ID_REPEATED] += 1
        answers.setdefault(answer.context_id, answer)
    contexts = tuple(
        _settle_context(proposed, answers.pop(proposed.context_id, None), notes)
        for proposed in request.presentation_contexts
    )
    if answers:
        notes[Deviation.CONTEXT_ID_UNKNOWN] += len(answers)
    return _outcome(contexts, reply.user_information, reply.user_information)


def _settle_context(
    proposed: PresentationContextRQ, answer: PresentationContextAC | None, notes: Counter[Deviation]
) -> ContextOutcome:
    if answer is None:
        return _context(proposed, ContextResult.NO_REASON, "the peer did not answer it")
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

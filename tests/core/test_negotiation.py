"""Negotiation as a pure function of either side (PS3.8 7.1 and 9.3, PS3.7 D.3)."""

from collections import Counter
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given, strategies as st
from tests.core.associations import POLICY, REQUEST, feed, opened, output, proposing
from tests.core.messages import CT, EXPLICIT, IMPLICIT, INVALID, VERIFICATION, associate_ac

import dicomport
from dicomport.core import (
    IMPLEMENTATION,
    Aborted,
    AcceptedContext,
    AcceptorPolicy,
    AssociationRequested,
    ContextOutcome,
    ImplementationInfo,
    Negotiation,
    NegotiationResult,
    State,
    negotiate,
    resolve_reply,
)
from dicomport.wire import (
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
    UserIdentityRQ,
    UserInformation,
    decode,
)

JPEG: Final = "1.2.840.10008.1.2.4.50"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"


def proposed(*contexts: PresentationContextRQ, **fields: Any) -> AssociateRQ:
    return replace(REQUEST, presentation_contexts=contexts, **fields)


def saying(**user_information: Any) -> AssociateRQ:
    return replace(REQUEST, user_information=replace(REQUEST.user_information, **user_information))


def accepting(negotiation: Negotiation) -> tuple[AssociateAC, NegotiationResult]:
    assert isinstance(negotiation.reply, AssociateAC)
    assert negotiation.outcome is not None
    assert negotiation.reason == ""
    # The answer can be encoded, and decodes to the same value.
    assert decode(negotiation.reply.encode()) == negotiation.reply
    return negotiation.reply, negotiation.outcome


def rejecting(negotiation: Negotiation) -> RejectReason:
    assert isinstance(negotiation.reply, AssociateRJ)
    assert negotiation.outcome is None
    assert negotiation.reason
    assert not negotiation.reply.transient
    return negotiation.reply.reason


def one(context: PresentationContextRQ, **policy: Any) -> ContextOutcome:
    _, outcome = accepting(negotiate(proposed(context), replace(POLICY, **policy)))
    [answer] = outcome.contexts
    return answer


# Presentation Contexts (PS3.8 9.3.2.2, 9.3.3.2).


def test_a_plain_request_is_accepted() -> None:
    reply, outcome = accepting(negotiate(REQUEST, POLICY))
    assert reply == AssociateAC(
        called_ae_title="DICOMPORT",
        calling_ae_title="MODALITY",
        presentation_contexts=(
            PresentationContextAC(1, ContextResult.ACCEPTED, IMPLICIT),
            PresentationContextAC(3, ContextResult.ACCEPTED, EXPLICIT),
        ),
        user_information=UserInformation(
            maximum_length=16384,
            implementation_class_uid="1.2.3.4",
            implementation_version_name="DICOMPORT_TEST",
        ),
    )
    assert outcome == NegotiationResult(
        contexts=(
            ContextOutcome(1, VERIFICATION, ContextResult.ACCEPTED, IMPLICIT, "accepted"),
            ContextOutcome(3, CT, ContextResult.ACCEPTED, EXPLICIT, "accepted"),
        ),
        peer_maximum_length=16384,
        operations_window=AsynchronousOperationsWindow(1, 1),
        roles=(),
        extended=(),
        user_identity_response=None,
        peer=ImplementationInfo("1.2.3.5", ""),
    )
    assert outcome.accepted == {
        1: AcceptedContext(1, VERIFICATION, IMPLICIT),
        3: AcceptedContext(3, CT, EXPLICIT),
    }


@pytest.mark.parametrize("offered", [(JPEG, EXPLICIT, IMPLICIT), (IMPLICIT, JPEG), (EXPLICIT,), (JPEG, JPEG)])
def test_the_requestor_s_order_wins(offered: tuple[str, ...]) -> None:
    assert one(PresentationContextRQ(1, CT, offered)).transfer_syntax == offered[0]


@pytest.mark.parametrize(
    ("preferred", "offered", "chosen"),
    [
        ((EXPLICIT,), (JPEG, IMPLICIT, EXPLICIT), EXPLICIT),
        ((EXPLICIT, IMPLICIT), (JPEG, IMPLICIT, EXPLICIT), EXPLICIT),
        ((IMPLICIT, EXPLICIT), (JPEG, IMPLICIT, EXPLICIT), IMPLICIT),
        ((BIG_ENDIAN, EXPLICIT), (JPEG, EXPLICIT), EXPLICIT),
        ((BIG_ENDIAN,), (JPEG, EXPLICIT), JPEG),
    ],
)
def test_preferred_transfer_syntaxes_come_first(
    preferred: tuple[str, ...], offered: tuple[str, ...], chosen: str
) -> None:
    context = PresentationContextRQ(1, CT, offered)
    assert one(context, preferred_transfer_syntaxes=preferred).transfer_syntax == chosen


def test_only_accepted_transfer_syntaxes_are_chosen() -> None:
    context = PresentationContextRQ(1, CT, (JPEG, IMPLICIT, EXPLICIT))
    assert one(context, transfer_syntaxes={EXPLICIT, IMPLICIT}).transfer_syntax == IMPLICIT
    preferring = one(context, transfer_syntaxes={EXPLICIT}, preferred_transfer_syntaxes=(IMPLICIT, EXPLICIT))
    assert preferring.transfer_syntax == EXPLICIT


@pytest.mark.parametrize("offered", [(), ("",), (JPEG, BIG_ENDIAN)])
def test_a_context_without_an_accepted_transfer_syntax(offered: tuple[str, ...]) -> None:
    context = one(PresentationContextRQ(1, CT, offered), transfer_syntaxes=frozenset({IMPLICIT}))
    assert context == ContextOutcome(
        1, CT, ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED, "", "no proposed transfer syntax is accepted"
    )


def test_a_context_without_any_transfer_syntax_is_rejected() -> None:
    assert one(PresentationContextRQ(1, CT, ())).result is ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED
    assert one(PresentationContextRQ(1, CT, ("", JPEG))).transfer_syntax == JPEG


def test_an_abstract_syntax_that_is_not_accepted() -> None:
    context = one(PresentationContextRQ(1, CT, (IMPLICIT,)), abstract_syntaxes=lambda uid, _kind: uid == VERIFICATION)
    assert context.result is ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
    assert "CT Image Storage" in context.reason
    assert "is not accepted" in context.reason
    assert context.transfer_syntax == ""


def test_a_missing_abstract_syntax_is_not_even_asked_for() -> None:
    def never(_uid: str, _kind: SOPClassCommonExtendedNegotiation | None) -> bool:
        raise AssertionError

    context = one(PresentationContextRQ(1, "", (IMPLICIT,)), abstract_syntaxes=never)
    assert context.result is ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
    assert context.reason == "an empty abstract syntax is not accepted"


def test_an_abstract_syntax_is_checked_with_its_extended_negotiation() -> None:
    storage = "1.2.840.10008.4.2"
    kind = SOPClassCommonExtendedNegotiation("1.2.9", storage, (CT,))
    request = replace(
        proposed(PresentationContextRQ(1, "1.2.9", (IMPLICIT,)), PresentationContextRQ(3, "1.2.8", (IMPLICIT,))),
        user_information=UserInformation(common_extended=(kind,)),
    )
    policy = replace(
        POLICY, abstract_syntaxes=lambda _uid, kind: kind is not None and kind.service_class_uid == storage
    )
    _, outcome = accepting(negotiate(request, policy))
    assert [context.result for context in outcome.contexts] == [
        ContextResult.ACCEPTED,
        ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED,
    ]


def test_a_rejected_context_has_a_transfer_syntax_in_the_reply() -> None:
    """PS3.8 9.3.3.2: it is there, and not significant."""
    policy = replace(POLICY, transfer_syntaxes=(EXPLICIT,))
    reply, outcome = accepting(negotiate(proposed(PresentationContextRQ(9, CT, (JPEG,))), policy))
    assert reply.presentation_contexts == (
        PresentationContextAC(9, ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED, IMPLICIT),
    )
    assert outcome.accepted == {}


@pytest.mark.parametrize("context_id", [0, 2, 254])
def test_an_even_id_is_tolerated_and_counted(context_id: int) -> None:
    notes: Counter[Deviation] = Counter()
    reply, outcome = accepting(negotiate(proposed(PresentationContextRQ(context_id, CT, (IMPLICIT,))), POLICY, notes))
    assert [context.context_id for context in reply.presentation_contexts] == [context_id]
    assert list(outcome.accepted) == [context_id]
    assert notes == {Deviation.CONTEXT_ID_EVEN: 1}


def test_of_contexts_with_one_id_the_first_is_answered() -> None:
    notes: Counter[Deviation] = Counter()
    request = proposed(
        PresentationContextRQ(1, "", (IMPLICIT,)),
        PresentationContextRQ(3, CT, (JPEG,)),
        PresentationContextRQ(1, VERIFICATION, (IMPLICIT,)),
        PresentationContextRQ(3, CT, (EXPLICIT,)),
    )
    reply, outcome = accepting(negotiate(request, POLICY, notes))
    assert reply.presentation_contexts == (
        PresentationContextAC(1, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED, IMPLICIT),
        PresentationContextAC(3, ContextResult.ACCEPTED, JPEG),
    )
    assert outcome.accepted == {3: AcceptedContext(3, CT, JPEG)}
    assert notes == {Deviation.CONTEXT_ID_REPEATED: 2}


def test_one_abstract_syntax_may_have_many_contexts_in_any_order_of_ids() -> None:
    ids = [255, 1, 77, 3]
    reply, outcome = accepting(
        negotiate(proposed(*(PresentationContextRQ(number, CT, (IMPLICIT,)) for number in ids)), POLICY)
    )
    assert [context.context_id for context in reply.presentation_contexts] == ids
    assert list(outcome.accepted) == ids


def test_128_contexts() -> None:
    request = proposed(*(PresentationContextRQ(number, CT, (JPEG, IMPLICIT)) for number in range(1, 256, 2)))
    reply, outcome = accepting(negotiate(request, POLICY))
    assert len(reply.presentation_contexts) == len(outcome.accepted) == 128


# The association as a whole (PS3.8 9.3.4, Table 9-21).


@pytest.mark.parametrize("name", ["", "1.2.3", "1.2.840.10008.3.1.1.11", "%n%n%s", "x" * 65000])
def test_another_application_context_is_rejected(name: str) -> None:
    negotiation = negotiate(replace(REQUEST, application_context=name), POLICY)
    reason = rejecting(negotiation)
    assert (reason.source, reason.reason) == (1, 2)


@pytest.mark.parametrize(
    ("called", "check", "refused"),
    [
        ("DICOMPORT", True, False),
        ("OTHER", True, True),
        ("", True, True),
        ("dicomport", True, True),
        ("", False, False),
    ],
)
def test_the_called_ae_title_is_checked_where_the_policy_asks(called: str, *, check: bool, refused: bool) -> None:
    negotiation = negotiate(replace(REQUEST, called_ae_title=called), replace(POLICY, check_called_ae_title=check))
    if refused:
        reason = rejecting(negotiation)
        assert (reason.source, reason.reason) == (1, 7)
        assert repr(called) in negotiation.reason
    else:
        accepting(negotiation)


def test_the_titles_of_the_acceptance_are_the_request_s() -> None:
    request = replace(REQUEST, called_ae_title="\xe2\x80\x93 x", calling_ae_title="../\\%s%n")
    reply, _ = accepting(negotiate(request, POLICY))
    assert (reply.called_ae_title, reply.calling_ae_title) == ("\xe2\x80\x93 x", "../\\%s%n")


def test_a_request_without_contexts_is_rejected() -> None:
    negotiation = negotiate(proposed(), POLICY)
    reason = rejecting(negotiation)
    assert (reason.source, reason.reason) == (1, 1)
    assert negotiation.reason == "no presentation context was proposed"


@pytest.mark.parametrize("version", [0, 2, 0xFFFF])
def test_the_protocol_version_is_the_provider_s_business(version: int) -> None:
    accepting(negotiate(replace(REQUEST, protocol_version=version), POLICY))


def test_negotiation_is_pure() -> None:
    assert negotiate(REQUEST, POLICY) == negotiate(REQUEST, POLICY)


# Maximum length (PS3.8 D.1).


@pytest.mark.parametrize("length", range(1, 8))
def test_a_maximum_length_without_room_for_data_is_rejected(length: int) -> None:
    negotiation = negotiate(saying(maximum_length=length), POLICY)
    assert rejecting(negotiation) is RejectReason.USER_NO_REASON
    assert f"{length} bytes is too short" in negotiation.reason


@pytest.mark.parametrize("length", range(1, 8))
def test_a_maximum_length_too_short_for_data_is_aborted(length: int) -> None:
    core = proposing()
    [event] = feed(core, associate_ac(maximum_length=length))
    assert isinstance(event, Aborted)
    assert "is too short for data" in event.detail
    assert output(core) == INVALID
    assert core.state is State.STA13
    assert not core.contexts


@pytest.mark.parametrize(("length", "heard"), [(None, 0), (0, 0), (8, 8), (0xFFFFFFFF, 0xFFFFFFFF)])
def test_a_maximum_length_that_has_room(length: int | None, heard: int) -> None:
    _, outcome = accepting(negotiate(saying(maximum_length=length), POLICY))
    assert outcome.peer_maximum_length == heard


@pytest.mark.parametrize("length", [0, 16384, 0xFFFFFFFF])
def test_the_policy_s_maximum_length_is_announced(length: int) -> None:
    reply, _ = accepting(negotiate(REQUEST, replace(POLICY, maximum_length=length)))
    assert reply.user_information.maximum_length == length


# The asynchronous operations window (PS3.7 D.3.3.3, robustness A10).


@pytest.mark.parametrize(
    ("asked", "most", "answered"),
    [
        (None, 1, None),
        (None, 16, None),
        ((0, 0), 1, (1, 1)),
        ((0, 0), 16, (16, 1)),
        ((1, 1), 16, (1, 1)),
        ((5, 5), 16, (5, 1)),
        ((65535, 65535), 16, (16, 1)),
        ((65535, 65535), 1, (1, 1)),
    ],
)
def test_the_window_is_bounded(asked: tuple[int, int] | None, most: int, answered: tuple[int, int] | None) -> None:
    window = None if asked is None else AsynchronousOperationsWindow(*asked)
    reply, outcome = accepting(negotiate(saying(operations_window=window), replace(POLICY, operations_window=most)))
    expected = None if answered is None else AsynchronousOperationsWindow(*answered)
    assert reply.user_information.operations_window == expected
    assert outcome.operations_window == (expected or AsynchronousOperationsWindow(1, 1))


# Roles (PS3.7 D.3.3.4).


@pytest.mark.parametrize("scu", [True, False])
@pytest.mark.parametrize("scp", [True, False])
def test_an_acceptor_is_the_scp(*, scu: bool, scp: bool) -> None:
    reply, outcome = accepting(negotiate(saying(roles=(RoleSelection(CT, scu, scp),)), POLICY))
    assert reply.user_information.roles == outcome.roles == (RoleSelection(CT, scu, scp=False),)


@pytest.mark.parametrize("scu", [True, False])
@pytest.mark.parametrize("scp", [True, False])
def test_the_requestor_is_the_scp_of_classes_that_are_named(*, scu: bool, scp: bool) -> None:
    roles = (RoleSelection(CT, scu, scp), RoleSelection(VERIFICATION, scu, scp))
    reply, outcome = accepting(negotiate(saying(roles=roles), replace(POLICY, requestor_as_scp=(CT,))))
    assert reply.user_information.roles == outcome.roles
    assert outcome.roles == (RoleSelection(CT, scu=False, scp=scp), RoleSelection(VERIFICATION, scu, scp=False))


def test_a_requestor_that_asks_for_no_role_has_the_default_one() -> None:
    _, outcome = accepting(negotiate(REQUEST, replace(POLICY, requestor_as_scp=(CT,))))
    assert outcome.roles == ()


def test_roles_are_answered_once_for_each_class_that_was_accepted() -> None:
    roles = (
        RoleSelection("1.2.3", scu=True, scp=True),
        RoleSelection(CT, scu=True, scp=True),
        RoleSelection(CT, scu=False, scp=True),
    )
    policy = replace(POLICY, abstract_syntaxes=lambda uid, _kind: uid == CT)
    reply, _ = accepting(negotiate(saying(roles=(*roles, RoleSelection(VERIFICATION, scu=True, scp=True))), policy))
    assert reply.user_information.roles == (RoleSelection(CT, scu=True, scp=False),)


# Extended negotiation (PS3.7 D.3.3.5).


def test_extended_negotiation_is_ignored_without_a_callback() -> None:
    reply, outcome = accepting(negotiate(saying(extended=(SOPClassExtendedNegotiation(CT, b"\1"),)), POLICY))
    assert reply.user_information.extended == outcome.extended == ()


def test_extended_negotiation_is_the_callback_s() -> None:
    asked: list[SOPClassExtendedNegotiation] = []

    def answer(item: SOPClassExtendedNegotiation) -> bytes | None:
        asked.append(item)
        return None if item.sop_class_uid == VERIFICATION else item.information[::-1]

    items = (
        SOPClassExtendedNegotiation(VERIFICATION, b"\1"),
        SOPClassExtendedNegotiation(CT, b"\1\2"),
        SOPClassExtendedNegotiation(CT, b"\3\4"),
        SOPClassExtendedNegotiation("1.2.3", b"\5"),
    )
    reply, outcome = accepting(negotiate(saying(extended=items), replace(POLICY, extended=answer)))
    assert asked == list(items[:2])
    assert reply.user_information.extended == outcome.extended == (SOPClassExtendedNegotiation(CT, b"\2\1"),)


# A reply is one item of 64 KiB, and the peer must not be able to make it longer.


def long_uids() -> list[UserInformation]:
    return [
        UserInformation(roles=(RoleSelection("1" * 65520, scu=True, scp=True),)),
        UserInformation(roles=tuple(RoleSelection("1.2" * 21, scu=True, scp=True) for _ in range(900))),
        UserInformation(extended=(SOPClassExtendedNegotiation("1" * 65500, b""),)),
    ]


@pytest.mark.parametrize("asked", long_uids(), ids=["a long role", "many roles", "a long extended"])
@pytest.mark.parametrize("as_context", [True, False])
def test_the_answer_to_any_request_can_be_encoded(asked: UserInformation, *, as_context: bool) -> None:
    uids = [item.sop_class_uid for item in asked.roles] + [item.sop_class_uid for item in asked.extended]
    named = uids[0][:65400] if as_context else CT
    request = replace(proposed(PresentationContextRQ(1, named, (IMPLICIT,))), user_information=asked)
    core = opened()
    [event] = feed(core, request.encode())
    assert isinstance(event, AssociationRequested)
    core.answer(negotiate(event.request, replace(POLICY, extended=lambda item: item.information)))
    assert core.established
    assert isinstance(decode(output(core)), AssociateAC)


# User identity (PS3.7 D.3.3.7).

SECRET: Final = UserIdentityRQ(2, positive_response_requested=True, primary_field=b"user", secondary_field=b"secret")


def test_an_unchecked_user_identity_is_not_answered() -> None:
    reply, _ = accepting(negotiate(saying(user_identity=SECRET), POLICY))
    assert reply.user_information.user_identity_response is None


@pytest.mark.parametrize("wanted", [True, False])
def test_a_valid_user_identity_is_answered_if_requested(*, wanted: bool) -> None:
    identity = replace(SECRET, positive_response_requested=wanted)
    ticket = UserIdentityAC(b"ticket")
    reply, outcome = accepting(negotiate(saying(user_identity=identity), POLICY, user_identity_response=ticket))
    assert reply.user_information.user_identity_response == (ticket if wanted else None)
    assert outcome.user_identity_response == (ticket if wanted else None)
    assert "secret" not in repr(reply) + repr(outcome)
    assert "ticket" not in repr(reply) + repr(outcome)


def test_a_requestor_without_user_identity_gets_no_response() -> None:
    reply, _ = accepting(negotiate(REQUEST, POLICY, user_identity_response=UserIdentityAC()))
    assert reply.user_information.user_identity_response is None


# The requestor's side: the outcome of an acceptance (PS3.8 9.3.3.2, robustness A8).


def settled(*answers: PresentationContextAC, **user_information: Any) -> tuple[NegotiationResult, Counter[Deviation]]:
    notes: Counter[Deviation] = Counter()
    reply = AssociateAC(
        called_ae_title="\xffjunk",
        calling_ae_title="",
        presentation_contexts=answers,
        user_information=UserInformation(**user_information),
    )
    return resolve_reply(REQUEST, reply, notes), notes


def test_an_acceptance_is_settled() -> None:
    outcome, notes = settled(
        PresentationContextAC(1, ContextResult.ACCEPTED, IMPLICIT),
        PresentationContextAC(3, ContextResult.ACCEPTED, IMPLICIT),
        maximum_length=4096,
        implementation_class_uid="1.9",
        implementation_version_name="PEER",
        operations_window=AsynchronousOperationsWindow(0, 1),
        roles=(RoleSelection(CT, scu=True, scp=False),),
        extended=(SOPClassExtendedNegotiation(CT, b"\1"),),
        user_identity_response=UserIdentityAC(b"ticket"),
    )
    assert outcome == NegotiationResult(
        contexts=(
            ContextOutcome(1, VERIFICATION, ContextResult.ACCEPTED, IMPLICIT, "accepted"),
            ContextOutcome(3, CT, ContextResult.ACCEPTED, IMPLICIT, "accepted"),
        ),
        peer_maximum_length=4096,
        operations_window=AsynchronousOperationsWindow(0, 1),
        roles=(RoleSelection(CT, scu=True, scp=False),),
        extended=(SOPClassExtendedNegotiation(CT, b"\1"),),
        user_identity_response=UserIdentityAC(b"ticket"),
        peer=ImplementationInfo("1.9", "PEER"),
    )
    assert not notes


def test_a_missing_item_of_an_acceptance_is_the_default() -> None:
    outcome, notes = settled()
    assert outcome.peer_maximum_length == 0
    assert outcome.operations_window == AsynchronousOperationsWindow(1, 1)
    assert (outcome.roles, outcome.extended, outcome.peer) == ((), (), ImplementationInfo("", ""))
    assert outcome.accepted == {}
    assert [context.reason for context in outcome.contexts] == ["the peer's answer is missing"] * 2
    assert not notes


def test_an_unknown_id_is_counted_and_no_context() -> None:
    outcome, notes = settled(
        PresentationContextAC(5, ContextResult.ACCEPTED, IMPLICIT),
        PresentationContextAC(0, ContextResult.ACCEPTED, IMPLICIT),
        PresentationContextAC(1, ContextResult.ACCEPTED, IMPLICIT),
    )
    assert list(outcome.accepted) == [1]
    assert notes == {Deviation.CONTEXT_ID_UNKNOWN: 2}


def test_of_answers_with_one_id_the_first_counts() -> None:
    outcome, notes = settled(
        PresentationContextAC(3, ContextResult.ACCEPTED, EXPLICIT),
        PresentationContextAC(3, ContextResult.ACCEPTED, IMPLICIT),
        PresentationContextAC(3, ContextResult.USER_REJECTION),
    )
    assert outcome.accepted == {3: AcceptedContext(3, CT, EXPLICIT)}
    assert notes == {Deviation.CONTEXT_ID_REPEATED: 2}


@pytest.mark.parametrize("chosen", ["", JPEG, IMPLICIT + " "])
def test_a_transfer_syntax_that_was_not_proposed_is_a_rejection(chosen: str) -> None:
    outcome, notes = settled(PresentationContextAC(3, ContextResult.ACCEPTED, chosen))
    context = outcome.contexts[1]
    assert (context.result, context.transfer_syntax) == (ContextResult.NO_REASON, "")
    assert repr(chosen) in context.reason
    assert notes == {Deviation.ANSWER_NOT_PROPOSED: 1}


@pytest.mark.parametrize("result", [result for result in ContextResult if result is not ContextResult.ACCEPTED])
@pytest.mark.parametrize("syntax", ["", "junk", IMPLICIT])
def test_a_rejected_context_needs_no_transfer_syntax(result: ContextResult, syntax: str) -> None:
    outcome, notes = settled(PresentationContextAC(3, result, syntax))
    assert outcome.contexts[1] == ContextOutcome(3, CT, result, "", result.meaning)
    assert not notes


def test_resolve_reply_counts_nothing_without_a_counter() -> None:
    reply = AssociateAC(
        called_ae_title="",
        calling_ae_title="",
        presentation_contexts=(PresentationContextAC(9, ContextResult.ACCEPTED, IMPLICIT),),
        user_information=UserInformation(),
    )
    assert resolve_reply(REQUEST, reply).accepted == {}


# Both sides mean the same by it.

UIDS: Final = st.sampled_from(["", VERIFICATION, CT, "1.2.3", IMPLICIT, EXPLICIT, JPEG])


@given(
    contexts=st.lists(
        st.builds(PresentationContextRQ, st.integers(0, 255), UIDS, st.lists(UIDS, max_size=4).map(tuple)),
        min_size=1,
        max_size=20,
        unique_by=lambda context: context.context_id,
    ),
    taken=st.none() | st.sets(UIDS),
    preferred=st.lists(UIDS, max_size=3).map(tuple),
    classes=st.sets(UIDS),
)
def test_both_sides_agree(
    contexts: list[PresentationContextRQ], taken: set[str] | None, preferred: tuple[str, ...], classes: set[str]
) -> None:
    policy = AcceptorPolicy(
        ae_title="DICOMPORT",
        identity=POLICY.identity,
        maximum_length=0,
        abstract_syntaxes=lambda uid, _kind: uid in classes,
        transfer_syntaxes=taken,
        preferred_transfer_syntaxes=preferred,
    )
    request = proposed(*contexts)
    reply, outcome = accepting(negotiate(request, policy))
    notes: Counter[Deviation] = Counter()
    heard = resolve_reply(request, reply, notes)
    assert heard.accepted == outcome.accepted
    assert [context.result for context in heard.contexts] == [context.result for context in outcome.contexts]
    assert not notes
    for context in outcome.contexts:
        accepted = context.result is ContextResult.ACCEPTED
        assert bool(context.transfer_syntax) == accepted
        assert accepted <= (context.abstract_syntax in classes)
        assert context.reason


def test_the_implementation_version_name_has_the_version_of_the_package() -> None:
    assert IMPLEMENTATION.version_name == f"DICOMPORT_{dicomport.__version__.replace('.', '_')}"

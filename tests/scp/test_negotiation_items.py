"""The SCP's answers to negotiation items beside the contexts (PS3.7 D.3.3, PS3.4 B.3.1)."""

from collections.abc import Iterator
from typing import Final

import pytest
from tests.core.messages import CT, EXPLICIT, IMPLICIT, VERIFICATION
from tests.scp.messages import DATA_SET, context, request
from tests.scp.storages import Recorder

from dicomport import StorageSCP
from dicomport.core import DEFAULT_MAXIMUM_LENGTH, IMPLEMENTATION
from dicomport.testing import ScriptedSCU
from dicomport.wire import (
    AssociateAC,
    AsynchronousOperationsWindow,
    ContextResult,
    PresentationContextAC,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityRQ,
    UserInformation,
)

PRIVATE: Final = "1.3.6.1.4.1.5962.301.9"
STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
STORAGE_SERVICE_CLASS: Final = "1.2.840.10008.4.2"
QUERY_SERVICE_CLASS: Final = "1.2.840.10008.4.999"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"

LEVEL_2: Final = bytes((2, 0, 3, 0, 0, 0))


@pytest.fixture(scope="module")
def scp() -> Iterator[StorageSCP]:
    with StorageSCP(Recorder(), port=0).in_thread() as running:
        yield running


def ask(
    scp: StorageSCP,
    *,
    window: AsynchronousOperationsWindow | None = None,
    roles: tuple[RoleSelection, ...] = (),
    extended: tuple[SOPClassExtendedNegotiation, ...] = (),
    common: tuple[SOPClassCommonExtendedNegotiation, ...] = (),
    identity: UserIdentityRQ | None = None,
) -> AssociateAC:
    """Propose Verification, CT and more with these items, and check that a C-STORE works."""
    items = UserInformation(
        maximum_length=16384,
        operations_window=window,
        roles=roles,
        extended=extended,
        common_extended=common,
        user_identity=identity,
    )
    contexts = (context(1, VERIFICATION), context(3, CT), context(5, PRIVATE), context(7, STUDY_ROOT_FIND))
    with ScriptedSCU("127.0.0.1", scp.port) as peer:
        reply = peer.associate(request=request(*contexts, items=items))
        assert peer.store("1.2.3.4", DATA_SET).status == 0x0000
        peer.release()
    return reply


def test_the_server_sends_its_implementation_and_length(scp: StorageSCP) -> None:
    said = ask(scp).user_information
    assert said == UserInformation(
        maximum_length=DEFAULT_MAXIMUM_LENGTH,
        implementation_class_uid=IMPLEMENTATION.class_uid,
        implementation_version_name=IMPLEMENTATION.version_name,
    )


def test_the_maximum_length_is_the_users_to_choose() -> None:
    for length in (0, 16384, 1 << 20):
        with StorageSCP(Recorder(), port=0, maximum_length=length).in_thread() as scp:
            assert ask(scp).user_information.maximum_length == length


def test_extended_negotiation_for_storage_is_answered_with_level_2(scp: StorageSCP) -> None:
    asked = tuple(SOPClassExtendedNegotiation(uid, bytes(6)) for uid in (CT, PRIVATE, STUDY_ROOT_FIND, VERIFICATION))
    # Only storage classes that were accepted: level 2 (full), signatures kept, nothing coerced.
    assert ask(scp, extended=asked).user_information.extended == (
        SOPClassExtendedNegotiation(CT, LEVEL_2),
        SOPClassExtendedNegotiation(PRIVATE, LEVEL_2),
    )


def test_malformed_extended_negotiation_is_answered_once(scp: StorageSCP) -> None:
    asked = tuple(SOPClassExtendedNegotiation(CT, information) for information in (b"", b"\1", bytes(1000)))
    assert ask(scp, extended=asked).user_information.extended == (SOPClassExtendedNegotiation(CT, LEVEL_2),)


@pytest.mark.parametrize(
    ("offered", "answered"),
    [((1, 1), (1, 1)), ((2, 1), (2, 1)), ((5, 5), (5, 1)), ((0, 0), (16, 1)), ((65535, 65535), (16, 1))],
)
def test_an_operations_window_is_answered_and_bounded(
    scp: StorageSCP, offered: tuple[int, int], answered: tuple[int, int]
) -> None:
    reply = ask(scp, window=AsynchronousOperationsWindow(*offered))
    assert reply.user_information.operations_window == AsynchronousOperationsWindow(*answered)


@pytest.mark.parametrize("positive_response", [False, True])
@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6, 255])
def test_a_user_identity_is_accepted_without_an_answer(
    scp: StorageSCP, kind: int, positive_response: bool, caplog: pytest.LogCaptureFixture
) -> None:
    identity = UserIdentityRQ(kind, positive_response, b"somebody", b"hunter2")
    with caplog.at_level(0, "dicomport"):
        assert ask(scp, identity=identity).user_information.user_identity_response is None
    assert "hunter2" not in caplog.text
    assert "somebody" not in caplog.text


def test_long_user_identities_are_taken(scp: StorageSCP) -> None:
    for length in (0, 30_000):
        ask(scp, identity=UserIdentityRQ(4, True, bytes(length), bytes(length)))


def test_the_server_is_scp_whatever_role_is_proposed(scp: StorageSCP) -> None:
    roles = (RoleSelection(CT, scu=True, scp=True), RoleSelection(PRIVATE, scu=False, scp=True))
    assert ask(scp, roles=roles).user_information.roles == (
        RoleSelection(CT, scu=True, scp=False),
        RoleSelection(PRIVATE, scu=False, scp=False),
    )


def results(reply: AssociateAC) -> list[ContextResult]:
    return [answer.result for answer in reply.presentation_contexts]


def test_a_class_may_say_of_what_kind_it_is(scp: StorageSCP) -> None:
    taken = [ContextResult.ACCEPTED] * 3 + [ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED]
    assert results(ask(scp)) == taken
    assert results(ask(scp, common=(SOPClassCommonExtendedNegotiation(PRIVATE, STORAGE_SERVICE_CLASS),))) == taken
    reply = ask(scp, common=(SOPClassCommonExtendedNegotiation(PRIVATE, QUERY_SERVICE_CLASS, (CT,)),))
    assert results(reply)[2] is ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
    # Classes of the registry are storage, for any service class that a peer names.
    reply = ask(scp, common=(SOPClassCommonExtendedNegotiation(CT, QUERY_SERVICE_CLASS),))
    assert results(reply) == taken


def answers(contexts: tuple[tuple[str, ...], ...], **options: object) -> list[PresentationContextAC]:
    proposed = [context(2 * number + 1, CT, *syntaxes) for number, syntaxes in enumerate(contexts)]
    with StorageSCP(Recorder(), port=0, **options).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:  # type: ignore[arg-type]  # as named below
        return list(peer.associate(request=request(*proposed)).presentation_contexts)


PROPOSED: Final = ((DEFLATED, EXPLICIT, IMPLICIT), (IMPLICIT, EXPLICIT), (DEFLATED,))


def test_the_requestors_first_transfer_syntax_wins() -> None:
    assert answers(PROPOSED) == [
        PresentationContextAC(1, ContextResult.ACCEPTED, DEFLATED),
        PresentationContextAC(3, ContextResult.ACCEPTED, IMPLICIT),
        PresentationContextAC(5, ContextResult.ACCEPTED, DEFLATED),
    ]


def test_but_for_those_that_the_server_prefers() -> None:
    assert answers(PROPOSED, preferred_transfer_syntaxes=("1.2.3", EXPLICIT, DEFLATED)) == [
        PresentationContextAC(1, ContextResult.ACCEPTED, EXPLICIT),
        PresentationContextAC(3, ContextResult.ACCEPTED, EXPLICIT),
        PresentationContextAC(5, ContextResult.ACCEPTED, DEFLATED),
    ]


def test_transfer_syntaxes_may_be_restricted() -> None:
    replies = answers(PROPOSED, transfer_syntaxes=[IMPLICIT])
    assert [(reply.result, reply.transfer_syntax) for reply in replies[:2]] == [(ContextResult.ACCEPTED, IMPLICIT)] * 2
    assert replies[2].result is ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED


def test_abstract_syntaxes_may_be_restricted() -> None:
    with (
        StorageSCP(Recorder(), port=0, abstract_syntaxes=lambda uid, _kind: uid == CT).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as peer,
    ):
        reply = peer.associate()
    assert results(reply) == [ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED, ContextResult.ACCEPTED]


def test_128_contexts_are_answered_each() -> None:
    with StorageSCP(Recorder(), port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        reply = peer.associate(request=request(*(context(number, CT) for number in range(1, 256, 2))))
    assert [answer.context_id for answer in reply.presentation_contexts] == list(range(1, 256, 2))
    assert set(results(reply)) == {ContextResult.ACCEPTED}

"""A request that a server knows has the result that it would have without: events, answer, contexts, deviations."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

import pytest
from hypothesis import given, settings, strategies as st
from tests.core.associations import POLICY, REQUEST, drain, output
from tests.core.messages import CT, EXPLICIT, IMPLICIT
from tests.core.test_fuzz import MUTATIONS
from tests.wire.strategies import requests

from dicomport.core import (
    AcceptedContext,
    AcceptorPolicy,
    Association,
    AssociationRequested,
    CoreEvent,
    KnownRequests,
    Negotiation,
    Role,
    negotiate,
)
from dicomport.core.known_requests import _MAX_BYTES, _MAX_REQUEST_BYTES, _MAX_REQUESTS
from dicomport.wire import (
    AssociateRQ,
    PresentationContextRQ,
    ProtocolLimits,
    UnknownItem,
    UserIdentityAC,
    UserIdentityRQ,
    decode,
)

CONSTANT: Final = replace(POLICY, is_constant=True)
STRICT: Final = replace(CONSTANT, transfer_syntaxes=(IMPLICIT,), check_called_ae_title=True)
LIMITS: Final = ProtocolLimits(presentation_contexts=3)
ENCODED: Final = REQUEST.encode()


@dataclass
class Played:
    """Everything that a peer and the log may see of one request."""

    events: list[CoreEvent]
    answer: bytes
    contexts: dict[int, AcceptedContext]
    deviations: list[tuple[object, int]]
    error: str
    negotiation: Negotiation | None


def play(
    data: bytes, policy: AcceptorPolicy, known: KnownRequests | None, response: UserIdentityAC | None = None
) -> Played:
    """Receive and answer a request as an acceptor."""
    core = Association(Role.ACCEPTOR, limits=LIMITS, known_requests=known)
    core.transport_opened()
    core.receive(data)
    events = drain(core)
    negotiation = None
    match events:
        case [AssociationRequested(request)]:
            answering = negotiate if known is None else known.negotiate
            negotiation = answering(request, policy, core.deviations, user_identity_response=response)
            core.answer(negotiation)
            negotiation = negotiation._replace(encoded=b"")
    return Played(
        events, output(core), dict(core.contexts), list(core.deviations.items()), str(core.error), negotiation
    )


def compare(data: bytes, policies: list[AcceptorPolicy], response: UserIdentityAC | None = None) -> None:
    known = KnownRequests(LIMITS)
    for policy in policies:
        assert play(data, policy, known, response) == play(data, policy, None, response)


POLICIES: Final = st.lists(st.sampled_from([CONSTANT, STRICT, POLICY]), min_size=2, max_size=4)
RESPONSES: Final = st.none() | st.builds(UserIdentityAC, st.binary(max_size=3))


@settings(max_examples=300, deadline=None)
@given(request=requests, policies=POLICIES, response=RESPONSES)
def test_any_request_has_the_same_result_each_time(
    request: AssociateRQ, policies: list[AcceptorPolicy], response: UserIdentityAC | None
) -> None:
    compare(request.encode(), policies, response)


@settings(max_examples=300, deadline=None)
@given(
    mutations=st.lists(
        st.tuples(st.sampled_from(MUTATIONS), st.floats(0, 1), st.binary(min_size=1, max_size=6)), max_size=4
    ),
    policies=POLICIES,
)
def test_so_have_any_bytes(mutations: list[tuple[object, float, bytes]], policies: list[AcceptorPolicy]) -> None:
    data = bytearray(ENCODED)
    for mutate, place, noise in mutations:
        assert callable(mutate)
        mutate(data, 6 + int(place * (len(data) - 6)), noise)
    data[2:6] = (len(data) - 6).to_bytes(4)
    compare(bytes(data), policies)


def ask(known: KnownRequests, data: bytes, policy: AcceptorPolicy = CONSTANT) -> tuple[int, int]:
    """Return how many requests were decoded and negotiated for this one."""
    before = known.decoded, known.negotiated
    play(data, policy, known)
    return known.decoded - before[0], known.negotiated - before[1]


def test_a_repeated_request_is_neither_decoded_nor_negotiated_again() -> None:
    known = KnownRequests(LIMITS)

    assert [ask(known, ENCODED) for _ in range(3)] == [(1, 1), (0, 0), (0, 0)]


def test_a_different_one_is() -> None:
    known = KnownRequests(LIMITS)
    ask(known, ENCODED)

    assert ask(known, replace(REQUEST, calling_ae_title="OTHER").encode()) == (1, 1)


@pytest.mark.parametrize("policy", [POLICY, STRICT, replace(CONSTANT)])
def test_another_policy_and_one_that_may_change_negotiate_again(policy: AcceptorPolicy) -> None:
    known = KnownRequests(LIMITS)
    ask(known, ENCODED)

    assert ask(known, ENCODED, policy) == (0, 1)


def test_a_function_that_changes_its_mind_is_asked_each_time() -> None:
    known, answers = KnownRequests(LIMITS), iter([True, True, False, False])
    policy = replace(POLICY, abstract_syntaxes=lambda _uid, _kind: next(answers))

    assert [len(play(ENCODED, policy, known).contexts) for _ in range(2)] == [2, 0]


def test_a_request_with_a_password_is_not_kept() -> None:
    known = KnownRequests(LIMITS)
    identity = UserIdentityRQ(2, positive_response_requested=True, primary_field=b"u", secondary_field=b"secret")
    data = replace(REQUEST, user_information=replace(REQUEST.user_information, user_identity=identity)).encode()

    assert [ask(known, data) for _ in range(2)] == [(1, 1), (1, 1)]


def test_a_response_to_a_user_identity_is_not_kept() -> None:
    known = KnownRequests(LIMITS)
    ask(known, ENCODED)
    play(ENCODED, CONSTANT, known, UserIdentityAC(b"ticket"))

    assert known.negotiated == 2
    assert play(ENCODED, CONSTANT, known) == play(ENCODED, CONSTANT, None)


def test_a_request_that_breaks_the_protocol_is_not_kept() -> None:
    known = KnownRequests(LIMITS)
    contexts = tuple(PresentationContextRQ(number, CT, (EXPLICIT,)) for number in range(1, 9, 2))
    data = replace(REQUEST, presentation_contexts=contexts).encode()

    assert [ask(known, data) for _ in range(2)] == [(1, 0), (1, 0)]


def sized(number: int, size: int) -> bytes:
    """Return a request of `size` bytes."""
    title = replace(REQUEST, calling_ae_title=f"N{number}")
    room = size - len(title.encode()) - 4
    return replace(title, unknown=(UnknownItem(0x90, bytes(room)),)).encode()


def test_the_requests_unused_for_longest_are_dropped() -> None:
    known = KnownRequests(LIMITS)
    data = [sized(number, 300) for number in range(_MAX_REQUESTS + 1)]
    for one in data[:-1]:
        ask(known, one)
    ask(known, data[0])
    ask(known, data[-1])

    assert [ask(known, one) for one in (data[0], data[2], data[-1])] == [(0, 0), (0, 0), (0, 0)]
    assert ask(known, data[1]) == (1, 1)


def test_long_requests_take_the_place_of_more_others() -> None:
    known = KnownRequests(LIMITS)
    fitting = _MAX_BYTES // _MAX_REQUEST_BYTES
    data = [sized(number, _MAX_REQUEST_BYTES) for number in range(fitting + 1)]
    for one in data:
        ask(known, one)

    assert [ask(known, one) for one in data[1:]] == [(0, 0)] * fitting
    assert ask(known, data[0]) == (1, 1)
    assert sum(map(len, known._known)) == known._bytes == _MAX_BYTES


def test_longer_ones_are_not_kept() -> None:
    known = KnownRequests(LIMITS)
    ask(known, ENCODED)

    assert [ask(known, sized(1, _MAX_REQUEST_BYTES + 1)) for _ in range(2)] == [(1, 1), (1, 1)]
    assert ask(known, ENCODED) == (0, 0)


def test_only_requests_are_kept() -> None:
    known, notes = KnownRequests(LIMITS), Counter()  # type: ignore[var-annotated]
    release = bytes.fromhex("05 00 00000004 00000000")

    assert [known.decode(release, notes) for _ in range(2)] == [decode(release)] * 2
    assert known.decoded == 2

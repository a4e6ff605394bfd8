"""A peer may send any bytes at any time; the invariants of the fuzzer's target must hold."""

from collections.abc import Callable
from typing import Final

import pytest
from fuzz.association import CANNED, CONVERSATION, LOCAL, STARTS, Program, Turn, run
from hypothesis import given, settings, strategies as st
from tests.core.messages import p_data, pdu, pdv

from dicomport.core import ConnectionLost, CoreEvent, DataReceived, Role

SIZES: Final = st.lists(st.integers(1, 50) | st.integers(1, 500), min_size=1, max_size=8).map(tuple)
PLACES: Final = st.sampled_from(sorted(STARTS))


@settings(max_examples=200, deadline=None)
@given(where=PLACES, data=st.binary(max_size=300), sizes=SIZES)
def test_random_bytes(where: str, data: bytes, sizes: tuple[int, ...]) -> None:
    run(Program(where, (data,), sizes=sizes))


PDUS: Final = (
    st.sampled_from(CANNED)
    | st.builds(pdu, st.integers(0, 8), st.binary(max_size=60))
    | st.lists(st.builds(pdv, st.sampled_from([1, 3, 5]), st.integers(0, 255), st.binary(max_size=40)), max_size=4).map(
        lambda values: p_data(*values)
    )
)


@settings(max_examples=250, deadline=None)
@given(where=PLACES, pdus=st.lists(PDUS, max_size=12), sizes=SIZES, responding=st.booleans())
def test_pdus_in_any_order(where: str, pdus: list[bytes], sizes: tuple[int, ...], *, responding: bool) -> None:
    run(Program(where, (b"".join(pdus),), sizes=sizes, responding=responding))


@settings(max_examples=150, deadline=None)
@given(where=PLACES, turns=st.lists(st.sampled_from(sorted(LOCAL)) | PDUS, max_size=25))
def test_a_local_user_may_request_anything_at_any_time(where: str, turns: list[Turn]) -> None:
    run(Program(where, tuple(turns), responding=False))


MUTATIONS: Final[tuple[Callable[[bytearray, int, bytes], None], ...]] = (
    lambda data, at, noise: data.__setitem__(slice(at, at + len(noise)), noise),
    lambda data, at, noise: data.__setitem__(slice(at, at), noise),
    lambda data, at, noise: data.__delitem__(slice(at, at + len(noise))),
    lambda data, at, noise: data.__setitem__(slice(at, at), data[at : at + 10 * len(noise)]),
    lambda data, at, _noise: data.__delitem__(slice(at, None)),
)


@settings(max_examples=300, deadline=None)
@given(
    role=st.sampled_from(Role),
    mutations=st.lists(
        st.tuples(st.integers(0, len(MUTATIONS) - 1), st.floats(0, 1), st.binary(min_size=1, max_size=6)),
        min_size=1,
        max_size=5,
    ),
    sizes=SIZES,
)
def test_mutated_conversations(role: Role, mutations: list[tuple[int, float, bytes]], sizes: tuple[int, ...]) -> None:
    data = bytearray(CONVERSATION[role])
    for kind, where, noise in mutations:
        MUTATIONS[kind](data, int(where * len(data)), noise)
    run(Program(role.value, (bytes(data),), sizes=sizes))


@pytest.mark.parametrize("role", list(Role))
def test_every_byte_of_a_conversation_changed(role: Role) -> None:
    """A sweep over every position, so that each length and type is wrong once (robustness A3)."""
    valid = CONVERSATION[role]
    for at in range(len(valid)):
        for flip in (0x01, 0xFF):
            data = bytearray(valid)
            data[at] ^= flip
            run(Program(role.value, (bytes(data),), sizes=(100,)))


def lasting(events: list[CoreEvent]) -> list[CoreEvent]:
    return [event for event in events if not isinstance(event, DataReceived)]


@pytest.mark.parametrize("role", list(Role))
def test_every_end_of_a_conversation(role: Role) -> None:
    """The connection is lost after each byte: complete PDUs cause events, then the loss does (robustness P17)."""
    valid = CONVERSATION[role]
    whole = lasting(run(Program(role.value, (valid,))))
    told = 0
    for at in range(len(valid)):
        events = lasting(run(Program(role.value, (valid[:at], "closed"), sizes=(100,))))
        # Before a request, there is no user to notify.
        lost = [ConnectionLost()] if role is Role.REQUESTOR or len(events) > 0 else []
        assert events == [*whole[: len(events) - len(lost)], *lost]
        assert told <= len(events)
        told = len(events)

"""The straight path of a sender: the same bytes are sent and the same results reported as on the general path."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.scu.both_ways import REPLIES, SILENCE, SUCCESS, PeerPlan, Way, both, general, play
from tests.scu.data import CT, EXPLICIT, IMPLICIT, MR, instance, part10

from dicomport.net import Timeouts
from dicomport.scu import Instance, InstanceResult, Transform
from dicomport.scu.sending import straight
from dicomport.wire import Priority

WINDOW: Final = 3

COMMON: Final = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def several(number: int, **changes: Any) -> list[Instance]:
    return [instance(100 + one, **changes) for one in range(number)]


def sent(instances: Sequence[Any], plan: PeerPlan | None = None, **options: Any) -> Way:
    """Send over both ways, and compare."""
    return both(lambda: instances, plan or PeerPlan(), **options)


# Common messages.


@pytest.mark.parametrize("window", [None, WINDOW, 0])
@pytest.mark.parametrize("maximum_length", [1024, 16384, 131072])
@pytest.mark.parametrize("size", [2, 3000, 300_000])
def test_all_but_the_first_of_equal_messages_take_the_straight_path(
    size: int, maximum_length: int, window: int | None
) -> None:
    way = sent(several(30, size=size), PeerPlan(window=window, maximum_length=maximum_length))
    assert way.straight == 29
    assert all(result.accepted for result in way.sent.results)


def test_files_take_the_straight_path(tmp_path: Path) -> None:
    files = [
        part10(tmp_path / f"{number}.dcm", sop_instance=f"1.2.3.{number}", size=size)
        for number, size in enumerate((200, 5000, 100_000, 700_000) * 5, 10)
    ]
    assert sent(files, PeerPlan(window=WINDOW)).straight == 19


def test_other_lengths_contexts_and_priorities_are_learned() -> None:
    classes = [(sop_class, syntax) for sop_class in (CT, MR) for syntax in (EXPLICIT, IMPLICIT)]
    instances = [
        instance(number, sop_class=sop_class, syntax=syntax)
        for number in range(95, 110)
        for sop_class, syntax in classes
    ]
    way = sent(instances, PeerPlan(window=WINDOW), priority=Priority.HIGH)
    # The first response of each context and length of the UID is learned.
    assert way.straight == len(instances) - 2 * len(classes)


def test_a_response_cut_anywhere_takes_the_straight_path() -> None:
    for places in (*((place,) for place in range(1, 140, 3)), (5, 12, 80)):
        assert sent(several(3), PeerPlan(cuts=places)).straight == 2


@pytest.mark.parametrize("window", [1, WINDOW])
def test_a_peer_that_pauses_is_awaited_on_the_general_path(window: int) -> None:
    with mock.patch.object(straight, "_MAX_SILENCE", 0.0):
        way = sent(several(8), PeerPlan(cuts=(1, 20, 60), window=window))
    assert all(result.accepted for result in way.sent.results)


# Messages for the general path, between common ones.


@pytest.mark.parametrize("window", [None, WINDOW])
@pytest.mark.parametrize("cuts", [(), (3,), (12, 60)])
@pytest.mark.parametrize("name", REPLIES)
def test_uncommon_responses_have_the_result_of_the_general_path(
    name: str, cuts: tuple[int, ...], window: int | None
) -> None:
    plan = PeerPlan((SUCCESS, SUCCESS, name, SUCCESS, name), window=window, cuts=cuts)
    assert sent(several(9), plan).straight >= 1


@pytest.mark.parametrize("name", ["refused", "end", "end inside", "abort", "release"])
def test_transient_failures_are_retried_alike(name: str) -> None:
    assert sent(several(9), PeerPlan((SUCCESS, SUCCESS, name), window=WINDOW), retries=2).straight >= 1


UNCOMMON_INSTANCES: Final = {
    "in several chunks": instance(77, size=(1 << 20) + 2),
    "empty UID": Instance(CT, "", EXPLICIT, b"data"),
    "UID not in ASCII": Instance(CT, "1.2.\xe9", EXPLICIT, b"data"),
    "UID with a NUL": Instance(CT, "1.2.3\0", EXPLICIT, b"data"),
    "UID too long": Instance(CT, "1." * 40 + "1", EXPLICIT, b"data"),
    "odd length": instance(77, size=101),
    "class that is not accepted": instance(77, sop_class=MR),
    "longer UID": Instance(CT, "1.2.3.4.5.6.7.8.9", EXPLICIT, b"data"),
}


@pytest.mark.parametrize("window", [None, WINDOW])
@pytest.mark.parametrize("what", UNCOMMON_INSTANCES)
def test_uncommon_instances_have_the_result_of_the_general_path(what: str, window: int | None) -> None:
    instances = [*several(4), UNCOMMON_INSTANCES[what], *several(4)]
    assert sent(instances, PeerPlan(window=window, refused=frozenset((MR,)))).straight >= 3


@pytest.mark.parametrize("window", [1, WINDOW])
@pytest.mark.parametrize("change", ["removed", "shorter", "longer", "touched", "a folder"])
def test_changed_files_have_the_result_of_the_general_path(tmp_path: Path, change: str, window: int) -> None:
    """The sixth file changes when the second result is known."""
    rounds = iter(range(9))

    def instances() -> Sequence[Path]:
        folder = tmp_path / str(next(rounds))
        folder.mkdir()
        return [part10(folder / f"{number}.dcm", sop_instance=f"1.2.3.{number}") for number in range(10, 20)]

    def change_it(result: InstanceResult) -> None:
        if result.path is None or result.path.name != "11.dcm":
            return
        path = result.path.with_name("15.dcm")
        content = path.read_bytes()
        path.unlink()
        if change == "a folder":
            path.mkdir()
        elif change != "removed":
            path.write_bytes({"shorter": content[:-2], "longer": content + b"ab", "touched": content}[change])

    way = both(instances, PeerPlan(window=window), on_result=change_it)
    assert [result.accepted for result in way.sent.results].count(False) == 1
    assert way.straight >= 7


@pytest.mark.parametrize("error", [ValueError("text"), StopIteration(), GeneratorExit(), asyncio.CancelledError()])
def test_a_function_that_raises_ends_the_run_as_on_the_general_path(error: BaseException) -> None:
    def outcome() -> tuple[str, int]:
        results: list[InstanceResult] = []

        def fail(result: InstanceResult) -> None:
            results.append(result)
            if len(results) == 4:
                raise error

        try:
            asyncio.run(play(several(8), PeerPlan(), on_result=fail))
        except BaseException as raised:  # noqa: BLE001  # it is compared
            return repr(raised), len(results)
        return "", len(results)

    one = outcome()
    with general():
        assert one == outcome()
    assert one[1] == 4


@pytest.mark.parametrize("window", [1, WINDOW])
def test_a_run_that_is_stopped_sends_as_many_as_on_the_general_path(window: int) -> None:
    way = sent(several(9), PeerPlan(window=window), stop_after="1.2.3.103")
    assert way.sent.report == (1, "", 9 - 4 - (window - 1))


# Instances for the general path.


def test_transformed_instances_take_the_general_path() -> None:
    assert sent(several(5), transform=Transform(convert=True)).straight == 0


def test_all_pdus_are_logged_at_level_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "dicomport.pdu")
    assert sent(several(5)).straight == 0
    assert sum("C-STORE-RQ" in record.getMessage() for record in caplog.records) == 2 * 5


def test_a_peer_that_does_not_answer_is_left_by_the_response_timer() -> None:
    way = sent(several(6), PeerPlan((SUCCESS, SUCCESS, SUCCESS, SILENCE)), timeouts=Timeouts(dimse=0.2))
    assert [result.accepted for result in way.sent.results] == [True] * 3 + [False] + [True] * 2
    assert "dimse" in way.sent.results[3].reason


# Any answers, in any pieces.

_instances = st.lists(
    st.builds(
        instance,
        st.integers(1, 120),
        sop_class=st.sampled_from([CT, CT, MR]),
        syntax=st.sampled_from([EXPLICIT, EXPLICIT, IMPLICIT]),
        size=st.sampled_from([2, 100, 100, 101, 5000, 40_000]),
    ),
    max_size=12,
)
_replies = st.lists(st.sampled_from([*[SUCCESS] * 3 * len(REPLIES), *REPLIES]), max_size=12).map(tuple)
_plans = st.builds(
    PeerPlan,
    replies=_replies,
    window=st.sampled_from([None, WINDOW, 0]),
    maximum_length=st.sampled_from([64, 1024, 16384, 131072]),
    cuts=st.lists(st.integers(0, 200), max_size=3).map(tuple),
    refused=st.sampled_from([frozenset(), frozenset((MR,))]),
)


_ordinary = st.builds(
    PeerPlan,
    window=st.sampled_from([None, WINDOW, 0]),
    maximum_length=st.sampled_from([1024, 16384, 131072]),
    cuts=st.lists(st.integers(0, 200), max_size=3).map(tuple),
)


@COMMON
@given(_instances, _plans, st.integers(0, 1), st.sampled_from([0.0, 1.0]))
def test_any_instances_and_any_answers(instances: list[Instance], plan: PeerPlan, retries: int, silence: float) -> None:
    with mock.patch.object(straight, "_MAX_SILENCE", silence):
        sent(instances, plan, retries=retries)


@COMMON
@given(st.lists(st.integers(10, 99), min_size=20, max_size=40), _ordinary)
def test_nine_of_ten_ordinary_instances_take_the_straight_path(numbers: list[int], plan: PeerPlan) -> None:
    way = sent([instance(number) for number in numbers], plan)
    assert all(result.accepted for result in way.sent.results)
    assert way.straight >= 0.9 * len(numbers)

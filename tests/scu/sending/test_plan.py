"""Which contexts are proposed, and in how many associations (PS3.8 9.3.2.2, PS3.5 10.1)."""

import itertools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest
from tests.scu.data import BIG_ENDIAN, CR, CT, DEFLATED, EXPLICIT, IMPLICIT, JPEG, JPEG_2000, MR, data_set_of, pattern

import dicomport
from dicomport.scu import AssociationPlan, Instance, Plan
from dicomport.scu.contexts import presentation_contexts
from dicomport.testing import ScriptedSCP, healthy

MAX_CONTEXTS: Final = 128


def pairs(*wanted: tuple[str, str]) -> list[Instance]:
    """Make an instance for each pair of SOP Class and transfer syntax, numbered in order."""
    return [Instance(sop_class, f"1.2.{number}", syntax, b"data") for number, (sop_class, syntax) in enumerate(wanted)]


def planned(instances: Iterable[Instance]) -> list[AssociationPlan]:
    plan = Plan()
    for one in instances:
        plan.add(one)
    return plan.associations


def waiting(association: AssociationPlan) -> list[Instance]:
    return [delivery.instance for delivery in association.waiting]


def contexts(*wanted: tuple[str, str]) -> list[tuple[tuple[str, str], ...]]:
    return [tuple(one.contexts) for one in planned(pairs(*wanted))]


def many(count: int, syntax: str = JPEG) -> list[tuple[str, str]]:
    return [(f"1.2.826.0.1.3680043.99.{number}", syntax) for number in range(count)]


def test_nothing_needs_no_association() -> None:
    assert planned([]) == []


def test_each_pair_has_a_context_of_its_own() -> None:
    assert contexts((CT, JPEG), (CT, JPEG_2000), (MR, JPEG), (CT, JPEG)) == [
        ((CT, JPEG), (CT, JPEG_2000), (MR, JPEG)),
    ]


@pytest.mark.parametrize("syntax", [EXPLICIT, BIG_ENDIAN])
def test_an_uncompressed_one_offers_the_default_syntax_too(syntax: str) -> None:
    assert contexts((CT, syntax), (MR, JPEG)) == [((CT, syntax), (CT, IMPLICIT), (MR, JPEG))]


def test_the_default_syntax_is_not_offered_twice() -> None:
    assert contexts((CT, IMPLICIT)) == [((CT, IMPLICIT),)]
    assert contexts((CT, EXPLICIT), (CT, IMPLICIT), (CT, BIG_ENDIAN)) == [
        ((CT, EXPLICIT), (CT, IMPLICIT), (CT, BIG_ENDIAN)),
    ]
    assert contexts((CT, IMPLICIT), (CT, EXPLICIT)) == [((CT, IMPLICIT), (CT, EXPLICIT))]


@pytest.mark.parametrize(
    "syntax",
    [
        JPEG,
        DEFLATED,
        "1.2.840.10008.1.2.5",  # RLE
        "1.2.840.10008.1.2.4.94",  # JPIP: a URL for pixels
        "1.2.826.0.1.3680043.99.9",  # a private one
    ],
)
def test_syntaxes_that_need_decoding_have_no_uncompressed_default(syntax: str) -> None:
    assert contexts((CT, syntax)) == [((CT, syntax),)]


def test_as_many_as_fit_into_one_association_go_into_one() -> None:
    assert contexts(*many(MAX_CONTEXTS)) == [tuple(many(MAX_CONTEXTS))]
    assert [len(planned) for planned in contexts(*many(MAX_CONTEXTS + 1))] == [MAX_CONTEXTS, 1]
    assert [len(planned) for planned in contexts(*many(MAX_CONTEXTS // 2, EXPLICIT))] == [MAX_CONTEXTS]


def test_a_pair_and_its_default_syntax_are_not_torn_apart() -> None:
    assert [len(planned) for planned in contexts(*many(MAX_CONTEXTS - 1), (CT, EXPLICIT))] == [MAX_CONTEXTS - 1, 2]


def test_200_pairs_take_two_associations() -> None:
    assert contexts(*many(200)) == [tuple(many(200)[:MAX_CONTEXTS]), tuple(many(200)[MAX_CONTEXTS:])]


def assert_complete(associations: Iterable[AssociationPlan], instances: list[Instance]) -> None:
    """Each instance is planned once, in an association with its context, in the given order."""
    gone: list[str] = []
    order = {item.sop_instance_uid: number for number, item in enumerate(instances)}
    for one in associations:
        assert len(one.contexts) <= MAX_CONTEXTS
        assert {(item.sop_class_uid, item.transfer_syntax_uid) for item in waiting(one)} <= one.contexts.keys()
        assert sum(load.instances for load in one.contexts.values()) == len(one.waiting)
        assert sum(load.size for load in one.contexts.values()) == sum(item.size for item in waiting(one))
        numbers = [order[item.sop_instance_uid] for item in waiting(one)]
        assert numbers == sorted(numbers)
        gone += [item.sop_instance_uid for item in waiting(one)]
    assert sorted(gone) == sorted(order)


def test_the_order_within_an_association_is_the_given_one() -> None:
    instances = pairs((CT, JPEG), (MR, JPEG), (CT, JPEG), (CR, JPEG), (MR, JPEG), (CT, JPEG))

    [association] = planned(instances)

    assert waiting(association) == instances


def test_alternating_pairs_have_their_contexts_in_one_association_each() -> None:
    wanted = many(300)
    instances = pairs(*itertools.islice(itertools.cycle(wanted), 10_000))

    associations = planned(instances)

    assert len(associations) == 3
    assert_complete(associations, instances)
    assert sum(len(one.contexts) for one in associations) == 300


def test_mixed_syntaxes_are_complete_too() -> None:
    syntaxes = (EXPLICIT, IMPLICIT, BIG_ENDIAN, JPEG, JPEG_2000)
    wanted = [(sop_class, syntax) for sop_class, _ in many(60) for syntax in syntaxes]
    instances = pairs(*wanted, *reversed(wanted))

    assert_complete(planned(instances), instances)


def calls_for(count: int) -> int:
    """Count the calls that planning makes for so many instances of 300 pairs."""
    instances = pairs(*itertools.islice(itertools.cycle(many(300)), count))
    calls = 0

    def profile(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        planned(instances)
    finally:
        sys.setprofile(before)
    return calls


def test_the_work_grows_with_the_instances_and_no_faster() -> None:
    assert calls_for(20_000) < 2.2 * calls_for(10_000)


def test_ids_are_the_odd_numbers_from_1_to_255() -> None:
    made = presentation_contexts(many(MAX_CONTEXTS))

    assert [context.context_id for context in made] == list(range(1, 256, 2))
    assert [(context.abstract_syntax, context.transfer_syntaxes) for context in made] == [
        (sop_class, (syntax,)) for sop_class, syntax in many(MAX_CONTEXTS)
    ]


@pytest.mark.parametrize("count", [0, MAX_CONTEXTS + 1])
def test_no_request_has_more_contexts_or_none(count: int) -> None:
    with pytest.raises(ValueError, match=f"an association has 1 to 128 presentation contexts, not {count}"):
        presentation_contexts(many(count))


def test_contexts_are_asked_for_by_class_uid_or_pair() -> None:
    made = presentation_contexts(
        [
            dicomport.sop_classes.CTImageStorage,
            CT,
            (CT, JPEG),
            (dicomport.sop_classes.CTImageStorage, (JPEG, EXPLICIT)),
            (CT, next(syntax for syntax in dicomport.transfer_syntaxes if syntax.uid == JPEG)),
        ]
    )

    assert {context.abstract_syntax for context in made} == {CT}
    assert [context.transfer_syntaxes for context in made] == [
        (EXPLICIT, IMPLICIT),
        (EXPLICIT, IMPLICIT),
        (JPEG,),
        (JPEG, EXPLICIT),
        (JPEG,),
    ]


def test_the_peer_is_asked_for_exactly_that() -> None:
    with ScriptedSCP(healthy) as scp:
        report = dicomport.blocking.send(pairs(*many(200), (CT, JPEG)), "127.0.0.1", scp.port, associations=1)

    assert len(report.accepted) == 201
    proposed = [
        [
            (context.context_id, context.abstract_syntax, context.transfer_syntaxes)
            for context in request.presentation_contexts
        ]
        for request in (peer.request for peer in scp.peers)
        if request is not None
    ]
    wanted = [*many(200), (CT, JPEG)]
    assert proposed == [
        [(2 * number + 1, sop_class, (syntax,)) for number, (sop_class, syntax) in enumerate(part)]
        for part in (wanted[:MAX_CONTEXTS], wanted[MAX_CONTEXTS:])
    ]


def test_300_pairs_arrive_whole_at_our_own_receiver(tmp_path: Path) -> None:
    syntaxes = (EXPLICIT, JPEG, JPEG_2000)
    instances = [
        Instance(sop_class, f"1.2.3.{number}", syntax, pattern(100 + 2 * number))
        for number, (sop_class, syntax) in enumerate(
            (sop_class, syntax) for sop_class, _ in many(100) for syntax in syntaxes
        )
    ]
    storage = dicomport.FolderStorage(tmp_path, dicomport.Durability.FLUSH)

    with dicomport.StorageSCP(storage, port=0).in_thread() as scp:
        report = dicomport.blocking.send(instances, "127.0.0.1", scp.port, associations=1)

    assert (len(report.accepted), report.failed, report.error) == (300, (), "")
    assert report.associations == len(planned(instances)) == 4
    assert report.accepted_bytes == sum(item.size for item in instances)
    for item in instances:
        path = tmp_path / f"{item.sop_instance_uid}.dcm"
        assert data_set_of(path) == item.source
        assert dicomport.wire.decode_file_meta(path.read_bytes())[0].transfer_syntax_uid == item.transfer_syntax_uid

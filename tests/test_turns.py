"""Queues by key: the keys take turns, and the items of one key keep their order."""

import itertools
from collections import defaultdict
from collections.abc import Iterator

from hypothesis import given, strategies as st

from dicomport.turns import Turns


def served(turns: Turns[str], *, steps: int = 1) -> Iterator[str]:
    """Yield the item of each turn; each needs `steps` turns."""
    left: dict[str, int] = defaultdict(lambda: steps)
    while turns:
        key, item = next(turns.heads())
        yield item
        left[item] -= 1
        turns.end_turn(key, finished=not left[item])


def waiting(*items: str) -> Turns[str]:
    """Return items that wait, such as "a1": their keys are their first letters."""
    turns: Turns[str] = Turns()
    for item in items:
        turns.put(item[0], item)
    return turns


def test_keys_take_turns() -> None:
    assert list(served(waiting("a1", "a2", "a3", "b1", "c1"))) == ["a1", "b1", "c1", "a2", "a3"]


def test_an_item_that_is_not_finished_stays_the_first_of_its_key() -> None:
    assert list(served(waiting("a1", "a2", "b1"), steps=2)) == ["a1", "b1", "a1", "b1", "a2", "a2"]


def test_a_key_that_arrives_during_a_turn_is_the_next() -> None:
    turns = waiting("a1", "a2")
    key, _ = next(turns.heads())
    turns.put("b", "b1")
    turns.end_turn(key, finished=False)
    assert list(turns.heads()) == [("b", "b1"), ("a", "a1")]


def test_a_removed_item_is_passed_over() -> None:
    turns = waiting("a1", "a2", "b1")
    turns.remove("b", "b1")
    turns.remove("a", "a1")
    assert list(served(turns)) == ["a2"]
    assert not turns


@given(st.lists(st.sampled_from("abcd")), st.integers(1, 3))
def test_between_two_turns_of_a_key_each_other_has_at_most_one(keys: list[str], steps: int) -> None:
    items = [f"{key}{number}" for number, key in enumerate(keys)]
    order = list(served(waiting(*items), steps=steps))
    assert sorted(order) == sorted(items * steps)
    for key in set(keys):
        own = [at for at, item in enumerate(order) if item[0] == key]
        assert list(dict.fromkeys(order[at] for at in own)) == [item for item in items if item[0] == key]
        for first, second in itertools.pairwise(own):
            between = [item[0] for item in order[first + 1 : second]]
            assert len(between) == len(set(between))

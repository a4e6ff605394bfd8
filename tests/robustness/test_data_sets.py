"""Rows D1, D2 and D8, as far as they could cost memory; the others are where data sets are checked and scanned."""

from __future__ import annotations

from typing import Final

from tests.archive.sending import CT
from tests.encoding.encode import DEFLATED, EXPLICIT, ITEM, UNDEFINED, deflate, element, header
from tests.robustness.attacks import MAX_MEMORY, Attack, data_set

NESTED: Final = header(EXPLICIT, ITEM, "", UNDEFINED) + header(EXPLICIT, 0x00400275, "SQ", UNDEFINED)


def test_d1_a_deflated_data_set_is_not_inflated_as_a_whole(attack: Attack) -> None:
    uid = attack.uid()
    bomb = deflate(data_set(uid) + element(EXPLICIT, 0x7FE10010, "OB", bytes(8 * MAX_MEMORY)))
    assert len(bomb) < MAX_MEMORY / 64
    with attack.associated((CT, [DEFLATED])) as peer:
        assert peer.store(uid, bomb).status == 0
        attack.keep(bomb)
        peer.release()


def test_d2_sequences_in_sequences_take_no_memory_for_their_depth(attack: Attack) -> None:
    uid = attack.uid()
    data = data_set(uid) + element(EXPLICIT, 0x7FE10010, "SQ", NESTED * 100_000)
    with attack.associated() as peer:
        assert peer.store(uid, data).status == 0
        attack.keep(data)
        peer.release()


def test_d8_a_data_set_takes_the_same_memory_whatever_its_size(attack: Attack) -> None:
    uid = attack.uid()
    data = data_set(uid, bytes(4 * MAX_MEMORY))
    with attack.associated() as peer:
        assert peer.store(uid, data).status == 0
        attack.keep(data)
        peer.release()

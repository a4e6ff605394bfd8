"""Rows P1 to P18: what is wrong with PDUs and their fragments (PS3.8 9.3 and Annex E)."""

import pytest
from tests.robustness.attacks import Attack

from dicomport.wire import Abort, AbortReason


@pytest.mark.parametrize("kind", [0x08, 0xFF])
def test_p14_a_pdu_of_no_known_type_ends_the_association(attack: Attack, kind: int) -> None:
    with attack.associated() as peer:
        peer.send(bytes((kind, 0, 0, 0, 0, 4, 0, 0, 0, 0)))
        assert peer.expect(Abort).reason is AbortReason.UNRECOGNIZED_PDU
    assert f"{kind:02X}H is unknown" in attack.end_of(peer)["how"]

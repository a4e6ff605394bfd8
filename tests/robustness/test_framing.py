"""Rows P1 to P18: invalid PDUs and fragments (PS3.8 9.3 and Annex E)."""

from __future__ import annotations

import contextlib
import itertools
import select
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import pytest
from tests.core.messages import (
    COMMAND,
    DATA,
    ECHO_PDU,
    LAST_COMMAND,
    LAST_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    USER_ABORT,
    associate_ac,
    associate_rq,
    command_set,
    p_data,
    pdu,
    pdv,
)
from tests.robustness.attacks import Attack, data_set, sent
from tests.scp.messages import store_elements
from tests.scu.data import part10

import dicomport
from dicomport.testing import GoneError, Message, Peer, ScriptedSCP, ScriptedSCU, association_request
from dicomport.wire import (
    Abort,
    AbortReason,
    AssociateAC,
    AssociateRJ,
    CStoreRQ,
    CStoreRSP,
    RejectReason,
    ReleaseRP,
    ReleaseRQ,
    encode,
)

ECHO: Final = 1
CT: Final = 3
"""The context ids of the contexts that `Attack.associated` proposes."""

NO_RETRY: Final = dicomport.RetryPolicy(retries=0)

ANNOUNCED: Final = 16384
MAX_INSTANCE: Final = 2_000_000


@pytest.fixture(scope="module")
def options() -> tuple[str, ...]:
    return ("--max-pdu", str(ANNOUNCED), "--max-instance-size", str(MAX_INSTANCE))


def store_set(uid: str, message_id: int = 1) -> bytes:
    return command_set(store_elements(message_id, uid))


def store_command(uid: str, message_id: int = 1) -> bytes:
    return p_data(pdv(CT, LAST_COMMAND, store_set(uid, message_id)))


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def is_aborted(peer: ScriptedSCU, reason: AbortReason = AbortReason.INVALID_PDU_PARAMETER_VALUE) -> None:
    assert peer.expect(Abort).reason is reason


@pytest.mark.parametrize("sent_first", [b"G", b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n"])
def test_p1_http_is_aborted_at_the_first_byte(attack: Attack, sent_first: bytes) -> None:
    """Before an association is accepted, an invalid PDU is answered as the user does (PS3.8 Table 9-10, AA-1)."""
    with attack.connect() as peer:
        peer.send(sent_first)
        is_aborted(peer, AbortReason.SERVICE_USER)
    assert "does the peer use HTTP?" in attack.end_of(peer)["how"]


@pytest.mark.parametrize("nonsense", [b"SSH-2.0-x\r\n", b"\0", bytes(range(0xC0, 0x100))], ids=["SSH", "NUL", "noise"])
def test_p2_nonsense_is_aborted_each_time(attack: Attack, nonsense: bytes) -> None:
    for _ in range(3):
        with attack.connect() as peer:
            peer.send(nonsense)
            is_aborted(peer, AbortReason.SERVICE_USER)
        assert f"unknown PDU type {nonsense[0]:02X}H" in attack.end_of(peer)["how"]


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, (512 << 10) + 1])
def test_p3_a_request_that_is_too_long_is_refused_by_its_header(attack: Attack, length: int) -> None:
    with attack.connect() as peer:
        peer.send(pdu(1, length=length))
        is_aborted(peer, AbortReason.SERVICE_USER)
    assert f"length {length} bytes" in attack.end_of(peer)["how"]


@pytest.mark.parametrize("length", [0, 1, 67])
def test_p3_a_request_that_is_too_short_is_refused(attack: Attack, length: int) -> None:
    with attack.connect() as peer:
        peer.send(pdu(1, bytes(length)))
        is_aborted(peer, AbortReason.SERVICE_USER)


def test_p3_artim_ends_an_unfinished_request(attack: Attack) -> None:
    """Neither announces too much; one is silent, the other sends a byte occasionally."""
    with attack.connect() as silent, attack.connect() as slow:
        silent.send(pdu(1, length=512 << 10))
        slow.send(pdu(1, length=67))
        with contextlib.suppress(GoneError):
            while not select.select([slow.socket], [], [], 0.1)[0]:
                slow.send(b"\0")
        slow.expect_close()
        silent.expect_close()
    for peer in (silent, slow):
        assert "the ARTIM timer expired" in attack.end_of(peer)["how"]


@pytest.mark.parametrize("length", [1, 5, (16 << 20) + 1, 0xFFFFFFFF])
def test_p4_a_p_data_of_an_impossible_length_ends_the_association(attack: Attack, length: int) -> None:
    """An empty one is row P6."""
    with attack.associated() as peer:
        peer.send(pdu(4, length=length))
        is_aborted(peer)


@pytest.mark.parametrize("length", [0, 1, 0x80000000, *range(0xFFFFFFFC, 0x100000000)])
def test_p5_a_pdv_of_an_impossible_length_ends_the_association(attack: Attack, length: int) -> None:
    with attack.associated() as peer:
        peer.send(p_data(pdv(CT, LAST_COMMAND, bytes(100), length=length)))
        is_aborted(peer)
    assert f"PDV length {length} with" in attack.end_of(peer)["how"]


def test_p5_nor_is_a_pdv_longer_by_one_than_its_pdu(attack: Attack) -> None:
    with attack.associated() as peer:
        peer.send(p_data(pdv(CT, LAST_COMMAND, bytes(100), length=103)))
        is_aborted(peer)


def test_p6_a_p_data_without_any_pdv_is_put_up_with(attack: Attack) -> None:
    """PS3.8 9.3.5 requires at least one; a missing one does no harm, so the association stays open."""
    with attack.associated() as peer:
        peer.send(pdu(4) * 3)
        assert peer.echo().status == 0
        peer.release()
    assert attack.end_of(peer)["deviations"] == {"empty-p-data": 3}


def test_p6_but_not_for_ever(attack: Attack) -> None:
    with attack.associated() as peer:
        peer.send(pdu(4) * 1025)
        is_aborted(peer)
    assert "1025 fragments in a row without data" in attack.end_of(peer)["how"]


def test_p6_a_sender_that_is_answered_so_fails_with_a_reason(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect(CStoreRQ)
        peer.send(pdu(4) * 1025)
        is_aborted_by_sender(peer)

    with ScriptedSCP(script, connections=1) as scp:
        done = sent(scp.port, part10(tmp_path / "1.dcm"), "--retries", "0")

    why = "1025 fragments in a row without data (limit idle_fragments)"
    aborted = "the peer violated the protocol and the association was aborted"
    assert done.code == 1
    assert done.reasons == [f"the association was lost: {aborted}: {why}"]


def is_aborted_by_sender(peer: Peer) -> None:
    assert peer.expect(Abort).reason is AbortReason.INVALID_PDU_PARAMETER_VALUE


@pytest.mark.parametrize("control", [DATA, COMMAND], ids=["data", "command"])
def test_p7_fragments_without_data_for_ever_end_the_association(attack: Attack, control: int) -> None:
    with attack.associated() as peer:
        peer.send(store_command("1.2.3") if control == DATA else b"", p_data(pdv(CT, control)) * 2000)
        is_aborted(peer)


def test_p8_a_too_long_data_set_is_refused_and_its_rest_skipped(attack: Attack) -> None:
    piece = p_data(pdv(CT, DATA, bytes(ANNOUNCED - 6)))
    uid = attack.uid()
    with attack.associated() as peer:
        peer.send(store_command(attack.uid()), piece * (MAX_INSTANCE // ANNOUNCED + 2))
        attack.others_go_on()
        peer.send(piece * 64, p_data(pdv(CT, LAST_DATA)))
        assert peer.expect(CStoreRSP).command.status == 0xA700
        assert peer.store(uid, data_set(uid)).status == 0
        peer.release()
    attack.keep(data_set(uid))


def test_p8_a_data_set_that_never_ends_ends_the_association(attack: Attack) -> None:
    pieces = p_data(pdv(CT, DATA, bytes(ANNOUNCED - 6))) * 256
    with attack.associated() as peer:
        peer.send(store_command(attack.uid()))
        while not select.select([peer.socket], [], [], 0)[0]:
            peer.send(pieces)
        is_aborted(peer, AbortReason.SERVICE_USER)
    assert "data set of more than" in attack.end_of(peer)["how"]


@pytest.mark.parametrize(("size", "count"), [(16000, 5), (1, 257)], ids=["bytes", "fragments"])
def test_p9_a_command_that_never_ends_ends_the_association(attack: Attack, size: int, count: int) -> None:
    with attack.associated() as peer:
        peer.send(p_data(pdv(CT, COMMAND, bytes(size))) * count)
        is_aborted(peer)
    assert "a command set" in attack.end_of(peer)["how"]


def test_p10_fragments_of_odd_length_are_put_up_with(attack: Attack) -> None:
    uid = attack.uid()
    data = data_set(uid, bytes(1001))
    parts = cut(data, 101)
    with attack.associated() as peer:
        peer.send(store_command(uid), *(p_data(pdv(CT, DATA, part)) for part in parts), p_data(pdv(CT, LAST_DATA)))
        assert peer.expect(CStoreRSP).command.status == 0
        peer.release()
    attack.keep(data)
    assert attack.end_of(peer)["deviations"]["odd-fragment"] >= len(parts) - 1


@pytest.mark.parametrize("maximum_length", [65535, 117])
def test_p10_and_never_sent(tmp_path: Path, maximum_length: int) -> None:
    """For any odd length that the peer announces (PS3.8 E.1)."""

    def script(peer: Peer) -> None:
        peer.accept(maximum_length=maximum_length)
        peer.serve()

    path = part10(tmp_path / "1.dcm", size=200_000)
    with ScriptedSCP(script) as scp:
        assert dicomport.blocking.send(path, "127.0.0.1", scp.port).failed == ()
    [store] = scp.stores
    assert store.longest <= maximum_length
    assert sum(store.fragments) == 200_000
    assert not [size for size in store.fragments if size % 2]


def in_one_pdu(uid: str, data: bytes) -> list[bytes]:
    return [p_data(pdv(CT, LAST_COMMAND, store_set(uid)), pdv(CT, LAST_DATA, data))]


def in_a_hundred_pdvs(uid: str, data: bytes) -> list[bytes]:
    command, parts = store_set(uid), cut(data, len(data) // 90)
    values = [pdv(CT, COMMAND, command[:10]), pdv(CT, LAST_COMMAND, command[10:])]
    values += [pdv(CT, DATA, part) for part in parts]
    return [p_data(*values, *(pdv(CT, DATA) for _ in range(99 - len(values))), pdv(CT, LAST_DATA))]


def in_one_segment(uid: str, data: bytes) -> list[bytes]:
    return [store_command(uid) + p_data(pdv(CT, LAST_DATA, data)) + RELEASE_RQ]


def in_bytes(uid: str, data: bytes) -> list[bytes]:
    return cut(store_command(uid) + p_data(pdv(CT, LAST_DATA, data)), 1)


@pytest.mark.parametrize("packed", [in_one_pdu, in_a_hundred_pdvs, in_one_segment, in_bytes])
def test_p11_however_a_message_is_packed_it_is_the_same_message(
    attack: Attack, packed: Callable[[str, bytes], list[bytes]]
) -> None:
    uid = attack.uid()
    with attack.associated() as peer:
        for piece in packed(uid, data_set(uid)):
            peer.send(piece)
        assert peer.expect(CStoreRSP).command.status == 0
        if packed is in_one_segment:
            peer.expect(ReleaseRP)
        else:
            peer.release()
    attack.keep(data_set(uid))


def test_p12_pdus_longer_than_announced_are_put_up_with(attack: Attack) -> None:
    """Up to 16 MiB, beyond that it is row P4: nothing is kept of them, and there are peers that do it."""
    uid = attack.uid()
    data = data_set(uid, bytes(1 << 20))
    with attack.associated() as peer:
        peer.send(
            store_command(uid), p_data(pdv(CT, DATA, data[: 32 << 10])), p_data(pdv(CT, LAST_DATA, data[32 << 10 :]))
        )
        assert peer.expect(CStoreRSP).command.status == 0
        peer.release()
    attack.keep(data)
    assert attack.end_of(peer)["deviations"] == {"pdu-longer-than-announced": 2}


@pytest.mark.parametrize("length", [0, 8, 12, 4096, 0xFFFFFFFF])
def test_p13_responses_are_no_longer_than_the_requestor_takes(attack: Attack, length: int) -> None:
    uid = attack.uid()
    with attack.connect() as peer:
        peer.associate(maximum_length=length)
        assert peer.store(uid, data_set(uid)).status == 0
        message = peer.heard[-1]
        assert isinstance(message, Message)
        assert 0 < message.longest <= (length or 1 << 16)
        peer.release()
    attack.keep(data_set(uid))


@pytest.mark.parametrize("length", [1, 6, 7])
def test_p13_a_requestor_without_room_for_data_is_rejected(attack: Attack, length: int) -> None:
    with attack.connect() as peer:
        peer.send(association_request(maximum_length=length))
        assert peer.expect(AssociateRJ).reason is RejectReason.USER_NO_REASON
    assert f"a maximum length of {length} bytes" in attack.line(peer, "association_rejected")["reason"]


@pytest.mark.parametrize("length", [0, 1, 6, 7, 12, 4096, 0xFFFFFFFF])
def test_p13_a_sender_keeps_to_the_peer_s_length_or_gives_a_reason(tmp_path: Path, length: int) -> None:
    def script(peer: Peer) -> None:
        peer.accept(maximum_length=length)
        if 0 < length < 8:
            is_aborted_by_sender(peer)
        else:
            peer.serve()

    path = part10(tmp_path / "1.dcm", size=20_000)
    with ScriptedSCP(script) as scp:
        [result] = dicomport.blocking.send(path, "127.0.0.1", scp.port, retry=NO_RETRY).results
    if 0 < length < 8:
        assert not result.accepted
        assert f"a maximum length of {length} bytes is too short for data" in result.reason
    else:
        assert result.accepted
        assert scp.stores[0].longest <= (length or 1 << 32)


@pytest.mark.parametrize("kind", [0x08, 0xFF])
def test_p14_a_pdu_of_no_known_type_ends_the_association(attack: Attack, kind: int) -> None:
    with attack.associated() as peer:
        peer.send(pdu(kind, bytes(4)))
        is_aborted(peer, AbortReason.UNRECOGNIZED_PDU)
    assert f"unknown PDU type {kind:02X}H" in attack.end_of(peer)["how"]


@pytest.mark.parametrize("instead", [associate_rq(), associate_ac(), pdu(2, bytes(4))], ids=["RQ", "AC", "short AC"])
def test_p15_an_association_pdu_instead_of_a_data_set_ends_the_association(attack: Attack, instead: bytes) -> None:
    with attack.associated() as peer:
        peer.send(store_command(attack.uid()), instead, p_data(pdv(CT, LAST_DATA, data_set("1.2.3"))))
        is_aborted(peer, AbortReason.UNEXPECTED_PDU)


@pytest.mark.parametrize("first", [ECHO_PDU, RELEASE_RQ, RELEASE_RP, associate_ac()], ids=["data", "RQ", "RP", "AC"])
def test_p16_before_the_request_for_an_association_nothing_else_is_taken(attack: Attack, first: bytes) -> None:
    with attack.connect() as peer:
        peer.send(first)
        is_aborted(peer, AbortReason.SERVICE_USER)


@pytest.mark.parametrize("wrong", [RELEASE_RP, RELEASE_RQ], ids=["RP", "RQ"])
def test_p16_a_release_inside_a_data_set_ends_the_association(attack: Attack, wrong: bytes) -> None:
    with attack.associated() as peer:
        peer.send(store_command(attack.uid()), p_data(pdv(CT, DATA, data_set("1.2.3"))), wrong)
        is_aborted(peer, AbortReason.UNEXPECTED_PDU)


def test_p16_a_release_that_is_confirmed_unasked_ends_the_association(attack: Attack) -> None:
    with attack.associated() as peer:
        peer.send(RELEASE_RP)
        is_aborted(peer, AbortReason.UNEXPECTED_PDU)


def test_p16_a_sender_sees_a_collision_of_releases_through(tmp_path: Path) -> None:
    """PS3.8 Table 9-10, Sta9 and Sta11: the requestor confirms first."""

    def script(peer: Peer) -> None:
        peer.accept()
        peer.answer(peer.expect(CStoreRQ))
        peer.expect(ReleaseRQ)
        peer.send(ReleaseRQ())
        peer.expect(ReleaseRP)
        peer.send(ReleaseRP())
        peer.expect_close()

    with ScriptedSCP(script, connections=1) as scp:
        done = sent(scp.port, part10(tmp_path / "1.dcm"))
    assert (done.code, done.statuses) == (0, [0])
    assert not [facts for facts in done.log if facts["event"] == "release_failed"]


def abort_and_close(peer: ScriptedSCU) -> None:
    peer.send(USER_ABORT)


@pytest.mark.parametrize("cut_off", [ScriptedSCU.reset, ScriptedSCU.half_close, abort_and_close])
def test_p17_an_instance_cut_off_anywhere_is_discarded(attack: Attack, cut_off: Callable[[ScriptedSCU], None]) -> None:
    """A byte before each end of a PDU, there, and a byte after it, but for the last: then the instance is whole."""
    request = encode(association_request())
    data = data_set("1.2.3", bytes(600))
    message = [store_command("1.2.3"), *(p_data(pdv(CT, DATA, part)) for part in cut(data, 400))]
    bounds = list(itertools.accumulate(map(len, [request, *message])))
    for end in sorted({bound + more for bound in bounds for more in (-1, 0, 1)} - {bounds[-1], bounds[-1] + 1}):
        with attack.connect() as peer:
            peer.send(request[:end])
            if end >= len(request):
                peer.expect(AssociateAC)
                peer.send(b"".join(message)[: end - len(request)])
            cut_off(peer)
        if end >= len(request):
            assert attack.end_of(peer)["stored"] == 0


def test_p17_an_abort_inside_an_instance_is_logged_with_the_received_size(attack: Attack) -> None:
    with attack.associated() as peer:
        uid = attack.uid()
        peer.send(store_command(uid), p_data(pdv(CT, DATA, bytes(1000))), p_data(pdv(CT, DATA, bytes(234))))
        peer.send(Abort())
    told = attack.line(peer, "instance_incomplete")
    assert (told["sop_instance_uid"], told["size"]) == (uid, 1234)


FIRST: Final = store_set("1.2.3")


@pytest.mark.parametrize(
    "values",
    [
        [pdv(CT, COMMAND, FIRST[:20]), pdv(ECHO, COMMAND, FIRST[:20])],
        [pdv(CT, COMMAND, FIRST[:20]), pdv(CT, DATA, b"data")],
        [pdv(CT, LAST_COMMAND, FIRST), pdv(CT, DATA, b"data"), pdv(CT, LAST_COMMAND, FIRST)],
        [pdv(CT, LAST_COMMAND, FIRST), pdv(CT, DATA, b"data"), pdv(ECHO, LAST_COMMAND, FIRST)],
        [pdv(CT, LAST_COMMAND, FIRST), pdv(ECHO, DATA, b"data")],
        [pdv(CT, LAST_COMMAND, FIRST), pdv(CT, DATA, b"data"), pdv(ECHO, LAST_DATA, b"data")],
    ],
    ids=["two commands", "data before the command's end", "a command", "another's", "elsewhere", "in two places"],
)
def test_p18_messages_that_are_mixed_up_end_the_association(attack: Attack, values: Iterable[bytes]) -> None:
    with attack.associated() as peer:
        peer.send(*map(p_data, values))
        is_aborted(peer)

"""Rows C1 to C11: invalid command sets and invalid responses (PS3.7 6.3, 9 and Annex E)."""

from __future__ import annotations

import contextlib
import dataclasses
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from tests.core.messages import (
    CT,
    DATA,
    LAST_COMMAND,
    LAST_DATA,
    RELEASE_RQ,
    VERIFICATION,
    command_set,
    number,
    p_data,
    pdv,
    uid,
)
from tests.robustness.attacks import Attack, data_set, sent
from tests.scp.messages import store_elements
from tests.scu.data import part10

from dicomport.testing import GoneError, Message, Peer, ScriptedSCP, ScriptedSCU, in_turn, response
from dicomport.wire import Abort, AbortReason, CEchoRSP, CStoreRQ, CStoreRSP, RawCommand

ECHO: Final = 1
STORE: Final = 3
"""The context ids of the contexts that `Attack.associated` proposes."""

CLASS, FIELD, ID, PRIORITY, TYPE, INSTANCE = 0x0002, 0x0100, 0x0110, 0x0700, 0x0800, 0x1000
"""Elements of a C-STORE-RQ (PS3.7 9.3.1.1)."""

NONE: Final = number(0x0101)
"""The Command Data Set Type that says that none follows."""


def message(command: bytes, data: bytes | None, *, on: int = STORE) -> bytes:
    return p_data(pdv(on, LAST_COMMAND, command)) + (b"" if data is None else p_data(pdv(on, LAST_DATA, data)))


def element(number_: int, value: bytes, *, length: int | None = None) -> bytes:
    return struct.pack("<HHL", 0, number_, len(value) if length is None else length) + value


def changed(uid_: str, changes: dict[int, bytes | None]) -> bytes:
    """Encode a C-STORE-RQ with changed elements; elements of None are left out."""
    together: dict[int, bytes | None] = {**store_elements(1, uid_), **changes}
    return command_set({name: value for name, value in sorted(together.items()) if value is not None})


def status_of(peer: ScriptedSCU) -> int:
    heard = peer.expect(CStoreRSP)
    return heard.command.status


def goes_on(attack: Attack, peer: ScriptedSCU) -> None:
    """Check that the association still works."""
    fresh = attack.uid()
    assert peer.store(fresh, data_set(fresh)).status == 0
    attack.keep(data_set(fresh))
    assert peer.echo().status == 0
    peer.release()


def is_aborted(peer: ScriptedSCU, reason: AbortReason = AbortReason.INVALID_PDU_PARAMETER_VALUE) -> None:
    assert peer.expect(Abort).reason is reason


def body_of(uid_: str) -> bytes:
    return b"".join(element(name, value) for name, value in store_elements(1, uid_).items())


def length_of(body: bytes, more: int = 0) -> bytes:
    return element(0, struct.pack("<L", len(body) + more))


@pytest.mark.parametrize(
    ("spoil", "deviation"),
    [
        (body_of, "group-length-wrong"),
        (lambda u: element(0, bytes(4)) + body_of(u), "group-length-wrong"),
        (lambda u: length_of(body_of(u), 4) + body_of(u), "group-length-wrong"),
        (lambda u: length_of(body_of(u), -4) + body_of(u), "group-length-wrong"),
        (lambda u: command_set(dict(reversed(store_elements(1, u).items()))), "elements-unsorted"),
        (lambda u: length_of(2 * body_of(u)) + 2 * body_of(u), "element-repeated"),
        (lambda u: changed(u, {0x9999: b"what", 0x0901: b"more"}), None),
        (lambda u: changed(u, {PRIORITY: None}), "priority-missing"),
        (lambda u: changed(u, {PRIORITY: b""}), "priority-missing"),
        (lambda u: changed(u, {PRIORITY: number(77)}), None),
    ],
    ids=[
        "no length",
        "no bytes",
        "too long",
        "too short",
        "unsorted",
        "twice",
        "unknown elements",
        "no priority",
        "empty priority",
        "odd priority",
    ],
)
def test_c1_a_complete_command_set_is_accepted(
    attack: Attack, spoil: Callable[[str], bytes], deviation: str | None
) -> None:
    fresh = attack.uid()
    with attack.associated() as peer:
        peer.send(message(spoil(fresh), data_set(fresh)))
        assert status_of(peer) == 0
        attack.keep(data_set(fresh))
        goes_on(attack, peer)
    assert ([*attack.end_of(peer)["deviations"]] or [None])[0] == deviation


def in_explicit_vr(uid_: str) -> bytes:
    vrs = {CLASS: b"UI", INSTANCE: b"UI"}
    return b"".join(
        struct.pack("<HH2sH", 0, name, vrs.get(name, b"US"), len(value)) + value
        for name, value in store_elements(1, uid_).items()
    )


@pytest.mark.parametrize(
    "command",
    [
        in_explicit_vr("1.2.3"),
        body_of("1.2.3")[:-1],
        body_of("1.2.3") + bytes(7),
        element(CLASS, b"1.2", length=0xFFFFFFFF),
        struct.pack("<HHL", 8, 0x16, 0) + body_of("1.2.3"),
        b"",
    ],
    ids=["explicit VR", "cut off", "more", "too long", "another group", "empty"],
)
def test_c1_an_invalid_command_set_ends_the_association(attack: Attack, command: bytes) -> None:
    with attack.associated() as peer:
        peer.send(message(command, None))
        is_aborted(peer)


@pytest.mark.parametrize("value", [None, b"", b"\0\0", b"  "], ids=["missing", "empty", "NULs", "spaces"])
@pytest.mark.parametrize(("name", "status"), [(CLASS, 0x0212), (INSTANCE, 0x0117)], ids=["class", "instance"])
def test_c2_a_store_without_a_uid_is_refused(attack: Attack, name: int, value: bytes | None, status: int) -> None:
    with attack.associated() as peer:
        peer.send(message(changed("1.2.3", {name: value}), data_set("1.2.3")))
        refusal = peer.expect(CStoreRSP).command
        assert (refusal.status, refusal.offending_element) == (status, (name,))
        goes_on(attack, peer)


@pytest.mark.parametrize("value", [None, b""], ids=["missing", "empty"])
@pytest.mark.parametrize("name", [FIELD, ID, TYPE], ids=["field", "id", "data set type"])
def test_c2_an_unanswerable_request_ends_the_association(attack: Attack, name: int, value: bytes | None) -> None:
    with attack.associated() as peer:
        peer.send(message(changed("1.2.3", {name: value}), None))
        is_aborted(peer)
    assert f"(0000,{name:04X}) is missing" in attack.end_of(peer)["how"]


@pytest.mark.parametrize("instead", ["command", "release"])
def test_c3_something_else_than_the_data_set_ends_the_association(attack: Attack, instead: str) -> None:
    store = changed("1.2.3", {})
    with attack.associated() as peer:
        peer.send(message(store, None), message(store, None) if instead == "command" else RELEASE_RQ)
        is_aborted(
            peer,
            AbortReason.INVALID_PDU_PARAMETER_VALUE if instead == "command" else AbortReason.UNEXPECTED_PDU,
        )


@pytest.mark.parametrize(
    ("changes", "data", "status"),
    [
        ({TYPE: NONE}, None, 0x0117),
        ({TYPE: NONE}, b"a data set all the same", 0x0117),
        ({}, b"", 0xC210),
    ],
    ids=["denied", "denied and sent", "empty"],
)
def test_c4_a_store_without_a_data_set_is_refused(
    attack: Attack, changes: dict[int, bytes | None], data: bytes | None, status: int
) -> None:
    with attack.associated() as peer:
        peer.send(message(changed("1.2.3", changes), data))
        assert status_of(peer) == status
        goes_on(attack, peer)


def other(field: int, *, response: bool = False, data_set_type: bytes = NONE) -> bytes:
    """Write a command with all that requests of DIMSE-C and DIMSE-N have, or responses."""
    names = {0x0120: number(9), 0x0900: number(0)} if response else {ID: number(9)}
    names |= dict.fromkeys((CLASS, 0x0003), uid(CT)) | dict.fromkeys((INSTANCE, 0x1001), uid("1.2.3"))
    names |= dict.fromkeys((0x1002, 0x1008), number(1)) | {FIELD: number(field), TYPE: data_set_type}
    return command_set(dict(sorted(names.items())))


@pytest.mark.parametrize("field", [0x0010, 0x0020, 0x0021, 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150, 0x7777])
def test_c5_other_requests_are_refused(attack: Attack, field: int) -> None:
    """C-GET, C-FIND, C-MOVE, all DIMSE-N and unknown commands: each on a storage context, with a data set."""
    with attack.associated() as peer:
        for data in (None, b"an identifier"):
            kind = NONE if data is None else number(1)
            peer.send(message(other(field, data_set_type=kind), data))
            heard = peer.receive()
            assert isinstance(heard, Message)
            refusal = heard.command if isinstance(heard.command, RawCommand) else heard.command.to_raw()
            assert refusal.command_field == field | 0x8000
            assert refusal.elements[0x0900] == number(0x0211)
        goes_on(attack, peer)


def test_c5_responses_and_cancellations_are_passed_over(attack: Attack) -> None:
    fresh = attack.uid()
    with attack.associated() as peer:
        stray = message(other(0x8001, response=True), None)
        cancel = message(other(0x0FFF, response=True), None)
        peer.send(stray, cancel, message(changed(fresh, {}), data_set(fresh)), cancel, stray)
        assert status_of(peer) == 0
        attack.keep(data_set(fresh))
        goes_on(attack, peer)
    assert attack.end_of(peer)["deviations"] == {"unexpected-response": 2}


@pytest.mark.parametrize("value", [b"\1", b"\1\0\0", b"\1\0\0\0"])
@pytest.mark.parametrize("name", [FIELD, ID, TYPE], ids=["field", "id", "data set type"])
def test_c6_numbers_of_a_wrong_length_end_the_association(attack: Attack, name: int, value: bytes) -> None:
    with attack.associated() as peer:
        peer.send(message(changed("1.2.3", {name: value}), None))
        is_aborted(peer)
    assert "malformed" in attack.end_of(peer)["how"]


def test_c6_a_priority_of_a_wrong_length_is_refused(attack: Attack) -> None:
    with attack.associated() as peer:
        peer.send(message(changed("1.2.3", {PRIORITY: b"\1\0\0"}), data_set("1.2.3")))
        assert status_of(peer) == 0x0212
        goes_on(attack, peer)


@pytest.mark.parametrize("inside", ["1.2\0.3", "1.2\0", "\0"])
def test_c6_a_nul_inside_a_uid_is_not_its_end(attack: Attack, inside: str) -> None:
    fresh = attack.uid()
    with attack.associated() as peer:
        peer.send(message(changed(fresh, {INSTANCE: (fresh + inside + "1").encode()}), data_set(fresh)))
        assert status_of(peer) == 0xA900
        goes_on(attack, peer)


@pytest.mark.parametrize("context", [0, 2, 5, 7, 255])
@pytest.mark.parametrize("control", [LAST_COMMAND, DATA], ids=["command", "data"])
def test_c7_a_context_that_was_not_accepted_ends_the_association(attack: Attack, context: int, control: int) -> None:
    """Context 5 was proposed and rejected: its SOP Class is not a storage class."""
    with attack.associated(VERIFICATION, CT, "1.2.840.10008.5.1.4.1.2.2.1") as peer:
        assert 5 not in peer.contexts
        peer.send(p_data(pdv(context, control, changed("1.2.3", {}))))
        is_aborted(peer)
    assert f"presentation context {context}, which was not accepted" in attack.end_of(peer)["how"]


@pytest.mark.parametrize(
    ("changes", "on", "status"),
    [
        ({CLASS: uid("1.2.840.10008.5.1.4.1.1.4")}, STORE, 0x0122),
        ({CLASS: uid("1.2.3")}, STORE, 0x0122),
        ({CLASS: uid(VERIFICATION)}, STORE, 0x0122),
        ({CLASS: uid(VERIFICATION)}, ECHO, 0x0122),
        ({INSTANCE: uid("1.2.9")}, STORE, 0xA900),
        ({INSTANCE: b"1." * 32 + b"1"}, STORE, 0x0117),
        ({INSTANCE: b"../../x"}, STORE, 0xA900),
        ({}, STORE, 0xA900),
    ],
    ids=["another", "private", "verification", "on verification", "instance", "65", "path", "class in the data set"],
)
def test_c8_a_context_of_another_sop_class_is_refused(
    attack: Attack, changes: dict[int, bytes | None], on: int, status: int
) -> None:
    fresh = attack.uid()
    data = data_set(fresh)
    if not changes:
        data = data.replace(CT.encode(), b"1.2.840.10008.5.1.4.1.1.4")
    with attack.associated() as peer:
        peer.send(message(changed(fresh, changes), data, on=on))
        assert status_of(peer) == status
        goes_on(attack, peer)


@pytest.mark.parametrize("padding", [b"\0", b" ", b"\0\0", b"   "])
def test_c8_padding_is_put_up_with(attack: Attack, padding: bytes) -> None:
    fresh = attack.uid()
    changes: dict[int, bytes | None] = {CLASS: CT.encode() + padding, INSTANCE: fresh.encode() + padding}
    with attack.associated() as peer:
        peer.send(message(changed(fresh, changes), data_set(fresh)))
        assert status_of(peer) == 0
        attack.keep(data_set(fresh))
        goes_on(attack, peer)


def test_c9_a_hundred_pipelined_stores_are_answered_in_order(attack: Attack) -> None:
    """Without a negotiated window: unread requests stay in the sockets, and the responses wait in the test's socket.

    The requests have 26 MB in all, more than the receiver may use; more would prove nothing further.
    """
    uids = [attack.uid() for _ in range(100)]
    with attack.associated() as peer:
        for number_, fresh in enumerate(uids, 1):
            data = data_set(fresh, bytes(1 << 18))
            peer.send(message(changed(fresh, {ID: number(number_)}), data))
            attack.keep(data)
        answers = [peer.expect(CStoreRSP).command for _ in uids]
        assert [answer.message_id_being_responded_to for answer in answers] == [*range(1, 101)]
        assert [answer.affected_sop_instance_uid for answer in answers] == uids
        assert {answer.status for answer in answers} == {0}
        peer.release()


def ct(folder: Path, count: int) -> list[Path]:
    return [part10(folder / f"{number_}.dcm", sop_instance=f"1.2.3.{number_}") for number_ in range(count)]


def test_c10_any_status_is_reported_as_it_came(tmp_path: Path) -> None:
    """Warnings are accepted, and an undefined code is a failure."""
    statuses = [0xB000, 0xB007, 0xA700, 0xC123, 0xFFFF, 0]

    def script(peer: Peer) -> None:
        peer.accept()
        peer.serve(*statuses)

    with ScriptedSCP(script) as scp:
        done = sent(scp.port, *ct(tmp_path, 6), "-j", "1", "--window", "1", "--retries", "0")
    assert done.code == 1
    assert sorted(done.statuses, key=str) == sorted(statuses, key=str)
    assert [result["accepted"] for result in done.results] == [
        result["status"] in (0, 0xB000, 0xB007) for result in done.results
    ]


def test_c10_a_response_counts_by_its_message_id_alone(tmp_path: Path) -> None:
    """Without the UIDs it counts; with another id, another instance's UID or as the answer to an echo it does not."""

    def script(peer: Peer) -> None:
        peer.accept()
        first = peer.expect(CStoreRQ)
        stray = dataclasses.replace(response(first.command), message_id_being_responded_to=999)
        peer.send_message(first.context_id, stray)
        peer.send_message(first.context_id, CEchoRSP(message_id_being_responded_to=first.command.message_id, status=0))
        bare = CStoreRSP(message_id_being_responded_to=first.command.message_id, status=0xA700)
        peer.answer(first, bare)
        second = peer.expect(CStoreRQ)
        peer.answer(first)
        peer.answer(second, 0xB000)
        peer.serve()

    with ScriptedSCP(script) as scp:
        done = sent(scp.port, *ct(tmp_path, 2), "-j", "1", "--window", "1", "--retries", "0")
    assert (done.code, done.statuses) == (1, [0xA700, 0xB000])


def test_c10_a_late_response_is_ignored(tmp_path: Path) -> None:
    """The association is aborted, and the next instance is sent over another one."""

    def late(peer: Peer) -> None:
        peer.accept()
        request = peer.expect(CStoreRQ)
        assert peer.expect(Abort).reason is AbortReason.SERVICE_USER
        with contextlib.suppress(GoneError):
            peer.answer(request)

    def script(peer: Peer) -> None:
        peer.accept()
        peer.serve(0xB007)

    with ScriptedSCP(in_turn(late, script)) as scp:
        done = sent(scp.port, *ct(tmp_path, 2), "-j", "1", "--window", "1", "--retries", "0", "-td", "0.5")
    assert (done.code, done.statuses) == (1, [None, 0xB007])
    assert done.reasons[0] == "the association was lost: the dimse timer expired after 0.5 s"


@pytest.mark.parametrize("ids", [[7, 7, 7], [65534, 65535, 0, 1], [0, 0], [3, 2, 1]])
def test_c11_message_ids_may_be_anything(attack: Attack, ids: list[int]) -> None:
    with attack.associated() as peer:
        for message_id in ids:
            fresh = attack.uid()
            peer.send(message(changed(fresh, {ID: number(message_id)}), data_set(fresh)))
            answer = peer.expect(CStoreRSP).command
            assert (answer.status, answer.message_id_being_responded_to) == (0, message_id)
            attack.keep(data_set(fresh))
        peer.release()

"""Each request of any kind is answered, and the next C-STORE on the association works (PS3.7 9.1, Annex C)."""

import logging
from collections.abc import Iterator
from typing import Final

import pytest
from tests.core.messages import (
    CT,
    INVALID,
    LAST_COMMAND,
    LAST_DATA,
    UNEXPECTED,
    VERIFICATION,
    command_set,
    number,
    p_data,
    pdv,
    uid,
)
from tests.scp.messages import (
    DATA_SET,
    ECHO,
    STORE,
    command_fragments,
    context,
    in_fragments,
    request,
    store,
    store_elements,
)
from tests.scp.storages import Recorder

from dicomport import StorageSCP
from dicomport.testing import Message, ScriptedSCU
from dicomport.wire import Abort, CEchoRSP, Command, CStoreRSP, Deviation, NActionRSP, RawCommand, encode

MR: Final = "1.2.840.10008.5.1.4.1.1.4"

NO_DATA_SET: Final = number(0x0101)
FOLLOWS: Final = number(0x0001)


def response_to(peer: ScriptedSCU) -> Command | RawCommand:
    heard = peer.receive()
    assert isinstance(heard, Message)
    return heard.command


def command(elements: dict[int, bytes], context_id: int = STORE) -> bytes:
    return p_data(pdv(context_id, LAST_COMMAND, command_set(elements)))


def data_set(context_id: int = STORE) -> bytes:
    return in_fragments(context_id, DATA_SET, 10)


def without(*missing: int, **changed: bytes) -> dict[int, bytes]:
    return {number_: value for number_, value in store_elements(41).items() if number_ not in missing} | {
        int(name[1:], 16): value for name, value in changed.items()
    }


def with_(elements: dict[int, bytes]) -> dict[int, bytes]:
    return store_elements(41) | elements


def request_of(command_field: int, data_set_type: bytes, more: dict[int, bytes] | None = None) -> dict[int, bytes]:
    return {0x0002: uid(CT), 0x0100: number(command_field), 0x0110: number(41), 0x0800: data_set_type} | (more or {})


@pytest.fixture(scope="module")
def storage() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def port(storage: Recorder) -> Iterator[int]:
    with StorageSCP(storage, port=0).in_thread() as scp:
        yield scp.port


def statuses(answer: Command | RawCommand) -> tuple[int, int, int, tuple[int, ...]]:
    """Return Command Field, the answered Message ID, Status and Offending Element of any response."""
    raw = answer if isinstance(answer, RawCommand) else answer.to_raw()
    tags = raw.elements.get(0x0901, b"")
    return (
        raw.command_field,
        int.from_bytes(raw.elements[0x0120], "little"),
        int.from_bytes(raw.elements[0x0900], "little"),
        tuple(
            int.from_bytes(tags[at : at + 2], "little") << 16 | int.from_bytes(tags[at + 2 : at + 4], "little")
            for at in range(0, len(tags), 4)
        ),
    )


LONG_UID: Final = "1." + "2" * 63

C_STORE_RSP: Final = 0x8001

REFUSED: Final[dict[str, tuple[bytes, tuple[int, int, int, tuple[int, ...]]]]] = {
    "unknown command": (command(request_of(0x0042, NO_DATA_SET)), (0x8042, 41, 0x0211, ())),
    "unknown command with a data set": (
        command(request_of(0x0042, FOLLOWS)) + data_set(),
        (0x8042, 41, 0x0211, ()),
    ),
    "C-FIND": (command(request_of(0x0020, FOLLOWS)) + data_set(), (0x8020, 41, 0x0211, ())),
    "C-MOVE": (command(request_of(0x0021, FOLLOWS)) + data_set(), (0x8021, 41, 0x0211, ())),
    "N-CREATE without a SOP Class": (
        command({0x0100: number(0x0140), 0x0110: number(41), 0x0800: NO_DATA_SET}),
        (0x8140, 41, 0x0211, ()),
    ),
    "N-ACTION": (
        command(
            {
                0x0003: uid(CT),
                0x0100: number(0x0130),
                0x0110: number(41),
                0x0800: FOLLOWS,
                0x1001: uid("1.2.3"),
                0x1008: number(1),
            }
        )
        + data_set(),
        (0x8130, 41, 0x0211, ()),
    ),
    "N-EVENT-REPORT": (
        command(request_of(0x0100, NO_DATA_SET, {0x1000: uid("1.2.3"), 0x1002: number(1)})),
        (0x8100, 41, 0x0211, ()),
    ),
    "no Affected SOP Instance UID": (
        command(without(0x1000)) + data_set(),
        (C_STORE_RSP, 41, 0x0117, (0x00001000,)),
    ),
    "an empty Affected SOP Instance UID": (
        command(without(x1000=b"")) + data_set(),
        (C_STORE_RSP, 41, 0x0117, (0x00001000,)),
    ),
    "an Affected SOP Instance UID of padding": (
        command(without(x1000=b"\0\0")) + data_set(),
        (C_STORE_RSP, 41, 0x0117, (0x00001000,)),
    ),
    "an Affected SOP Instance UID of 65 characters": (
        command(without(x1000=uid(LONG_UID))) + data_set(),
        (C_STORE_RSP, 41, 0x0117, (0x00001000,)),
    ),
    "an Affected SOP Instance UID of 5000 characters": (
        command(without(x1000=b"1" * 5000)) + data_set(),
        (C_STORE_RSP, 41, 0x0117, (0x00001000,)),
    ),
    "no Affected SOP Class UID": (command(without(0x0002)) + data_set(), (C_STORE_RSP, 41, 0x0212, (0x00000002,))),
    "a Priority of one byte": (
        command(without(x0700=b"\0")) + data_set(),
        (C_STORE_RSP, 41, 0x0212, (0x00000700,)),
    ),
    "a Priority of four bytes": (
        command(without(x0700=bytes(4))) + data_set(),
        (C_STORE_RSP, 41, 0x0212, (0x00000700,)),
    ),
    "a Move Originator Message ID of three bytes": (
        command(without(x1031=bytes(3))) + data_set(),
        (C_STORE_RSP, 41, 0x0212, (0x00001031,)),
    ),
    "no data set announced": (command(without(x0800=NO_DATA_SET)), (C_STORE_RSP, 41, 0x0117, ())),
    "no data set announced, though one follows": (
        command(without(x0800=NO_DATA_SET)) + data_set(),
        (C_STORE_RSP, 41, 0x0117, ()),
    ),
    "neither data set nor Affected SOP Instance UID": (
        command(without(0x1000, x0800=NO_DATA_SET)),
        (C_STORE_RSP, 41, 0x0117, (0x00001000,)),
    ),
    "another SOP Class than the context's": (
        command(without(x0002=uid(MR))) + data_set(),
        (C_STORE_RSP, 41, 0x0122, ()),
    ),
    "a SOP Class that is none": (
        command(without(x0002=b"no UID at all!")) + data_set(),
        (C_STORE_RSP, 41, 0x0122, ()),
    ),
    "C-ECHO on a storage context": (
        command({0x0002: uid(VERIFICATION), 0x0100: number(0x0030), 0x0110: number(41), 0x0800: NO_DATA_SET}),
        (0x8030, 41, 0x0122, ()),
    ),
    "C-ECHO of a storage class": (
        command({0x0002: uid(CT), 0x0100: number(0x0030), 0x0110: number(41), 0x0800: NO_DATA_SET}),
        (0x8030, 41, 0x0122, ()),
    ),
    "C-ECHO without a SOP Class": (
        command({0x0100: number(0x0030), 0x0110: number(41), 0x0800: NO_DATA_SET}, ECHO),
        (0x8030, 41, 0x0212, (0x00000002,)),
    ),
    "C-STORE of Verification": (
        command(without(x0002=uid(VERIFICATION)), ECHO) + data_set(ECHO),
        (C_STORE_RSP, 41, 0x0122, ()),
    ),
}


@pytest.mark.parametrize(("sent", "answered"), REFUSED.values(), ids=REFUSED)
def test_refused_requests_have_these_responses(
    port: int, storage: Recorder, sent: bytes, answered: tuple[int, int, int, tuple[int, ...]]
) -> None:
    begun = len(storage.operations)
    with ScriptedSCU("127.0.0.1", port) as peer:
        peer.associate()
        for _ in range(2):
            peer.send(sent)
            answer = response_to(peer)
            assert statuses(answer) == answered
            assert not answer.has_data_set
        assert len(storage.operations) == begun
        assert peer.store("1.2.3.4", DATA_SET, message_id=42).status == 0x0000
        peer.release()
    assert len(storage.operations) == begun + 1


def test_a_refusal_gives_the_uids_back_as_they_came(port: int) -> None:
    with ScriptedSCU("127.0.0.1", port) as peer:
        peer.associate()
        peer.send(command(without(x0002=uid(MR), x1000=b"1.2.3 ")), data_set())
        answer = peer.expect(CStoreRSP).command
        assert (answer.affected_sop_class_uid, answer.affected_sop_instance_uid) == (MR, "1.2.3")
        peer.send(command(without(0x1000)), data_set())
        answer = peer.expect(CStoreRSP).command
        assert (answer.affected_sop_class_uid, answer.affected_sop_instance_uid) == (CT, "")
        action = {
            0x0003: uid(CT),
            0x0100: number(0x0130),
            0x0110: number(41),
            0x0800: NO_DATA_SET,
            0x1001: uid("1.2.3"),
            0x1008: number(1),
        }
        # An N-ACTION-RSP has Affected UIDs where the request has Requested ones (PS3.7 10.3.4.2).
        peer.send(command(action))
        raw = peer.expect(NActionRSP).command.to_raw()
        assert (raw.elements[0x0002], raw.elements[0x1000]) == (uid(CT), uid("1.2.3"))


def test_a_uid_of_64_characters_is_taken(port: int, storage: Recorder) -> None:
    longest = LONG_UID[:64]
    with ScriptedSCU("127.0.0.1", port) as peer:
        peer.associate()
        assert peer.store(longest, DATA_SET).affected_sop_instance_uid == longest
    assert storage.data[longest] == DATA_SET


@pytest.mark.parametrize("padding", [b"\0", b" ", b"\0\0\0"])
def test_padding_is_no_part_of_a_uid(port: int, storage: Recorder, padding: bytes) -> None:
    with ScriptedSCU("127.0.0.1", port) as peer:
        peer.associate()
        peer.send(command(with_({0x1000: b"1.2.3.44" + padding, 0x0002: CT.encode() + padding})), data_set())
        assert peer.expect(CStoreRSP).command.status == 0x0000
    assert storage.operations[-1].sop_instance_uid == "1.2.3.44"
    assert storage.operations[-1].sop_class_uid == CT


TOLERATED: Final = {
    "no group length": (command_set(store_elements(41))[12:], Deviation.GROUP_LENGTH_WRONG),
    "a wrong group length": (
        command_set(store_elements(41))[:8] + bytes(4) + command_set(store_elements(41))[12:],
        Deviation.GROUP_LENGTH_WRONG,
    ),
    "unsorted": (command_set({**without(0x0100), 0x0100: number(0x0001)}), Deviation.ELEMENTS_UNSORTED),
    "no Priority": (command_set(without(0x0700)), Deviation.PRIORITY_MISSING),
}


@pytest.mark.parametrize(("sent", "deviation"), TOLERATED.values(), ids=TOLERATED)
def test_tolerated_deviations_are_counted(caplog: pytest.LogCaptureFixture, sent: bytes, deviation: Deviation) -> None:
    with (
        StorageSCP(Recorder(), port=0).in_thread() as scp,
        caplog.at_level(logging.INFO),
        ScriptedSCU("127.0.0.1", scp.port) as peer,
    ):
        peer.associate()
        peer.send(p_data(pdv(STORE, LAST_COMMAND, sent)), data_set())
        assert peer.expect(CStoreRSP).command.status == 0x0000
        peer.release()
    assert deviations(caplog) == {deviation: 1}


def deviations(caplog: pytest.LogCaptureFixture) -> dict[Deviation, int]:
    """Return the counts of the only association after its end."""
    [record] = [record for record in caplog.records if record.getMessage().startswith("association_ended")]
    counted: dict[Deviation, int] = vars(record)["fields"]["deviations"]
    return counted


C_CANCEL: Final = command({0x0100: number(0x0FFF), 0x0120: number(41), 0x0800: NO_DATA_SET})

C_STORE_RSP_UNASKED: Final = command(
    {
        0x0002: uid(CT),
        0x0100: number(0x8001),
        0x0120: number(41),
        0x0800: NO_DATA_SET,
        0x0900: number(0),
        0x1000: uid("1.2.3"),
    }
)

C_FIND_RSP_WITH_DATA: Final = (
    command({0x0002: uid(CT), 0x0100: number(0x8020), 0x0120: number(41), 0x0800: FOLLOWS, 0x0900: number(0xFF00)})
    + data_set()
)


@pytest.mark.parametrize(
    ("sent", "counted"),
    [
        (C_CANCEL, {}),
        (C_STORE_RSP_UNASKED, {Deviation.UNEXPECTED_RESPONSE: 1}),
        (C_FIND_RSP_WITH_DATA, {Deviation.UNEXPECTED_RESPONSE: 1}),
    ],
    ids=["C-CANCEL", "C-STORE-RSP", "C-FIND-RSP with a data set"],
)
def test_responses_and_cancels_are_never_answered(
    caplog: pytest.LogCaptureFixture, sent: bytes, counted: dict[Deviation, int]
) -> None:
    with (
        StorageSCP(Recorder(), port=0).in_thread() as scp,
        caplog.at_level(logging.INFO),
        ScriptedSCU("127.0.0.1", scp.port) as peer,
    ):
        peer.associate()
        peer.send(sent)
        # Only this request has a response.
        assert peer.store("1.2.3.4", DATA_SET, message_id=42).message_id_being_responded_to == 42
        peer.release()
    assert deviations(caplog) == counted


ABORTED: Final[dict[str, tuple[bytes, bytes]]] = {
    "C-STORE without a Message ID": (command(without(0x0110)), INVALID),
    "C-STORE with a Message ID of one byte": (command(without(x0110=b"\1")), INVALID),
    "C-FIND without a Message ID": (command({0x0100: number(0x0020), 0x0800: NO_DATA_SET}), INVALID),
    "no Command Field": (command(without(0x0100)), INVALID),
    "no Command Data Set Type": (command(without(0x0800)), INVALID),
    "an element of another group": (
        p_data(pdv(STORE, LAST_COMMAND, bytes.fromhex("08000500 04000000 00000000"))),
        INVALID,
    ),
    "an element that runs over": (
        p_data(pdv(STORE, LAST_COMMAND, bytes.fromhex("00000001 ff000000 0100"))),
        INVALID,
    ),
    "a context that was not accepted": (command(store_elements(), 5), INVALID),
    "a data set without a command": (data_set(), INVALID),
    "a command inside a data set": (
        command(store_elements()) + p_data(pdv(STORE, 0, DATA_SET)) + command(store_elements(2)),
        INVALID,
    ),
    "a data set on another context than its command": (command(store_elements()) + data_set(ECHO), INVALID),
    "an A-ASSOCIATE-RQ instead of the data set": (
        command(store_elements()) + bytes.fromhex("01 00 00000004 00000000"),
        UNEXPECTED,
    ),
    "an A-RELEASE-RQ instead of the data set": (
        command(store_elements()) + bytes.fromhex("05 00 00000004 00000000"),
        UNEXPECTED,
    ),
    "an A-RELEASE-RP that nobody asked for": (bytes.fromhex("06 00 00000004 00000000"), UNEXPECTED),
}


@pytest.mark.parametrize(("sent", "abort"), ABORTED.values(), ids=ABORTED)
def test_an_unanswerable_command_aborts_and_stores_nothing(
    port: int, storage: Recorder, sent: bytes, abort: bytes
) -> None:
    stored = dict(storage.data)
    with ScriptedSCU("127.0.0.1", port) as peer:
        peer.associate()
        peer.send(sent)
        assert encode(peer.expect(Abort)) == abort
    assert storage.data == stored
    with ScriptedSCU("127.0.0.1", port) as peer:
        peer.associate()
        assert peer.store("1.2.3.4", DATA_SET).status == 0x0000


def test_c_echo_is_answered_between_stores(port: int) -> None:
    echo = command({0x0002: uid(VERIFICATION), 0x0100: number(0x0030), 0x0110: number(7), 0x0800: NO_DATA_SET}, ECHO)
    with ScriptedSCU("127.0.0.1", port) as peer:
        peer.associate()
        for _ in range(3):
            peer.send(echo)
            assert peer.expect(CEchoRSP).command == CEchoRSP(
                message_id_being_responded_to=7, affected_sop_class_uid=VERIFICATION, status=0
            )
            assert peer.store("1.2.3.4", DATA_SET).status == 0x0000


def test_a_command_and_its_data_set_in_one_pdu_or_in_pieces_of_one_byte(port: int, storage: Recorder) -> None:
    together = p_data(
        pdv(STORE, LAST_COMMAND, command_set(store_elements(1, "1.2.3.71"))), pdv(STORE, LAST_DATA, DATA_SET)
    )
    in_pieces = command_fragments(STORE, store_elements(2, "1.2.3.72")) + in_fragments(STORE, DATA_SET, 1)
    with ScriptedSCU("127.0.0.1", port) as peer:
        peer.associate()
        peer.send(together)
        assert peer.expect(CStoreRSP).command.status == 0x0000
        for at in range(len(in_pieces)):
            peer.send(in_pieces[at : at + 1])
        assert peer.expect(CStoreRSP).command.status == 0x0000
    assert storage.data["1.2.3.71"] == storage.data["1.2.3.72"] == DATA_SET


def test_a_misprinted_uid_and_the_right_one_are_the_same_class(port: int) -> None:
    misprint, right = "1.2.840.10008.5.1.4.1.1.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1.1"
    with ScriptedSCU("127.0.0.1", port) as peer:
        peer.associate(request=request(context(1, misprint), context(3, right)))
        for context_id, sop_class in ((1, misprint), (1, right), (3, misprint), (3, right)):
            peer.send(store(context_id=context_id, sop_class=sop_class))
            answer = peer.expect(CStoreRSP).command
            assert (answer.status, answer.affected_sop_class_uid) == (0x0000, sop_class)

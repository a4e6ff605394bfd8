"""PDUs in the log: lines of limited length, without secrets and without data sets."""

import logging
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given, strategies as st
from tests.core.associations import POLICY
from tests.core.messages import CT, EXPLICIT, IMPLICIT, RELEASE_RQ, USER_ABORT, VERIFICATION, p_data, pdv
from tests.scp.messages import STORE, context, in_fragments, request, store_command

from dicomport.core import Association, Role, negotiate
from dicomport.net import create_association
from dicomport.wire import (
    AssociateRJ,
    AsynchronousOperationsWindow,
    CStoreRSP,
    RejectReason,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UnknownItem,
    UserIdentityAC,
    UserIdentityRQ,
    UserInformation,
    encode,
)

PATIENT: Final = b"DOE^JANE"

ITEMS: Final = UserInformation(
    maximum_length=16384,
    implementation_class_uid="1.2.3",
    implementation_version_name="PEER",
    operations_window=AsynchronousOperationsWindow(5, 1),
    roles=(RoleSelection(CT, scu=True, scp=False),),
    extended=(SOPClassExtendedNegotiation(CT, b"\2\0\3" + bytes(100)),),
    common_extended=(SOPClassCommonExtendedNegotiation("1.2.3.4", "1.2.840.10008.4.2"),),
    user_identity=UserIdentityRQ(2, True, b"jane", b"hunter2"),
    unknown=(UnknownItem(0x99, b"hunter2"),),
)


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return the fields of the log records without the number of the connection."""
    found = [dict(record.fields) for record in caplog.records if record.name == "dicomport.pdu"]  # type: ignore[attr-defined]
    for fields in found:
        assert isinstance(fields.pop("connection"), int)
    return found


@pytest.fixture(autouse=True)
def _debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "dicomport.pdu")


def test_an_association_is_logged_from_request_to_end(caplog: pytest.LogCaptureFixture) -> None:
    asked = request(context(1, VERIFICATION, IMPLICIT), context(3, CT), context(5, "1.2.3", *["1.2"] * 9), items=ITEMS)
    core = create_association(Role.ACCEPTOR, peer="192.0.2.7:104")
    core.transport_opened()
    core.receive(encode(asked))
    core.next_event()
    core.answer(
        negotiate(
            asked,
            replace(POLICY, transfer_syntaxes=(EXPLICIT, IMPLICIT)),
            user_identity_response=UserIdentityAC(b"hunter2"),
        )
    )
    core.take_output()
    core.receive(store_command(7, "1.2.3.4") + in_fragments(STORE, PATIENT * 10, 20) + RELEASE_RQ)
    while core.next_event() is not None:
        pass
    core.send_command(3, CStoreRSP(message_id_being_responded_to=7, status=0xA700, error_comment="no\nroom"))
    core.take_output()
    core.confirm_release()
    core.take_output()

    received, sent = ({"event": f"pdu_{way}", "address": "192.0.2.7", "port": 104} for way in ("received", "sent"))
    got, gave, command, data, release, response, released = lines(caplog)
    assert got == received | {
        "pdu": "A-ASSOCIATE-RQ",
        "called": "DICOMPORT",
        "calling": "MODALITY",
        "application_context": "",
        "contexts": [
            "1 Verification SOP Class in Implicit VR Little Endian",
            "3 CT Image Storage in Explicit VR Little Endian, Implicit VR Little Endian",
            "5 1.2.3 in 1.2, 1.2, 1.2, 1.2 and 5 more",
        ],
        "maximum_length": 16384,
        "implementation": "1.2.3 PEER",
        "operations_window": "5/1",
        "roles": ["CT Image Storage SCU 1 SCP 0"],
        "extended": ["CT Image Storage 02000300000000000000000000000000"],
        "common_extended": ["1.2.3.4 is of Storage Service Class"],
        "user_identity": "of type 2, with a response",
        "unknown_items": ["item 99H of 7 bytes"],
        "unknown": [],
    }
    assert gave["pdu"] == "A-ASSOCIATE-AC"
    assert gave["contexts"] == [
        "1 accepted Implicit VR Little Endian",
        "3 accepted Explicit VR Little Endian",
        "5 transfer_syntaxes_not_supported",
    ]
    assert gave["user_identity_response"] == "given"
    assert command == received | {
        "pdu": "P-DATA-TF",
        "context": 3,
        "command": "C-STORE-RQ",
        "has_data_set": True,
        "message_id": 7,
        "affected_sop_class_uid": CT,
        "affected_sop_instance_uid": "1.2.3.4",
        "priority": 0,
        "move_originator_ae_title": "",
    }
    assert data == received | {"pdu": "P-DATA-TF", "context": 3, "data_set_bytes": 80, "fragments": 4}
    assert release == received | {"pdu": "A-RELEASE-RQ"}
    assert response.items() >= {"command": "C-STORE-RSP", "status": "0xA700", "error_comment": "no\nroom"}.items()
    assert released == sent | {"pdu": "A-RELEASE-RP"}
    for secret in ("jane", "hunter2", "DOE"):
        assert secret not in caplog.text
        assert secret not in str([record.__dict__ for record in caplog.records])


@pytest.mark.parametrize(
    ("pdu", "told"),
    [
        (
            encode(AssociateRJ(RejectReason.LOCAL_LIMIT_EXCEEDED, transient=True)),
            {"pdu": "A-ASSOCIATE-RJ", "result": "transient", "reason": "local limit exceeded"},
        ),
        (USER_ABORT, {"pdu": "A-ABORT", "reason": "service-user"}),
        (b"GET / HTTP/1.1\r\n", {"pdu": "none", "reason": "unknown PDU type 47H: does the peer use HTTP?"}),
        (bytes.fromhex("01 00 00000003 414141"), {"pdu": "type 01H"}),
        (p_data(pdv(1, 3, b"\1\2\3")), {"pdu": "P-DATA-TF", "context": 1, "command": "malformed"}),
        (
            p_data(pdv(1, 3, bytes.fromhex("0000 0001 02000000 2000 0000 0008 02000000 0101 0000 1001 02000000 0300"))),
            {"pdu": "P-DATA-TF", "context": 1, "command": "0020H", "has_data_set": False},
        ),
    ],
)
def test_any_bytes_are_logged(pdu: bytes, told: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    core = create_association(Role.ACCEPTOR)
    core.transport_opened()
    core.receive(pdu)
    core.next_event()
    assert lines(caplog)[0].items() >= told.items()


def test_a_line_has_its_bound(caplog: pytest.LogCaptureFixture) -> None:
    contexts = [context(2 * number + 1, "1" * 4000, *["2" * 4000] * 10) for number in range(5)]
    contexts += [context(number, CT) for number in range(11, 256, 2)]
    core = create_association(Role.ACCEPTOR)
    core.transport_opened()
    core.receive(encode(request(*contexts)))
    assert len(caplog.messages[0]) < 20_000
    assert "and 88 more" not in caplog.messages[0]
    assert "88 more" in caplog.messages[0]


@given(st.lists(st.integers(1, 40), min_size=1))
def test_the_events_do_not_depend_on_the_split(sizes: list[int]) -> None:
    stream = encode(request(items=ITEMS)) + store_command() + in_fragments(STORE, PATIENT * 9, 7) + RELEASE_RQ
    told: list[list[dict[str, Any]]] = []
    for pieces in ([len(stream)], sizes):
        seen: list[dict[str, Any]] = []
        handler = _Keeping(seen)
        logging.getLogger("dicomport.pdu").addHandler(handler)
        core = create_association(Role.ACCEPTOR)
        at, number = 0, 0
        while at < len(stream):
            size = pieces[number % len(pieces)]
            core.receive(stream[at : at + size])
            while core.next_event() is not None:
                pass
            at, number = at + size, number + 1
        logging.getLogger("dicomport.pdu").removeHandler(handler)
        told.append([{**fields, "connection": 0} for fields in seen])
    assert told[0] == told[1]
    assert len(told[0]) == 4


class _Keeping(logging.Handler):
    def __init__(self, seen: list[dict[str, Any]]) -> None:
        super().__init__()
        self._seen = seen

    def emit(self, record: logging.LogRecord) -> None:
        self._seen.append(record.fields)  # type: ignore[attr-defined]  # our own records have them


def test_pdus_are_not_decoded_without_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dicomport.pdu")
    core = create_association(Role.ACCEPTOR)
    core.transport_opened()
    core.receive(encode(replace(request(), application_context="1.2.3")))
    assert type(core) is Association
    assert not caplog.records

"""The SCU of storage commitment: its requests, and its handling of responses and reports (PS3.4 J.3)."""

import asyncio
import dataclasses
import socket
import threading
from collections.abc import Iterable
from typing import Any, Final

import pytest
from tests.commitment.asking import COMMITMENT, CT, INSTANCE, MAX_BYTES, Log, references
from tests.commitment.data_set_goldens import EXPLICIT, with_element_for_item
from tests.ports import unused_port

import dicomport
from dicomport import Commitment, CommitmentReport, SOPReference, Status, Timeouts
from dicomport.commitment.data_sets import CommitmentRequest, CommitmentResult
from dicomport.testing import (
    Message,
    Peer,
    Script,
    ScriptedSCP,
    ScriptedSCU,
    association_request,
)
from dicomport.wire import (
    Abort,
    AbortReason,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    CEchoRQ,
    CEchoRSP,
    NActionRQ,
    NActionRSP,
    NEventReportRQ,
    NEventReportRSP,
    RawCommand,
    RejectReason,
    ReleaseRP,
    ReleaseRQ,
    RoleSelection,
)

ONE, TWO, THREE = references("1.2.1", "1.2.2", "1.2.3")


def commit(wanted: Iterable[SOPReference], port: int, **options: Any) -> CommitmentReport:
    return dicomport.blocking.commit(wanted, "127.0.0.1", port, **options)


def asked(peer: Peer) -> tuple[int, CommitmentRequest]:
    """Read an N-ACTION and answer success; return its context and its request."""
    message = peer.expect(NActionRQ)
    assert message.command == NActionRQ(
        has_data_set=True,
        message_id=message.command.message_id,
        requested_sop_class_uid=COMMITMENT,
        requested_sop_instance_uid=INSTANCE,
        action_type_id=1,
    )
    peer.answer(message)
    return message.context_id, decoded(peer, message)


def decoded(peer: Peer, message: Message[NActionRQ]) -> CommitmentRequest:
    return CommitmentRequest.decode(message.data, peer.contexts[message.context_id].transfer_syntax, MAX_BYTES)


def report(message_id: int = 1, event_type: int = 1, **changed: Any) -> NEventReportRQ:
    values: dict[str, Any] = {
        "has_data_set": True,
        "message_id": message_id,
        "affected_sop_class_uid": COMMITMENT,
        "affected_sop_instance_uid": INSTANCE,
        "event_type_id": event_type,
    }
    return NEventReportRQ(**values | changed)


def send_report(peer: Peer, result: CommitmentResult | bytes, **changed: Any) -> int:
    """Send a report, and return the status of the response."""
    [context] = peer.contexts.values()
    data = result if isinstance(result, bytes) else result.encode(context.transfer_syntax)
    peer.send_message(context.context_id, report(**changed), data)
    return peer.expect(NEventReportRSP).command.status


def released(peer: Peer) -> None:
    """Expect the release of the association."""
    peer.expect(ReleaseRQ)
    peer.send(ReleaseRP())
    peer.expect_close()


def telling(*committed: SOPReference, failed: tuple[tuple[SOPReference, int], ...] = ()) -> Script:
    """Make the script of an archive that reports over the association that asks."""

    def script(peer: Peer) -> None:
        peer.accept()
        _, request = asked(peer)
        failures = tuple((one, Status(code)) for one, code in failed)
        result = CommitmentResult(request.transaction_uid, committed, failures)
        assert send_report(peer, result, event_type=2 if failed else 1) == 0x0000
        released(peer)

    return script


def test_all_is_committed() -> None:
    with ScriptedSCP(telling(TWO, ONE), connections=1) as peer:
        told = commit([ONE, TWO], peer.port, ae_title="MODALITY", called_ae_title="ARCHIVE")
    assert told == CommitmentReport(
        commitments=(
            Commitment(ONE, committed=True, status=Status(0x0000)),
            Commitment(TWO, committed=True, status=Status(0x0000)),
        )
    )
    assert (told.committed, told.failed, told.error) == (told.commitments, (), "")
    request = peer.peers[0].request
    assert request is not None
    assert (request.calling_ae_title, request.called_ae_title) == ("MODALITY", "ARCHIVE")
    assert request.user_information.roles == ()


def test_some_fail() -> None:
    with ScriptedSCP(telling(ONE, failed=((TWO, 0x0112), (THREE, 0xB000)))) as peer:
        told = commit([ONE, TWO, THREE], peer.port)
    assert [(one.reference, one.committed, one.status) for one in told.commitments] == [
        (ONE, True, Status(0x0000)),
        (TWO, False, Status(0x0112)),
        (THREE, False, Status(0xB000)),
    ]
    assert told.failed[0].reason.startswith("0x0112 Failure: No such SOP instance")
    assert told.error == ""


def test_contradictory_references_fail_and_unknown_ones_are_ignored() -> None:
    with ScriptedSCP(telling(ONE, THREE, failed=((ONE, 0x0110),))) as peer:
        told = commit([ONE, TWO], peer.port)
    assert [(one.reference, one.committed, one.reason) for one in told.commitments] == [
        (ONE, False, "0x0110 Failure: Processing failure"),
        (TWO, False, "the peer's report does not mention it"),
    ]


def test_another_class_is_another_instance() -> None:
    with ScriptedSCP(telling(dataclasses.replace(ONE, sop_class_uid="1.2.3"))) as peer:
        assert [one.committed for one in commit([ONE], peer.port).commitments] == [False]


def test_nothing_is_asked_for_nothing() -> None:
    assert commit([], unused_port()) == CommitmentReport(commitments=())


def test_each_is_asked_for_once() -> None:
    with ScriptedSCP(telling(ONE)) as peer:
        assert len(commit([ONE, ONE], peer.port).commitments) == 1
    [message] = [heard for heard in peer.peers[0].heard if isinstance(heard, Message) and heard.data]
    assert decoded(peer.peers[0], message).references == (ONE,)  # type: ignore[arg-type]


def test_many_are_asked_for_in_several_transactions() -> None:
    wanted = references(*(f"1.2.{number}" for number in range(1201)))
    requests: list[CommitmentRequest] = []

    def script(peer: Peer) -> None:
        peer.accept()
        requests.extend(asked(peer)[1] for _ in range(3))
        # In any order.
        for request in reversed(requests):
            result = CommitmentResult(request.transaction_uid, request.references, ())
            assert send_report(peer, result) == 0x0000
        released(peer)

    with ScriptedSCP(script) as peer:
        assert len(commit(wanted, peer.port).committed) == 1201
    assert [len(request.references) for request in requests] == [500, 500, 201]
    assert tuple(one for request in requests for one in request.references) == wanted
    uids = {request.transaction_uid for request in requests}
    assert len(uids) == 3
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


def test_a_report_may_come_before_the_answer_to_the_request() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        message = peer.expect(NActionRQ)
        result = CommitmentResult(decoded(peer, message).transaction_uid, (ONE,), ())
        assert send_report(peer, result) == 0x0000
        peer.answer(message)
        released(peer)

    with ScriptedSCP(script) as peer:
        assert len(commit([ONE], peer.port).committed) == 1


def test_a_request_that_is_refused_waits_for_nothing() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.answer(peer.expect(NActionRQ), 0x0213)
        released(peer)

    with ScriptedSCP(script) as peer:
        told = commit([ONE], peer.port, wait=86400)
    assert [(one.committed, one.status) for one in told.commitments] == [(False, None)]
    assert told.commitments[0].reason == "the request was refused: 0x0213 Failure: Resource limitation"


def test_a_late_report_means_not_committed() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        asked(peer)
        released(peer)

    with ScriptedSCP(script) as peer:
        told = commit([ONE], peer.port, wait=0.05)
    assert told.commitments == (Commitment(ONE, reason="nothing was reported within 0.05 s"),)
    assert told.error == "nothing was reported within 0.05 s"


# Invalid reports.

GARBAGE: Final[dict[str, tuple[bytes | None, dict[str, Any], int]]] = {
    "another SOP Class": (None, {"affected_sop_class_uid": CT}, 0x0118),
    "another SOP Instance": (None, {"affected_sop_instance_uid": "1.2.3"}, 0x0112),
    "another event": (None, {"event_type": 3}, 0x0113),
    "no transaction": (CommitmentResult("1.2.3", (ONE,), ()).encode("1.2.840.10008.1.2.1"), {}, 0x0115),
    "no data set": (b"", {"has_data_set": False}, 0x0120),
    "an empty data set": (b"", {}, 0x0120),
    "garbage": (b"\xff" * 100, {}, 0x0115),
    "too long": (bytes((16 << 20) + 2), {}, 0x0120),
}


@pytest.mark.parametrize(("data", "changed", "status"), GARBAGE.values(), ids=GARBAGE)
def test_an_invalid_report_is_refused(data: bytes | None, changed: dict[str, Any], status: int) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        _, request = asked(peer)
        result = CommitmentResult(request.transaction_uid, (ONE,), ())
        assert send_report(peer, result if data is None else data, **changed) == status
        assert send_report(peer, result) == 0x0000
        released(peer)

    with ScriptedSCP(script) as peer:
        assert len(commit([ONE], peer.port).committed) == 1


def test_a_report_with_an_element_in_place_of_an_item_is_refused() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        _, request = asked(peer)
        result = CommitmentResult(request.transaction_uid, (ONE,), ())
        assert send_report(peer, with_element_for_item(result.encode(EXPLICIT))) == 0x0115
        assert send_report(peer, result) == 0x0000
        released(peer)

    with ScriptedSCP(script) as peer:
        assert len(commit([ONE], peer.port).committed) == 1


def test_requests_to_the_scu_are_refused() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        context_id, request = asked(peer)
        peer.send_message(context_id, CEchoRQ(message_id=9, affected_sop_class_uid="1.2.840.10008.1.1"))
        assert peer.expect(CEchoRSP).command.status == 0x0211
        # An N-EVENT-REPORT without an event type, with a data set; and an unexpected response.
        lacking = RawCommand({**report().to_raw().elements})
        lacking = RawCommand({number: value for number, value in lacking.elements.items() if number != 0x1002})
        peer.send_message(context_id, lacking, bytes(100))
        assert peer.expect(NEventReportRSP).command.status == 0x0212
        peer.send_message(context_id, NActionRSP(message_id_being_responded_to=77, status=0))
        assert send_report(peer, CommitmentResult(request.transaction_uid, (ONE,), ())) == 0x0000
        released(peer)

    with ScriptedSCP(script) as peer:
        assert len(commit([ONE], peer.port).committed) == 1


# Rejected, aborted and lost associations.


def rejecting(peer: Peer) -> None:
    peer.expect(AssociateRQ)
    peer.send(AssociateRJ(RejectReason.CALLED_AE_TITLE_NOT_RECOGNIZED))
    peer.expect_close()


def refusing(peer: Peer) -> None:
    peer.accept(refuse=[COMMITMENT])
    assert list(peer.requests()) == []


def going(peer: Peer) -> None:
    peer.accept()
    asked(peer)
    peer.reset()


def releasing(peer: Peer) -> None:
    peer.accept()
    asked(peer)
    peer.send(ReleaseRQ())
    peer.expect(ReleaseRP)


def aborting_inside_a_report(peer: Peer) -> None:
    peer.accept()
    context_id, _ = asked(peer)
    peer.send(peer.encode_message(context_id, report(), bytes(50_000))[:20_000])
    peer.reset()


def silent(peer: Peer) -> None:
    peer.accept()
    peer.expect(NActionRQ)
    peer.expect(Abort)


def breaking_the_protocol(peer: Peer) -> None:
    peer.accept()
    asked(peer)
    peer.send(b"GET / HTTP/1.1\r\n")
    peer.expect(Abort)


ENDS: Final[dict[str, tuple[Script, str]]] = {
    "closes": (lambda peer: peer.close(), "no association: the peer closed the connection"),
    "rejects": (rejecting, "no association: the peer rejected the association (permanent)"),
    "refuses the context": (refusing, "no association: the peer does not accept storage commitment"),
    "goes": (going, "the association was lost: the peer closed the connection"),
    "releases": (releasing, "the association was lost: the peer released the association"),
    "goes inside a report": (aborting_inside_a_report, "the association was lost: the peer closed the connection"),
    "does not answer": (silent, "the association was lost: the dimse timer expired after 0.2 s"),
    "breaks the protocol": (breaking_the_protocol, "the association was lost: the peer violated the protocol"),
}


@pytest.mark.parametrize(("script", "reason"), ENDS.values(), ids=ENDS)
def test_the_end_of_the_association_is_the_reason(script: Script, reason: str) -> None:
    with ScriptedSCP(script) as peer:
        told = commit([ONE, TWO], peer.port, timeouts=Timeouts(dimse=0.2))
    assert [one.committed for one in told.commitments] == [False, False]
    assert all(one.reason.startswith(reason) for one in told.commitments), told
    assert told.error.startswith(reason)


def test_no_connection_is_the_reason() -> None:
    port = unused_port()
    assert commit([ONE], port).error.startswith(f"no association: nothing listens on 127.0.0.1:{port}")


def test_titles_are_checked() -> None:
    for title in ({"ae_title": ""}, {"called_ae_title": "A" * 17}):
        with pytest.raises(ValueError, match="AE title"):
            commit([ONE], unused_port(), **title)


# Reports on associations that the peer opens.


def reporting(
    port: int, *results: CommitmentResult, calling: str = "ARCHIVE", host: str = "127.0.0.1", **changed: Any
) -> list[int]:
    """Open an association to a listener, as the SCP, and report; return the statuses of the responses."""
    request = association_request(COMMITMENT, calling=calling, called="DICOMPORT")
    roles = (RoleSelection(COMMITMENT, scu=False, scp=True),)
    items = dataclasses.replace(request.user_information, roles=roles)
    with ScriptedSCU(host, port) as peer:
        peer.send(dataclasses.replace(request, user_information=items))
        assert peer.expect(AssociateAC).user_information.roles == roles
        statuses = [send_report(peer, result, **changed) for result in results]
        peer.release()
    return statuses


def test_the_report_comes_on_an_association_of_the_peer() -> None:
    port, statuses = unused_port(), []

    def script(peer: Peer) -> None:
        peer.accept()
        _, request = asked(peer)
        stranger = CommitmentResult("1.2.3", (ONE,), ())
        result = CommitmentResult(request.transaction_uid, (ONE,), ((TWO, Status(0x0119)),))
        statuses.extend(reporting(port, stranger, result, event_type=2))
        released(peer)

    with ScriptedSCP(script) as peer:
        told = commit([ONE, TWO], peer.port, listen_port=port)
    assert statuses == [0x0115, 0x0000]
    assert [(one.committed, one.status) for one in told.commitments] == [(True, Status(0)), (False, Status(0x0119))]


def other_address() -> str:
    """Return an address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return str(probe.getsockname()[0])


def reported_by(calling: str, host: str, **options: Any) -> tuple[list[int], bool]:
    """Request PACS on loopback, and let a peer report success. Return the response, and whether it was believed."""
    port, statuses = unused_port(), list[int]()

    def script(peer: Peer) -> None:
        peer.accept()
        _, request = asked(peer)
        statuses.extend(
            reporting(port, CommitmentResult(request.transaction_uid, (ONE,), ()), calling=calling, host=host)
        )
        if statuses != [0x0000]:
            # The archive itself does not commit.
            assert send_report(peer, CommitmentResult(request.transaction_uid, (), ((ONE, Status(0x0110)),))) == 0x0000
        released(peer)

    options = {"called_ae_title": "PACS", "listen_host": "", **options}
    with ScriptedSCP(script) as peer:
        told = commit([ONE], peer.port, listen_port=port, **options)
    return statuses, told.commitments[0].committed


def test_only_the_requested_peer_may_report(log: Log) -> None:
    # Both know the Transaction UID.
    assert reported_by("STRANGER", "127.0.0.1") == ([0x0115], False)
    assert reported_by("PACS", other_address()) == ([0x0115], False)
    assert log.events.count("commitment_report_refused") == 2
    assert reported_by("PACS", "127.0.0.1") == ([0x0000], True)
    # "ANY-SCP" means any peer.
    assert reported_by("STRANGER", "127.0.0.1", called_ae_title="ANY-SCP") == ([0x0000], True)


def test_other_peers_may_report_if_they_are_named() -> None:
    address = other_address()
    assert reported_by("NODE2", address, report_from=[f"NODE2@{address}"]) == ([0x0000], True)
    assert reported_by("NODE3", address, report_from=[f"NODE2@{address}"]) == ([0x0115], False)
    with pytest.raises(ValueError, match="is not an address or network"):
        commit([ONE], unused_port(), listen_port=unused_port(), report_from=["PACS@nowhere"])


@pytest.mark.parametrize("how", ["release", "abort", "loss"])
def test_the_report_arrives_after_the_association_ended(how: str) -> None:
    port = unused_port()

    def script(peer: Peer) -> None:
        peer.accept()
        _, request = asked(peer)
        if how == "release":
            peer.send(ReleaseRQ())
            peer.expect(ReleaseRP)
        elif how == "abort":
            peer.send(Abort(AbortReason.SERVICE_USER))
        peer.close()
        assert reporting(port, CommitmentResult(request.transaction_uid, (ONE,), ())) == [0x0000]

    with ScriptedSCP(script) as peer:
        assert len(commit([ONE], peer.port, listen_port=port).committed) == 1


def test_a_listener_waits_no_longer_than_it_should() -> None:
    with ScriptedSCP(going) as peer:
        told = commit([ONE], peer.port, listen_port=unused_port(), wait=0.05)
    assert told.error == "nothing was reported within 0.05 s"


def test_a_listener_accepts_only_reports() -> None:
    port = unused_port()

    def script(peer: Peer) -> None:
        peer.accept()
        _, request = asked(peer)
        with ScriptedSCU("127.0.0.1", port) as other:
            other.associate("1.2.840.10008.1.1", CT, COMMITMENT)
            assert [context.abstract_syntax for context in other.contexts.values()] == [
                "1.2.840.10008.1.1",
                COMMITMENT,
            ]
            assert other.echo().status == 0x0000
            data = request.encode("1.2.840.10008.1.2.1")
            action = NActionRQ(
                has_data_set=True,
                message_id=5,
                requested_sop_class_uid=COMMITMENT,
                requested_sop_instance_uid=INSTANCE,
                action_type_id=1,
            )
            other.send_message(5, action, data)
            assert other.expect(NActionRSP).command.status == 0x0211
            assert other.store("1.2.3", bytes(100), context_id=5).status == 0x0122
        assert reporting(port, CommitmentResult(request.transaction_uid, (ONE,), ())) == [0x0000]
        released(peer)

    with ScriptedSCP(script) as peer:
        assert len(commit([ONE], peer.port, listen_port=port).committed) == 1


def test_a_port_in_use_is_reported() -> None:
    with ScriptedSCP(rejecting) as other, pytest.raises(OSError, match="Address already in use"):
        commit([ONE], unused_port(), listen_port=other.port)


def test_it_can_be_cancelled() -> None:
    waiting = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        asked(peer)
        waiting.set()
        peer.expect(Abort)

    async def cancel(port: int) -> None:
        task = asyncio.create_task(dicomport.commit([ONE], "127.0.0.1", port, wait=86400))
        await asyncio.to_thread(waiting.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with ScriptedSCP(script) as peer:
        asyncio.run(cancel(peer.port))

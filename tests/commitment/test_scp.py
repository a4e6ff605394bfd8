"""The SCP of storage commitment: requests are saved, checked, and reported until the SCU answers (PS3.4 J.3)."""

import asyncio
import dataclasses
import errno
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from tests.commitment.asking import (
    COMMITMENT,
    CT,
    INSTANCE,
    SCU,
    Keeper,
    Log,
    Serving,
    expect_report,
    references,
    result,
    said,
    serving,
)
from tests.commitment.data_set_goldens import with_element_for_item
from tests.files.faults import Disk, Fault
from tests.ports import unused_port
from tests.scp.storages import Recorder

from dicomport import (
    Address,
    CommitmentLimits,
    CommitmentSCP,
    Limits,
    RetryPolicy,
    SOPReference,
    Status,
    StorageSCP,
    Timeouts,
)
from dicomport.commitment.data_sets import CommitmentRequest, CommitmentResult
from dicomport.commitment.transactions import Transaction, Transactions
from dicomport.testing import Peer, Script, ScriptedSCP, acceptance, in_turn
from dicomport.wire import (
    Abort,
    AbortReason,
    AssociateRJ,
    AssociateRQ,
    NEventReportRQ,
    NEventReportRSP,
    RejectReason,
    ReleaseRP,
    ReleaseRQ,
    RoleSelection,
)

IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
JPEG: Final = "1.2.840.10008.1.2.4.50"
TIMEOUT: Final = 30.0
HOUR: Final = 3600.0


class Listener:
    """An SCU's listener: takes reports, and hands them to the test's thread."""

    def __init__(self, *answers: int) -> None:
        self.begun, self.may_answer = threading.Event(), threading.Event()
        self.may_answer.set()
        self.reports: queue.SimpleQueue[tuple[AssociateRQ, int, CommitmentResult]] = queue.SimpleQueue()
        self._answers = iter(answers)

    def __call__(self, peer: Peer) -> None:
        request = peer.accept()
        for message in peer.requests():
            assert isinstance(message.command, NEventReportRQ)
            event, told = said(peer, message)  # type: ignore[arg-type]
            self.begun.set()
            self.may_answer.wait(TIMEOUT)
            peer.answer(message, next(self._answers, 0))
            self.reports.put((request, event, told))

    def next(self) -> tuple[int, CommitmentResult]:
        _, event, told = self.reports.get(timeout=TIMEOUT)
        return event, told


# On the same association.


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, JPEG])
def test_all_is_committed(tmp_path: Path, syntax: str) -> None:
    keeper = Keeper()
    with serving(keeper, tmp_path) as served:
        with SCU(served.port, transfer_syntaxes=[syntax]) as scu:
            assert scu.context.transfer_syntax == syntax
            assert scu.ask("1.2.3", "1.2.1", "1.2.2") == 0x0000
            report = scu.expect(NEventReportRQ)
            assert report.command == NEventReportRQ(
                has_data_set=True,
                message_id=1,
                affected_sop_class_uid=COMMITMENT,
                affected_sop_instance_uid=INSTANCE,
                event_type_id=1,
            )
            assert said(scu, report) == (1, result("1.2.3", "1.2.1", "1.2.2"))
            scu.answer(report)
            scu.release()
        assert keeper.asked == [("1.2.1", "1.2.2")]
    assert served.kept() == []


def test_failed_references_have_their_reasons(tmp_path: Path) -> None:
    keeper = Keeper(lost={"1.2.2": 0x0112, "1.2.4": 0x0119, "1.2.5": 0x0110, "1.2.6": 0xB000})
    with serving(keeper, tmp_path) as served, SCU(served.port) as scu:
        assert scu.ask("1.2.3", "1.2.1", "1.2.2", "1.2.3", "1.2.4", "1.2.5", "1.2.6") == 0x0000
        assert expect_report(scu) == (
            2,
            result("1.2.3", "1.2.1", "1.2.3", _1_2_2=0x0112, _1_2_4=0x0119, _1_2_5=0x0110, _1_2_6=0xB000),
        )


def test_one_association_asks_many_times(tmp_path: Path) -> None:
    with serving(Keeper(), tmp_path) as served, SCU(served.port) as scu:
        for number in range(5):
            assert scu.ask(f"1.2.{number}", f"1.3.{number}") == 0x0000
            assert expect_report(scu) == (1, result(f"1.2.{number}", f"1.3.{number}"))
        scu.release()
    assert served.kept() == []


def test_requests_may_come_before_the_reports_on_others(tmp_path: Path) -> None:
    keeper = Keeper()
    keeper.may_look.clear()
    with serving(keeper, tmp_path) as served, SCU(served.port) as scu:
        for number in range(5):
            assert scu.ask(f"1.2.{number}", f"1.3.{number}") == 0x0000
        assert len(served.kept()) == 5
        keeper.may_look.set()
        told = {expect_report(scu)[1].transaction_uid for _ in range(5)}
        assert told == {f"1.2.{number}" for number in range(5)}


@pytest.mark.parametrize(
    "error", [OSError("the disk is gone"), RuntimeError("some bug"), None], ids=["OSError", "bug", "too few"]
)
def test_a_custody_that_fails_commits_nothing(tmp_path: Path, error: Exception | None, log: Log) -> None:
    class TooFew(Keeper):
        async def look_up(self, wanted: Sequence[SOPReference]) -> list[Status]:
            return (await super().look_up(wanted))[:-1]

    with serving(Keeper(error=error) if error else TooFew(), tmp_path) as served, SCU(served.port) as scu:
        assert scu.ask("1.2.3", "1.2.1", "1.2.2") == 0x0000
        assert expect_report(scu) == (2, result("1.2.3", _1_2_1=0x0110, _1_2_2=0x0110))
        scu.release()
    assert "lookup_failed" in log.events


def test_a_silent_wait_for_a_report_is_not_idle(tmp_path: Path) -> None:
    keeper = Keeper()
    keeper.may_look.clear()
    with serving(keeper, tmp_path, timeouts=Timeouts(idle=0.05)) as served, SCU(served.port) as scu:
        assert scu.ask("1.2.3", "1.2.1") == 0x0000
        while served.scp.counters.get("timer.idle", 0) < 3:
            threading.Event().wait(0.01)
        keeper.may_look.set()
        assert expect_report(scu) == (1, result("1.2.3", "1.2.1"))
        scu.expect(Abort)


# Requests that are refused.


def request(transaction: str = "1.2.3", *uids: str) -> bytes:
    return CommitmentRequest(transaction, references(*(uids or ("1.2.1",)))).encode(EXPLICIT)


REFUSED: Final[dict[str, tuple[bytes, dict[str, Any], int]]] = {
    "another SOP Class": (request(), {"requested_sop_class_uid": CT}, 0x0118),
    "another SOP Instance": (request(), {"requested_sop_instance_uid": "1.2.3"}, 0x0112),
    "another action": (request(), {"action_type_id": 2}, 0x0123),
    "no data set": (b"", {"has_data_set": False}, 0x0120),
    "an empty data set": (b"", {}, 0x0120),
    "half a data set": (request()[:-10], {}, 0x0115),
    "an element in place of an item": (with_element_for_item(request()), {}, 0x0115),
    "garbage": (b"GET / HTTP/1.1\r\n" * 20, {}, 0x0115),
    "no references": (request()[:14], {}, 0x0120),
    "an odd UID": (request("1.2.x"), {}, 0x0115),
    "too long": (request("1.2.3", *(f"1.2.{number}" for number in range(2000))), {}, 0x0213),
}


@pytest.mark.parametrize(("data", "changed", "status"), REFUSED.values(), ids=REFUSED)
def test_an_invalid_request_is_refused(tmp_path: Path, data: bytes, changed: dict[str, Any], status: int) -> None:
    keeper = Keeper()
    limits = Limits(dimse_n_bytes=100_000)
    with serving(keeper, tmp_path, limits=limits) as served, SCU(served.port, transfer_syntaxes=[EXPLICIT]) as scu:
        assert scu.act(data, **changed) == status
        assert served.kept() == []
        # Nothing is the worse for it.
        assert scu.ask("1.2.3", "1.2.1") == 0x0000
        assert expect_report(scu) == (1, result("1.2.3", "1.2.1"))
    assert keeper.asked == [("1.2.1",)]


def test_a_report_is_not_for_an_scp(tmp_path: Path) -> None:
    report = NEventReportRQ(
        message_id=5, affected_sop_class_uid=COMMITMENT, affected_sop_instance_uid=INSTANCE, event_type_id=1
    )
    with serving(Keeper(), tmp_path) as served, SCU(served.port) as scu:
        scu.send_message(scu.context.context_id, report)
        assert scu.expect(NEventReportRSP).command.status == 0x0211


def test_a_deflated_request_is_inflated_no_further_than_one_may_be_long(tmp_path: Path) -> None:
    limits = CommitmentLimits(data_set_bytes=100_000)
    with (
        serving(Keeper(), tmp_path, commitment_limits=limits) as served,
        SCU(served.port, transfer_syntaxes=[DEFLATED]) as scu,
    ):
        many = CommitmentRequest("1.2.3", references(*["1.2.1"] * 2000))
        assert len(many.encode(DEFLATED)) < 10_000
        assert scu.act(many.encode(DEFLATED)) == 0x0213


@pytest.mark.parametrize("limits", [CommitmentLimits(pending_commitments=2), CommitmentLimits(pending_references=5)])
def test_only_so_many_are_kept(tmp_path: Path, limits: CommitmentLimits) -> None:
    keeper = Keeper()
    keeper.may_look.clear()
    with serving(keeper, tmp_path, commitment_limits=limits) as served, SCU(served.port) as scu:
        assert scu.ask("1.2.1", "1.3.1", "1.3.2") == 0x0000
        assert scu.ask("1.2.2", "1.3.1", "1.3.2") == 0x0000
        assert scu.ask("1.2.3", "1.3.1", "1.3.2") == 0x0213
        keeper.may_look.set()
        assert {expect_report(scu)[1].transaction_uid for _ in range(2)} == {"1.2.1", "1.2.2"}
        # As soon as they are forgotten there is room.
        while (status := scu.ask("1.2.3", "1.3.1", "1.3.2")) == 0x0213:
            pass
        assert status == 0x0000
        expect_report(scu)


@pytest.mark.parametrize(("code", "status"), [(errno.ENOSPC, 0x0213), (errno.EIO, 0x0110)])
def test_one_that_can_not_be_kept_is_refused(
    tmp_path: Path, code: int, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Keeper(), tmp_path) as served, SCU(served.port) as scu:
        disk = Disk(tmp_path, monkeypatch)
        disk.fail(Fault("fsync", code))
        assert scu.ask("1.2.3", "1.2.1") == status
        disk.recover()
        assert scu.ask("1.2.3", "1.2.1") == 0x0000
        assert expect_report(scu) == (1, result("1.2.3", "1.2.1"))


# Transaction UIDs.


def test_a_request_that_is_repeated_is_one_request(tmp_path: Path) -> None:
    keeper = Keeper()
    keeper.may_look.clear()
    with serving(keeper, tmp_path) as served:
        with SCU(served.port) as first:
            assert first.ask("1.2.3", "1.2.1", "1.2.2") == 0x0000
            first.reset()
        with SCU(served.port) as second:
            assert second.ask("1.2.3", "1.2.1", "1.2.2") == 0x0000
            assert len(served.kept()) == 1
            keeper.may_look.set()
            assert expect_report(second) == (1, result("1.2.3", "1.2.1", "1.2.2"))
            second.release()
    assert served.kept() == []


def test_a_uid_that_is_in_use_for_something_else_fails(tmp_path: Path) -> None:
    keeper = Keeper()
    keeper.may_look.clear()
    with serving(keeper, tmp_path) as served, SCU(served.port) as scu:
        assert scu.ask("1.2.3", "1.2.1") == 0x0000
        assert scu.ask("1.2.3", "1.2.2") == 0x0000
        assert expect_report(scu) == (2, result("1.2.3", _1_2_2=0x0131))
        keeper.may_look.set()
        assert expect_report(scu) == (1, result("1.2.3", "1.2.1"))


def test_a_transaction_uid_belongs_to_its_peer(tmp_path: Path) -> None:
    """A peer at another address, under the same AE title, does not get the report of the first by repeating it."""
    keeper = Keeper()
    keeper.may_look.clear()
    with serving(keeper, tmp_path) as served, SCU(served.port) as scu, SCU(served.port, local="127.0.0.2") as thief:
        assert scu.ask("1.2.3", "1.2.1") == 0x0000
        assert thief.ask("1.2.3", "1.2.1") == 0x0000
        assert len(served.kept()) == 2
        keeper.may_look.set()
        assert expect_report(scu) == (1, result("1.2.3", "1.2.1"))
        # The request of the other peer is a separate transaction, not a duplicate.
        assert expect_report(thief) == (1, result("1.2.3", "1.2.1"))


def test_others_may_have_the_same_uid(tmp_path: Path) -> None:
    keeper = Keeper()
    keeper.may_look.clear()
    with serving(keeper, tmp_path) as served, SCU(served.port, "ONE") as one, SCU(served.port, "OTHER") as other:
        assert one.ask("1.2.3", "1.2.1") == other.ask("1.2.3", "1.2.2") == 0x0000
        keeper.may_look.set()
        assert expect_report(one) == (1, result("1.2.3", "1.2.1"))
        assert expect_report(other) == (1, result("1.2.3", "1.2.2"))


# Reports over separate associations.


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon."""
    monkeypatch.setattr("dicomport.commitment.delivery._RETRY", RetryPolicy(first_delay=0.01, max_delay=3600.0))


def test_a_disconnected_scu_gets_the_report_at_its_address(tmp_path: Path) -> None:
    keeper, listener = Keeper(lost={"1.2.2": 0x0112}), Listener()
    keeper.may_look.clear()
    with ScriptedSCP(listener) as peer, serving(keeper, tmp_path, port=peer.port) as served:
        with SCU(served.port) as scu:
            assert scu.ask("1.2.3", "1.2.1", "1.2.2") == 0x0000
            scu.release()
        keeper.may_look.set()
        asked, event, told = listener.reports.get(timeout=TIMEOUT)
        assert (event, told) == (2, result("1.2.3", "1.2.1", _1_2_2=0x0112))
        assert (asked.calling_ae_title, asked.called_ae_title) == ("ARCHIVE", "SCRIPTED")
        assert [context.abstract_syntax for context in asked.presentation_contexts] == [COMMITMENT]
        assert asked.user_information.roles == (RoleSelection(COMMITMENT, scu=False, scp=True),)
    assert served.kept() == []
    assert [type(heard) for heard in peer.peers[0].heard[-1:]] == [ReleaseRQ]


def ended(how: str, scu: SCU) -> None:
    """End the association with a report that is not answered."""
    scu.expect(NEventReportRQ)
    match how:
        case "release":
            scu.send(ReleaseRQ())
            scu.expect(ReleaseRP)
        case "abort":
            scu.send(Abort(AbortReason.SERVICE_USER))
        case "loss":
            scu.reset()


@pytest.mark.parametrize("how", ["release", "abort", "loss"])
def test_an_scu_that_ends_without_an_answer_gets_the_report_at_its_address(tmp_path: Path, how: str) -> None:
    listener = Listener()
    with ScriptedSCP(listener) as peer, serving(Keeper(), tmp_path, port=peer.port) as served, SCU(served.port) as scu:
        assert scu.ask("1.2.3", "1.2.1") == 0x0000
        ended(how, scu)
        assert listener.next() == (1, result("1.2.3", "1.2.1"))


def test_an_scu_that_refuses_the_report_gets_it_at_its_address(tmp_path: Path) -> None:
    listener = Listener()
    with ScriptedSCP(listener) as peer, serving(Keeper(), tmp_path, port=peer.port) as served, SCU(served.port) as scu:
        assert scu.ask("1.2.3", "1.2.1") == 0x0000
        expect_report(scu, 0x0211)
        assert listener.next() == (1, result("1.2.3", "1.2.1"))


def test_an_scu_that_does_not_answer_gets_the_report_at_its_address(tmp_path: Path) -> None:
    listener = Listener()
    timeouts = Timeouts(dimse=0.05)
    with (
        ScriptedSCP(listener) as peer,
        serving(Keeper(), tmp_path, port=peer.port, timeouts=timeouts) as served,
        SCU(served.port) as scu,
    ):
        assert scu.ask("1.2.3", "1.2.1") == 0x0000
        scu.expect(NEventReportRQ)
        assert listener.next() == (1, result("1.2.3", "1.2.1"))


def ask_and_go(port: int, transaction: str, *uids: str) -> None:
    """Send a request, and disconnect before the report."""
    with SCU(port) as scu:
        assert scu.ask(transaction, *uids) == 0x0000
        scu.send(Abort(AbortReason.SERVICE_USER))


def test_a_late_answer_to_a_report_is_ignored(tmp_path: Path, log: Log) -> None:
    with serving(Keeper(), tmp_path, timeouts=Timeouts(dimse=0.1)) as served, SCU(served.port) as scu:
        assert scu.ask("1.2.3", "1.2.1") == 0x0000
        report = scu.expect(NEventReportRQ)
        log.await_event("report_not_sent")
        scu.answer(report)
        # The association is still there.
        assert scu.ask("1.2.3", "1.2.1") == 0x0000
        assert scu.expect(NEventReportRQ).command.message_id != report.command.message_id
    assert len(served.kept()) == 1


def test_reports_share_an_association(tmp_path: Path, log: Log) -> None:
    keeper, listener = Keeper(), Listener()
    keeper.may_look.clear()
    with ScriptedSCP(listener, connections=1) as peer, serving(keeper, tmp_path, port=peer.port) as served:
        for number in range(3):
            ask_and_go(served.port, f"1.2.{number}", "1.2.1")
        listener.may_answer.clear()
        keeper.may_look.set()
        log.await_event("commitment_looked_up", 3)
        listener.may_answer.set()
        assert {listener.next()[1].transaction_uid for _ in range(3)} == {"1.2.0", "1.2.1", "1.2.2"}


def rejecting(peer: Peer) -> None:
    peer.expect(AssociateRQ)
    peer.send(AssociateRJ(RejectReason.LOCAL_LIMIT_EXCEEDED, transient=True))
    peer.expect_close()


def refusing_the_context(peer: Peer) -> None:
    peer.accept(refuse=[COMMITMENT])
    assert list(peer.requests()) == []


def refusing_the_role(peer: Peer) -> None:
    asked = peer.expect(AssociateRQ)
    reply = acceptance(asked)
    role = RoleSelection(COMMITMENT, scu=False, scp=False)
    peer.send(dataclasses.replace(reply, user_information=dataclasses.replace(reply.user_information, roles=(role,))))
    assert list(peer.requests()) == []


def gone_before_the_answer(peer: Peer) -> None:
    peer.accept()
    peer.expect(NEventReportRQ)
    peer.reset()


def out_of_order(peer: Peer) -> None:
    peer.accept()
    peer.answer(peer.expect(NEventReportRQ), 0x0110)
    peer.expect(Abort)


def silent(peer: Peer) -> None:
    peer.accept()
    peer.expect(NEventReportRQ)
    peer.expect(Abort)


TROUBLE: Final[dict[str, Script]] = {
    "closes": lambda peer: peer.close(),
    "rejects": rejecting,
    "refuses the context": refusing_the_context,
    "refuses the role": refusing_the_role,
    "goes": gone_before_the_answer,
    "could not process it": out_of_order,
    "is silent": silent,
}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
def test_it_is_tried_until_it_is_answered(tmp_path: Path, trouble: Script, log: Log) -> None:
    listener, timeouts = Listener(), Timeouts(dimse=0.2)
    keeper = Keeper(lost={"1.2.1": 0x0112})
    keeper.may_look.clear()
    with (
        ScriptedSCP(in_turn(trouble, trouble, listener)) as peer,
        serving(keeper, tmp_path, port=peer.port, timeouts=timeouts) as served,
    ):
        ask_and_go(served.port, "1.2.3", "1.2.1")
        keeper.may_look.set()
        assert listener.next() == (2, result("1.2.3", _1_2_1=0x0112))
    assert served.kept() == []
    assert log.events.count("reports_not_delivered") == 2
    assert keeper.asked == [("1.2.1",)]


@pytest.mark.parametrize("answer", [0x0112, 0x0115, 0x0211])
def test_a_refusal_is_an_answer(tmp_path: Path, answer: int, log: Log) -> None:
    listener = Listener(answer)
    with ScriptedSCP(listener, connections=1) as peer, serving(Keeper(), tmp_path, port=peer.port) as served:
        with SCU(served.port) as scu:
            assert scu.ask("1.2.3", "1.2.1") == 0x0000
            ended("abort", scu)
        listener.next()
        log.await_event("commitment_reported")
    assert served.kept() == []


def test_a_peer_that_asks_anew_is_tried_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomport.commitment.delivery._RETRY", RetryPolicy(first_delay=86400.0, max_delay=86400.0))
    listener, tried = Listener(), threading.Event()

    def closing(peer: Peer) -> None:
        peer.close()
        tried.set()

    with (
        ScriptedSCP(in_turn(closing, listener)) as peer,
        serving(Keeper(), tmp_path, port=peer.port) as served,
    ):
        with SCU(served.port) as scu:
            assert scu.ask("1.2.1", "1.2.1") == 0x0000
            ended("abort", scu)
        assert tried.wait(TIMEOUT)
        with SCU(served.port) as scu:
            assert scu.ask("1.2.2", "1.2.1") == 0x0000
            ended("abort", scu)
        assert {listener.next()[1].transaction_uid for _ in range(2)} == {"1.2.1", "1.2.2"}


# Across restarts, and for ever.


def test_it_is_on_the_disk_before_it_is_answered(tmp_path: Path) -> None:
    keeper = Keeper()
    keeper.may_look.clear()
    with serving(keeper, tmp_path) as served, SCU(served.port) as scu:
        assert scu.ask("1.2.3", "1.2.1") == 0x0000
        [path] = served.kept()
        kept = Transaction.from_json(path.read_text())
        assert (kept.uid, kept.ae_title, kept.references) == ("1.2.3", "SCRIPTED", references("1.2.1"))
        scu.send(Abort(AbortReason.SERVICE_USER))
        keeper.may_look.set()


def test_the_next_server_delivers_pending_reports(tmp_path: Path, log: Log) -> None:
    keeper, listener = Keeper(lost={"1.2.2": 0x0119}), Listener()
    keeper.may_look.clear()
    with serving(keeper, tmp_path) as served:
        ask_and_go(served.port, "1.2.3", "1.2.1", "1.2.2")
    keeper.may_look.set()
    assert len(served.kept()) == 1
    # One that knows no address keeps it.
    with serving(keeper, tmp_path) as served:
        log.await_event("report_not_sent")
    assert len(served.kept()) == 1
    with ScriptedSCP(listener) as peer, serving(keeper, tmp_path, port=peer.port) as served:
        assert listener.next() == (2, result("1.2.3", "1.2.1", _1_2_2=0x0119))
    assert served.kept() == []
    # Each has looked for itself.
    assert keeper.asked[-2:] == [("1.2.1", "1.2.2")] * 2


def left(folder: Path, *transactions: Transaction) -> None:
    """Leave transactions behind, as a process does that was killed."""
    kept = Transactions(folder)
    for transaction in transactions:
        kept.add(transaction)
    kept.close()


def transaction(uid: str, *uids: str, age: float = 0.0, duplicate: bool = False) -> Transaction:
    return Transaction(
        uid=uid,
        ae_title="SCRIPTED",
        host="127.0.0.1",
        tls_fingerprint="",
        references=references(*uids),
        requested=time.time() - age,
        duplicate=duplicate,
    )


def test_a_duplicate_stays_one(tmp_path: Path) -> None:
    listener = Listener()
    left(tmp_path, transaction("1.2.3", "1.2.1", duplicate=True))
    with ScriptedSCP(listener) as peer, serving(Keeper(), tmp_path, port=peer.port):
        assert listener.next() == (2, result("1.2.3", _1_2_1=0x0131))


def test_an_unreadable_transaction_blocks_nothing(tmp_path: Path, log: Log) -> None:
    listener = Listener()
    left(tmp_path, transaction("1.2.3", "1.2.1"), transaction("1.2.4", "1.2.1"))
    [damaged, _] = sorted(tmp_path.rglob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    damaged.write_text("{")
    with ScriptedSCP(listener) as peer, serving(Keeper(), tmp_path, port=peer.port):
        assert listener.next() == (1, result("1.2.4", "1.2.1"))
    assert log.events.count("transaction_unreadable") == 1


def test_after_a_time_it_is_given_up(tmp_path: Path, log: Log) -> None:
    left(tmp_path, transaction("1.2.3", "1.2.1", age=8 * 86400), transaction("1.2.4", "1.2.1"))
    listener = Listener()
    with ScriptedSCP(listener) as peer, serving(Keeper(), tmp_path, port=peer.port) as served:
        assert listener.next() == (1, result("1.2.4", "1.2.1"))
    assert served.kept() == []
    assert log.events.count("report_expired") == 1


def test_a_request_without_an_address_expires_too(tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then, its peer may ask again."""
    real, passed = time.time, 0.0
    monkeypatch.setattr("dicomport.commitment.scp.time.time", lambda: real() + passed)
    with serving(Keeper(), tmp_path, retry_for=HOUR) as served:
        assert ask_and_abort(served.port, "ONE", "1.2.3", log, 1) == 0x0000
        passed = HOUR - 60.0
        assert ask_and_abort(served.port, "TWO", "1.2.4", log, 2) == 0x0000
        assert transactions_of(served) == {"1.2.3", "1.2.4"}
        passed = HOUR + 60.0
        assert ask_and_abort(served.port, "TWO", "1.2.5", log, 3) == 0x0000
        assert transactions_of(served) == {"1.2.4", "1.2.5"}
    assert log.events.count("report_expired") == 1


def test_repeated_failures_end_the_delivery(tmp_path: Path, log: Log) -> None:
    with (
        ScriptedSCP(lambda peer: peer.close()) as peer,
        serving(Keeper(), tmp_path, port=peer.port, retry_for=0.2) as served,
    ):
        ask_and_go(served.port, "1.2.3", "1.2.1")
        log.await_event("report_expired")
    assert served.kept() == []


# Quotas.


def ask_and_abort(port: int, calling: str, transaction: str, log: Log, unsent: int) -> int:
    """Request a commitment and end before the report; the request waits for a repetition then."""
    with SCU(port, calling) as scu:
        status = scu.ask(transaction, "1.2.1")
        scu.send(Abort(AbortReason.SERVICE_USER))
        scu.drain()
    if status == 0x0000:
        log.await_event("report_not_sent", unsent)
    return status


@pytest.fixture
def answering_later() -> Keeper:
    keeper = Keeper()
    keeper.may_look.clear()
    return keeper


def transactions_of(served: Serving) -> set[str]:
    return {Transaction.from_json(path.read_text()).uid for path in served.kept()}


def test_a_request_without_an_address_is_dropped_first(tmp_path: Path, log: Log) -> None:
    """The oldest request without an address is dropped, and not the one whose peer has an address."""
    limits = CommitmentLimits(pending_commitments=3)
    with serving(Keeper(), tmp_path, port=unused_port(), commitment_limits=limits) as served:
        with SCU(served.port) as scu:
            assert scu.ask("1.1", "1.2.1") == 0x0000
            scu.send(Abort(AbortReason.SERVICE_USER))
        for number in range(1, 6):
            assert ask_and_abort(served.port, "FLOOD", f"1.2.{number}", log, number) == 0x0000
        assert transactions_of(served) == {"1.1", "1.2.4", "1.2.5"}
    assert log.events.count("commitment_dropped") == 3


def test_unanswered_requests_of_one_peer_shut_out_nobody(tmp_path: Path, log: Log) -> None:
    """All requests of the flood have an association, so that none may be dropped."""
    keeper = Keeper()
    keeper.may_look.clear()
    limits = CommitmentLimits(pending_commitments=100, pending_commitments_per_ae_title=5)
    with (
        serving(keeper, tmp_path, commitment_limits=limits) as served,
        SCU(served.port, "FLOOD") as flood,
        SCU(served.port, "HONEST", local="127.0.0.2") as honest,
    ):
        statuses = [flood.ask(f"1.2.{number}", "1.2.1") for number in range(8)]
        assert statuses == [0x0000] * 5 + [0x0213] * 3
        assert honest.ask("1.3", "1.2.1") == 0x0000
        keeper.may_look.set()
        assert expect_report(honest) == (1, result("1.3", "1.2.1"))
    assert log.events.count("commitment_limit_reached") == 3


@pytest.mark.parametrize(
    "limits",
    [
        CommitmentLimits(pending_commitments_per_address=2),
        CommitmentLimits(pending_commitments_per_ae_title=2),
        CommitmentLimits(pending_references_per_address=4),
        CommitmentLimits(pending_references_per_address=5),
        CommitmentLimits(pending_references_per_ae_title=4),
        CommitmentLimits(pending_references_per_ae_title=5),
    ],
)
def test_each_quota_refuses_temporarily(tmp_path: Path, limits: CommitmentLimits, answering_later: Keeper) -> None:
    with serving(answering_later, tmp_path, commitment_limits=limits) as served, SCU(served.port) as scu:
        statuses = [scu.ask(f"1.2.{number}", "1.3.1", "1.3.2") for number in range(3)]
        assert statuses == [0x0000, 0x0000, 0x0213]
        answering_later.may_look.set()
        assert len({expect_report(scu)[1].transaction_uid for _ in range(2)}) == 2


def test_a_request_that_never_fits_drops_no_other(tmp_path: Path, log: Log) -> None:
    limits = CommitmentLimits(pending_references=2)
    with serving(Keeper(), tmp_path, commitment_limits=limits) as served:
        assert ask_and_abort(served.port, "ONE", "1.2.1", log, 1) == 0x0000
        with SCU(served.port) as scu:
            assert scu.ask("1.2.2", "1.3.1", "1.3.2", "1.3.3") == 0x0213
        assert transactions_of(served) == {"1.2.1"}


def test_a_request_cleared_by_hand_is_forgotten(tmp_path: Path, log: Log) -> None:
    with serving(Keeper(), tmp_path) as served:
        assert ask_and_abort(served.port, "SCRIPTED", "1.2.1", log, 1) == 0x0000
        for path in served.kept():
            path.unlink()
        with SCU(served.port) as scu:
            assert scu.ask("1.2.1", "1.2.1") == 0x0000
            assert expect_report(scu) == (1, result("1.2.1", "1.2.1"))


def test_a_request_cleared_while_it_is_checked_gets_no_report(tmp_path: Path, log: Log) -> None:
    """Nor does it count any more."""
    keeper = Keeper()
    keeper.may_look.clear()
    limits = CommitmentLimits(pending_commitments=1)
    with serving(keeper, tmp_path, commitment_limits=limits) as served, SCU(served.port) as scu:
        assert scu.ask("1.2.3", "1.2.1") == 0x0000
        assert scu.ask("1.2.4", "1.2.1") == 0x0213
        for path in served.kept():
            path.unlink()
        keeper.may_look.set()
        while scu.ask("1.2.4", "1.2.1") == 0x0213:
            pass
        assert expect_report(scu) == (1, result("1.2.4", "1.2.1"))
    assert {"commitment_failed", "commitment_dropped"}.isdisjoint(log.events)


# Turns.


def test_a_long_request_does_not_delay_those_of_other_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicomport.commitment.scp._REFERENCES_IN_A_TURN", 10)
    monkeypatch.setattr("dicomport.commitment.scp._LOOKUPS", 1)
    keeper = Keeper()
    keeper.may_look.clear()
    with serving(keeper, tmp_path) as served, SCU(served.port) as long, SCU(served.port, local="127.0.0.2") as short:
        assert long.ask("1.2.3", *(f"1.2.{number}" for number in range(100))) == 0x0000
        assert short.ask("1.2.4", "1.3.1") == 0x0000
        keeper.may_look.set()
        assert expect_report(short) == (1, result("1.2.4", "1.3.1"))
        assert expect_report(long)[0] == 1
    assert [len(asked) for asked in keeper.asked].count(10) == 10
    assert keeper.asked.index(("1.3.1",)) <= 2


def test_a_repeated_reference_is_looked_up_once(tmp_path: Path) -> None:
    keeper = Keeper()
    with serving(keeper, tmp_path) as served, SCU(served.port) as scu:
        assert scu.ask("1.2.3", *["1.2.1"] * 1000, "1.2.2") == 0x0000
        assert expect_report(scu) == (1, result("1.2.3", "1.2.1", "1.2.2"))
    assert keeper.asked == [("1.2.1", "1.2.2")]


# The end.


def test_the_end_waits_for_the_answer_to_a_report(tmp_path: Path) -> None:
    listener = Listener()
    listener.may_answer.clear()
    with ScriptedSCP(listener) as peer, serving(Keeper(), tmp_path, port=peer.port) as served:
        ask_and_go(served.port, "1.2.3", "1.2.1")
        assert listener.begun.wait(TIMEOUT)

        def answer_once_it_ends() -> None:
            while served.scp._listener is not None:
                threading.Event().wait(0.01)
            listener.may_answer.set()

        threading.Thread(target=answer_once_it_ends).start()
    assert served.kept() == []


def test_a_report_without_an_answer_ends_with_the_time_to_stop(tmp_path: Path) -> None:
    """The time is that of the whole server: not of each association, and then again of each report."""
    listener = Listener()
    listener.may_answer.clear()

    async def stop_while_reporting(port: int) -> None:
        commitment = CommitmentSCP(
            Keeper(), tmp_path, report_to={"SCRIPTED": Address("127.0.0.1", port)}, timeouts=Timeouts(shutdown=HOUR)
        )
        async with StorageSCP(Recorder(), port=0, commitment=commitment, timeouts=Timeouts(shutdown=HOUR)) as scp:
            await asyncio.to_thread(ask_and_go, scp.port, "1.2.3", "1.2.1")
            with await asyncio.to_thread(SCU, scp.port):
                assert await asyncio.to_thread(listener.begun.wait, TIMEOUT)
                await asyncio.wait_for(scp.stop(within=0.1), TIMEOUT)

    with ScriptedSCP(listener) as peer:
        asyncio.run(stop_while_reporting(peer.port))
        listener.may_answer.set()
    assert len(list(tmp_path.rglob("*.json"))) == 1


def test_an_answer_in_the_moment_of_the_end_counts(tmp_path: Path) -> None:
    for _ in range(10):
        with serving(Keeper(), tmp_path) as served:
            scu = SCU(served.port)
            assert scu.ask("1.2.3", "1.2.1") == 0x0000
            expect_report(scu)
        scu.close()
        assert served.kept() == []


def test_titles_are_checked(tmp_path: Path) -> None:
    for options in ({"ae_title": "A" * 17}, {"report_to": {"": Address("127.0.0.1", 104)}}):
        with pytest.raises(ValueError, match="AE title"):
            CommitmentSCP(Keeper(), tmp_path, **options)


def test_an_unusable_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Not a directory|File exists"), serving(Keeper(), tmp_path / "file"):
        pass

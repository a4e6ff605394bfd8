"""DIMSE-N beside storage: requests are performed, and notifications are sent between operations (PS3.7 10)."""

import asyncio
import contextlib
import logging
import queue
import ssl
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
import trustme
from tests.core.messages import p_data, pdv
from tests.scp.storages import Recorder

from dicomport import Limits, Sink, Status, StorageSCP, StoreOperation
from dicomport.files import MemoryBudget
from dicomport.scp import NormalizedOperation
from dicomport.scp.dimse_n import SHORT_BYTES, DataSetMemory
from dicomport.testing import ScriptedSCU, association_request, encode_message
from dicomport.wire import (
    Abort,
    AbortReason,
    AssociateAC,
    CStoreRSP,
    NActionRQ,
    NActionRSP,
    NEventReportRQ,
    NEventReportRSP,
    ReleaseRP,
    ReleaseRQ,
    RoleSelection,
    UserInformation,
)

T = TypeVar("T")

SOP_CLASS: Final = "1.2.840.10008.1.20.1"
INSTANCE: Final = "1.2.840.10008.1.20.1.1"
CT: Final = "1.2.840.10008.5.1.4.1.1.2"
STORE: Final = 1
"""The context of CT Image Storage, in `associated`."""
NORMALIZED: Final = 3
"""The context of the SOP Class that is served."""
TIMEOUT: Final = 30.0
DATA: Final = b"\x08\x00\x05\x00\x0a\x00\x00\x00ISO_IR 100"


class Service:
    """Performs with a function, and hands the operations to the test's thread."""

    sop_classes: Final = (SOP_CLASS,)

    def __init__(self, perform: Callable[[NormalizedOperation], Status], *, is_user: bool = False) -> None:
        self.is_user = is_user
        self.operations: queue.SimpleQueue[NormalizedOperation] = queue.SimpleQueue()
        self.calls: list[str] = []
        self._perform = perform
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        self.calls.append("start")
        self._loop = asyncio.get_running_loop()

    async def stop(self, within: float) -> None:
        self.within = within
        self.calls.append("stop")

    async def perform(self, operation: NormalizedOperation) -> Status:
        status = self._perform(operation)
        self.operations.put(operation)
        return status

    def run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run something in the server's event loop."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def notify(self, operation: NormalizedOperation, data: bytes = b"", event_type: int = 1) -> Future[Status | None]:
        return self.run(operation.notify(event_type, data))


def succeed(_operation: NormalizedOperation) -> Status:
    return Status(0x0000)


class Announcing(Recorder):
    """Sets an event at the beginning of an instance."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    async def begin(self, operation: StoreOperation) -> Sink | Status:
        self.begun.set()
        return await super().begin(operation)


@pytest.fixture
def service() -> Service:
    return Service(succeed)


@pytest.fixture
def scp(service: Service) -> Iterator[StorageSCP]:
    with StorageSCP(Recorder(), port=0, commitment=service).in_thread() as running:
        yield running


@contextlib.contextmanager
def associated(scp: StorageSCP, tls: ssl.SSLContext | None = None) -> Iterator[ScriptedSCU]:
    with ScriptedSCU("127.0.0.1", scp.port, tls=tls) as peer:
        peer.associate(CT, SOP_CLASS)
        yield peer


def action(message_id: int = 7, **changed: Any) -> NActionRQ:
    values: dict[str, Any] = {
        "has_data_set": True,
        "message_id": message_id,
        "requested_sop_class_uid": SOP_CLASS,
        "requested_sop_instance_uid": INSTANCE,
        "action_type_id": 1,
    }
    return NActionRQ(**values | changed)


def act(peer: ScriptedSCU, service: Service) -> NormalizedOperation:
    """Request an action, and return the operation after its response."""
    peer.send_message(NORMALIZED, action(), DATA)
    assert peer.expect(NActionRSP).command.status == 0x0000
    return service.operations.get(timeout=TIMEOUT)


def test_an_action_is_performed_and_answered() -> None:
    service = Service(lambda _operation: Status(0x0115, "not so"))
    with StorageSCP(Recorder(), port=0, commitment=service).in_thread() as scp, associated(scp) as peer:
        peer.send_message(NORMALIZED, action(7), DATA)
        response = peer.expect(NActionRSP).command
        peer.release()
    assert response == NActionRSP(
        message_id_being_responded_to=7,
        affected_sop_class_uid=SOP_CLASS,
        affected_sop_instance_uid=INSTANCE,
        status=0x0115,
        error_comment="not so",
    )
    operation = service.operations.get_nowait()
    assert (operation.data, operation.command) == (DATA, action(7))
    assert operation.association.calling_ae_title == "SCRIPTED"
    assert operation.context.abstract_syntax == SOP_CLASS
    assert service.calls == ["start", "stop"]


def test_an_event_report_is_performed_and_answered(scp: StorageSCP, service: Service) -> None:
    report = NEventReportRQ(
        message_id=9, affected_sop_class_uid=SOP_CLASS, affected_sop_instance_uid=INSTANCE, event_type_id=2
    )
    with associated(scp) as peer:
        peer.send_message(NORMALIZED, report)
        assert peer.expect(NEventReportRSP).command == NEventReportRSP(
            message_id_being_responded_to=9,
            affected_sop_class_uid=SOP_CLASS,
            affected_sop_instance_uid=INSTANCE,
            status=0,
        )
        operation = service.operations.get(timeout=TIMEOUT)
        assert (operation.command, operation.data) == (report, b"")


def test_an_exception_is_answered_and_the_association_stays_open(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_operation: NormalizedOperation) -> Status:
        raise RuntimeError("some bug")

    service = Service(fail)
    with StorageSCP(Recorder(), port=0, commitment=service).in_thread() as scp, associated(scp) as peer:
        peer.send_message(NORMALIZED, action(), DATA)
        response = peer.expect(NActionRSP).command
        assert (response.status, response.error_comment) == (0x0110, "")
        assert peer.store("1.2.3", DATA).status == 0x0000
    errors = [entry.getMessage().split()[0] for entry in caplog.records if entry.levelno >= logging.ERROR]
    assert errors == ["request_failed"]


def test_a_data_set_that_is_too_long_is_refused_and_not_kept(service: Service) -> None:
    limits = Limits(dimse_n_bytes=100_000)
    with StorageSCP(Recorder(), port=0, commitment=service, limits=limits).in_thread() as scp, associated(scp) as peer:
        peer.send_message(NORMALIZED, action(), bytes(100_002))
        assert peer.expect(NActionRSP).command.status == 0x0213
        peer.send_message(NORMALIZED, action(), bytes(100_000))
        assert peer.expect(NActionRSP).command.status == 0x0000
    assert len(service.operations.get_nowait().data) == 100_000
    assert service.operations.empty()


@pytest.mark.parametrize(("size", "held"), [(SHORT_BYTES, 0), (SHORT_BYTES + 1, 4 * (SHORT_BYTES + 1))])
def test_the_memory_for_a_long_data_set_is_counted_while_it_is_held(size: int, held: int) -> None:
    async def hold() -> tuple[int, int]:
        budget = MemoryBudget()
        async with DataSetMemory(budget, 1 << 20).held("127.0.0.1", size):
            inside = budget.held
        return inside, budget.held

    assert asyncio.run(hold()) == (held, 0)


def test_a_data_set_that_cannot_be_held_is_refused(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with StorageSCP(Recorder(), port=0, commitment=service).in_thread() as scp, associated(scp) as peer:
        peer.send_message(NORMALIZED, action(), bytes(SHORT_BYTES + 2))
        assert peer.expect(NActionRSP).command.status == 0x0213
        monkeypatch.undo()
        act(peer, service)
    assert "data_set_not_held address=127.0.0.1" in caplog.text
    assert 'reason="No such file or directory"' in caplog.text


def test_an_endless_data_set_is_aborted(service: Service) -> None:
    limits = Limits(dimse_n_bytes=1 << 16, drained_bytes=1 << 16)
    part = p_data(pdv(NORMALIZED, 0, bytes(1 << 16)))
    with StorageSCP(Recorder(), port=0, commitment=service, limits=limits).in_thread() as scp, associated(scp) as peer:
        peer.send(peer.encode_message(NORMALIZED, action(), None), part, part)
        assert peer.silent
        peer.send(p_data(pdv(NORMALIZED, 0, b"12")))
        peer.expect(Abort)
    assert scp.counters == {"limit.drained_bytes": 1}
    assert service.operations.empty()


def test_other_contexts_take_no_action(scp: StorageSCP, service: Service) -> None:
    with associated(scp) as peer:
        peer.send_message(STORE, action(), DATA)
        assert peer.expect(NActionRSP).command.status == 0x0211
        assert peer.store("1.2.3", DATA, context_id=STORE).status == 0x0000
    assert service.operations.empty()


def test_nothing_is_stored_on_its_context(scp: StorageSCP) -> None:
    with associated(scp) as peer:
        assert peer.store("1.2.3", DATA, context_id=NORMALIZED).status == 0x0122


def test_without_a_service_its_context_is_refused() -> None:
    with StorageSCP(Recorder(), port=0).in_thread() as scp, associated(scp) as peer:
        assert list(peer.contexts) == [STORE]


@pytest.mark.parametrize("is_user", [False, True])
def test_the_scp_role_is_negotiated(*, is_user: bool) -> None:
    service = Service(succeed, is_user=is_user)
    request = association_request(SOP_CLASS, CT)
    roles = tuple(RoleSelection(uid, scu=True, scp=True) for uid in (SOP_CLASS, CT))
    items = UserInformation(maximum_length=16384, implementation_class_uid="1.2.3", roles=roles)
    with (
        StorageSCP(Recorder(), port=0, commitment=service).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as peer,
    ):
        peer.send(
            type(request)(
                called_ae_title="X",
                calling_ae_title="Y",
                presentation_contexts=request.presentation_contexts,
                user_information=items,
            )
        )
        assert peer.expect(AssociateAC).user_information.roles == (
            RoleSelection(SOP_CLASS, scu=not is_user, scp=is_user),
            RoleSelection(CT, scu=True, scp=False),
        )


# Notifications.


def report_of(message_id: int, event_type: int = 1) -> NEventReportRQ:
    return NEventReportRQ(
        has_data_set=True,
        message_id=message_id,
        affected_sop_class_uid=SOP_CLASS,
        affected_sop_instance_uid=INSTANCE,
        event_type_id=event_type,
    )


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
def test_a_notification_reaches_a_peer_without_requests(service: Service, *, encrypted: bool) -> None:
    server, client = contexts() if encrypted else (None, None)
    with (
        StorageSCP(Recorder(), port=0, commitment=service, tls=server).in_thread() as scp,
        associated(scp, client) as peer,
    ):
        operation = act(peer, service)
        for number, status in ((1, 0x0000), (2, 0x0112)):
            answer = service.notify(operation, DATA * number, event_type=number)
            report = peer.expect(NEventReportRQ)
            assert (report.context_id, report.command) == (NORMALIZED, report_of(number, number))
            assert report.data == DATA * number
            peer.answer(report, status)
            assert answer.result(TIMEOUT) == Status(status)
        assert peer.store("1.2.3", DATA).status == 0x0000
        peer.release()


def test_a_notification_never_comes_before_the_answer_to_its_request() -> None:
    answers: list[Future[Status | None]] = []
    service = Service(succeed)

    def perform(operation: NormalizedOperation) -> Status:
        answers.append(service.notify(operation, DATA))
        return Status(0x0000)

    service._perform = perform
    with StorageSCP(Recorder(), port=0, commitment=service).in_thread() as scp, associated(scp) as peer:
        peer.send_message(NORMALIZED, action(), DATA)
        peer.expect(NActionRSP)
        peer.answer(peer.expect(NEventReportRQ))
        assert answers[0].result(TIMEOUT) == Status(0x0000)


def test_a_notification_waits_for_the_end_of_a_message(service: Service) -> None:
    storage = Announcing()
    with StorageSCP(storage, port=0, commitment=service).in_thread() as scp, associated(scp) as peer:
        operation = act(peer, service)
        store = peer.encode_store("1.2.3", bytes(1000))
        peer.send(store[:-500])
        assert storage.begun.wait(TIMEOUT)
        answer = service.notify(operation, DATA)
        service.run(asyncio.sleep(0)).result(TIMEOUT)
        peer.send(store[-500:])
        assert peer.expect(CStoreRSP).command.status == 0x0000
        peer.answer(peer.expect(NEventReportRQ))
        assert answer.result(TIMEOUT) == Status(0x0000)


def test_notifications_go_one_after_the_other(scp: StorageSCP, service: Service) -> None:
    with associated(scp) as peer:
        operation = act(peer, service)
        answers = [service.notify(operation, DATA * number) for number in (1, 2, 3)]
        for number in (1, 2, 3):
            report = peer.expect(NEventReportRQ)
            assert (report.command.message_id, report.data) == (number, DATA * number)
            # In between, the peer asks for something itself.
            assert peer.store(f"1.2.{number}", DATA).status == 0x0000
            peer.answer(report)
        assert [answer.result(TIMEOUT) for answer in answers] == [Status(0x0000)] * 3


def ends() -> dict[str, Callable[[ScriptedSCU], object]]:
    def release(peer: ScriptedSCU) -> None:
        peer.send(ReleaseRQ())
        peer.expect(ReleaseRP)

    return {
        "release": release,
        "abort": lambda peer: peer.send(Abort(AbortReason.SERVICE_USER)),
        "loss": lambda peer: peer.reset(),
        "garbage": lambda peer: peer.send(b"GET / HTTP/1.1\r\n"),
    }


@pytest.mark.parametrize("end", ends().values(), ids=ends())
def test_the_end_of_the_association_is_reported(
    scp: StorageSCP, service: Service, end: Callable[[ScriptedSCU], object]
) -> None:
    with associated(scp) as peer:
        operation = act(peer, service)
        answers = [service.notify(operation, DATA), service.notify(operation, DATA)]
        peer.expect(NEventReportRQ)
        end(peer)
        assert [answer.result(TIMEOUT) for answer in answers] == [None, None]
    assert service.notify(operation, DATA).result(TIMEOUT) is None


def test_the_end_of_the_server_is_reported(service: Service) -> None:
    with StorageSCP(Recorder(), port=0, commitment=service).in_thread() as scp, associated(scp) as peer:
        operation = act(peer, service)
        answer = service.notify(operation, DATA)
        peer.expect(NEventReportRQ)
        service.run(scp.stop())
        peer.expect(Abort)
        assert answer.result(TIMEOUT) is None


def test_an_unexpected_response_is_ignored(scp: StorageSCP, service: Service) -> None:
    async def give_up(operation: NormalizedOperation) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await operation.notify(1, DATA)

    with associated(scp) as peer:
        operation = act(peer, service)
        service.run(give_up(operation)).result(TIMEOUT)
        late = peer.expect(NEventReportRQ)
        answer = service.notify(operation, DATA)
        second = peer.expect(NEventReportRQ)
        peer.answer(late, 0x0110)
        peer.answer(second)
        assert answer.result(TIMEOUT) == Status(0x0000)
        assert peer.store("1.2.3", DATA).status == 0x0000
        peer.release()
    assert scp.counters["deviation.unexpected-response"] == 1


def test_an_answer_may_have_a_data_set(scp: StorageSCP, service: Service) -> None:
    with associated(scp) as peer:
        operation = act(peer, service)
        answer = service.notify(operation, DATA)
        report = peer.expect(NEventReportRQ)
        response = NEventReportRSP(
            has_data_set=True, message_id_being_responded_to=report.command.message_id, status=0, event_type_id=1
        )
        peer.send(encode_message(NORMALIZED, response, bytes(1000)))
        assert answer.result(TIMEOUT) == Status(0x0000)
        assert peer.store("1.2.3", DATA).status == 0x0000


def test_a_peer_that_does_not_read_delays_no_other(service: Service) -> None:
    with (
        StorageSCP(Recorder(), port=0, commitment=service).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port, receive_buffer=4096) as peer,
    ):
        peer.associate(CT, SOP_CLASS)
        operation = act(peer, service)
        answer = service.notify(operation, bytes(8_000_000))
        with associated(scp) as other:
            assert other.store("1.2.4", DATA).status == 0x0000
        report = peer.expect(NEventReportRQ)
        assert report.data == bytes(8_000_000)
        peer.answer(report)
        assert answer.result(TIMEOUT) == Status(0x0000)

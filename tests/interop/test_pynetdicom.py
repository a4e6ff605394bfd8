"""pynetdicom as the peer, on both sides: it decodes the negotiation, so the tests can check that too."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import pydicom
import pynetdicom
import pytest
from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from pynetdicom.pdu import A_ASSOCIATE_RJ, A_RELEASE_RQ
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import PresentationContext
from tests.interop.conftest import (
    HOST,
    ONE_BY_ONE,
    TEST_FILES,
    Copies,
    Recorder,
    contexts_for,
    copies_of,
    copy_of,
    paths,
    sendable,
)

import dicomport
from dicomport import AbortedError, RejectedError, Status, StorageSCP, Timeouts, TimerExpiredError, wire
from dicomport.files import read_part10
from dicomport.scu import Instance
from dicomport.scu.inputs.locations import FileRegion
from dicomport.standard import VERIFICATION
from dicomport.wire import RejectReason

pytestmark = [
    pytest.mark.timeout(60),
    # If the peer closes first, pynetdicom drops its socket without closing it.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning:pynetdicom.transport"),
]

CT: Final = TEST_FILES / "CT_small.dcm"
MR: Final = TEST_FILES / "MR_small.dcm"
CT_CLASS: Final = "1.2.840.10008.5.1.4.1.1.2"
MR_CLASS: Final = "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
IMPLICIT: Final = "1.2.840.10008.1.2"
CONTEXTS: Final = [(CT_CLASS, EXPLICIT), (MR_CLASS, EXPLICIT), (VERIFICATION, IMPLICIT)]
SOON: Final = 10.0
"""Timeout for the report of another thread, seconds."""


def pairs() -> list[tuple[str, str]]:
    """Return the contexts for all of pydicom's files, and one for verification."""
    return [*contexts_for(sendable()), (VERIFICATION, IMPLICIT)]


def part10_files() -> list[Instance]:
    """Return the instances whose files have a header, which pynetdicom requires."""
    return [instance for instance in sendable() if isinstance(instance.source, FileRegion) and instance.source.offset]


def contexts_of(wanted: list[tuple[str, str]]) -> list[PresentationContext]:
    return [build_context(abstract_syntax, transfer_syntax) for abstract_syntax, transfer_syntax in wanted]


# pynetdicom to us.


@contextlib.contextmanager
def associated(
    scp: StorageSCP, wanted: list[tuple[str, str]] = CONTEXTS, *, max_pdu: int = 16382, **options: Any
) -> Iterator[Association]:
    """Open an association with pynetdicom. It is released at the end if it is still open."""
    entity = AE(ae_title="PYNETDICOM")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = SOON
    association = entity.associate(HOST, scp.port, contexts_of(wanted), max_pdu=max_pdu, **options)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        if association.ident is not None:  # It has a thread once it is accepted.
            association.join(SOON)
        assert not association.is_alive()


class Gate(threading.Event):
    """A barrier that holds pynetdicom's reactor until `pass_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.reached.set()
        return super().wait(timeout)

    def set(self) -> None:
        """Do nothing: pynetdicom calls this too early."""

    def pass_on(self) -> None:
        super().set()


@contextlib.contextmanager
def undisturbed(association: Association) -> Iterator[None]:
    """Stop the reactor while a response is awaited.

    pynetdicom tries to do so itself, but sometimes its reactor is still running, consumes the response
    ("Received unexpected C-STORE service message"), and the waiting call times out.
    """
    gate, before = Gate(), association._reactor_checkpoint
    association._reactor_checkpoint = gate
    try:
        assert gate.reached.wait(SOON)
        yield
    finally:
        association._reactor_checkpoint = before
        gate.pass_on()


def store(association: Association, what: pydicom.Dataset | Path) -> pydicom.Dataset:
    with undisturbed(association):
        return association.send_c_store(what)


def echo(association: Association) -> pydicom.Dataset:
    with undisturbed(association):
        return association.send_c_echo()


# One of pydicom's files has another VR encoding than its header; pydicom warns, and pynetdicom corrects it.
@pytest.mark.filterwarnings("ignore:Expected explicit VR, but found implicit VR:UserWarning")
@pytest.mark.parametrize("maximum_length", [128, 16382, 0])
def test_instances_encoded_by_pynetdicom_arrive(maximum_length: int) -> None:
    recorder = Recorder()
    expected: Copies = Counter()
    with (
        StorageSCP(recorder, port=0, maximum_length=maximum_length).in_thread() as scp,
        associated(scp, pairs(), max_pdu=maximum_length) as association,
    ):
        assert association.acceptor.maximum_length == maximum_length
        for path in paths(part10_files()):
            dataset = pydicom.dcmread(path)
            try:
                status = store(association, dataset)
            except (AttributeError, ValueError):
                continue  # It cannot send a data set without UIDs or one that it cannot encode.
            assert status.Status == 0x0000
            implicit = dataset.original_encoding == (True, True)
            syntax = ImplicitVRLittleEndian if implicit else dataset.file_meta.TransferSyntaxUID
            data_set = encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
            assert data_set is not None
            expected[copy_of(dataset.SOPInstanceUID, syntax, data_set)] += 1
        assert echo(association).Status == 0x0000
        association.release()
        assert association.is_released
    assert expected.total() > 140
    assert recorder.copies == expected


@pytest.mark.parametrize("maximum_length", [128, 0])
def test_instances_sent_by_pynetdicom_in_chunks_arrive(monkeypatch: pytest.MonkeyPatch, maximum_length: int) -> None:
    """So it sends the bytes of the file, as we do, but with the UIDs of file meta."""
    monkeypatch.setattr(pynetdicom._config, "STORE_SEND_CHUNKED_DATASET", True)
    recorder = Recorder()
    sent = []
    with (
        StorageSCP(recorder, port=0, maximum_length=maximum_length).in_thread() as scp,
        associated(scp, pairs()) as association,
    ):
        for instance in part10_files():
            # It does not pad the deflated one.
            if instance.path is not None and instance.size % 2 == 0:
                with contextlib.suppress(AttributeError):  # Not all UIDs are in the File Meta Information.
                    assert store(association, instance.path).Status == 0x0000
                    uid = read_part10(instance.path).meta.media_storage_sop_instance_uid
                    sent.append(dataclasses.replace(instance, sop_instance_uid=uid))
    assert len(sent) > 140
    assert recorder.copies == copies_of(sent)
    assert len(recorder.associations) == 1


def test_an_odd_fragment_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading in chunks, pynetdicom sends a deflated stream of odd length as it is, against PS3.5 A.5."""
    monkeypatch.setattr(pynetdicom._config, "STORE_SEND_CHUNKED_DATASET", True)
    (odd,) = (instance for instance in sendable() if instance.size % 2)
    received: list[int] = []

    def handle(request: dicomport.StoreRequest) -> int:
        received.append(request.size)
        return 0x0000

    assert odd.path is not None
    with StorageSCP(handle, port=0).in_thread() as scp, associated(scp, pairs()) as association:
        assert store(association, odd.path).Status == 0x0000
    assert received == [odd.size]


def test_many_pynetdicoms_at_once() -> None:
    recorder = Recorder()
    with StorageSCP(recorder, port=0).in_thread() as scp, contextlib.ExitStack() as stack:
        associations = [stack.enter_context(associated(scp)) for _ in range(8)]
        for path in (CT, MR):
            assert [store(association, path).Status for association in associations] == [0x0000] * 8
    assert recorder.copies.total() == 16
    assert len(recorder.associations) == 8


def test_everything_that_can_be_negotiated() -> None:
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = 5
    window.maximum_number_operations_performed = 3
    extended = SOPClassExtendedNegotiation()
    extended.sop_class_uid = UID(CT_CLASS)
    extended.service_class_application_information = b"\x02\x00\x03\x00\x01\x00"
    common = SOPClassCommonExtendedNegotiation()
    common.sop_class_uid = UID(CT_CLASS)
    common.service_class_uid = UID("1.2.840.10008.4.2")
    identity = UserIdentityNegotiation()
    identity.user_identity_type = 2
    identity.primary_field = b"somebody"
    identity.secondary_field = b"secret"
    roles = [build_role(CT_CLASS, scu_role=True, scp_role=True), build_role(MR_CLASS, scu_role=True, scp_role=False)]
    recorder = Recorder()
    with (
        StorageSCP(recorder, port=0).in_thread() as scp,
        associated(scp, ext_neg=[window, extended, common, identity, *roles]) as association,
    ):
        assert association.is_established
        acceptor = association.acceptor
        assert acceptor.asynchronous_operations == (5, 1)
        assert acceptor.sop_class_extended == {CT_CLASS: b"\x02\x00\x03\x00\x00\x00"}
        answered = {uid: (role.scu_role, role.scp_role) for uid, role in acceptor.role_selection.items()}
        assert answered == {CT_CLASS: (True, False), MR_CLASS: (True, False)}
        # The identity is not checked, so there is no positive response (PS3.7 D.3.3.7).
        assert acceptor.user_identity is None
        assert store(association, CT).Status == 0x0000
        assert store(association, MR).Status == 0x0000
        assert echo(association).Status == 0x0000
    assert recorder.copies.total() == 2


def test_a_private_class_that_is_said_to_be_storage() -> None:
    private, other = "1.2.826.0.1.3680043.9.3811.99", "1.2.826.0.1.3680043.9.3811.98"
    kinds = []
    for uid, service in ((private, "1.2.840.10008.4.2"), (other, "1.2.840.10008.4.1")):
        kind = SOPClassCommonExtendedNegotiation()
        kind.sop_class_uid = UID(uid)
        kind.service_class_uid = UID(service)
        kinds.append(kind)
    with (
        StorageSCP(Recorder(), port=0).in_thread() as scp,
        associated(scp, [(private, EXPLICIT), (other, EXPLICIT)], ext_neg=kinds) as association,
    ):
        assert [context.abstract_syntax for context in association.accepted_contexts] == [private]
        (rejected,) = association.rejected_contexts
        assert (rejected.abstract_syntax, rejected.result) == (other, 3)


@pytest.mark.parametrize("code", [0x0000, 0xA700, 0xB000, 0xC123])
def test_our_status_arrives_with_its_elements(code: int) -> None:
    verdict = pydicom.Dataset()
    verdict.Status = code
    verdict.ErrorComment = "the reason why"
    verdict.OffendingElement = [0x00080016, 0x00080018]
    with StorageSCP(Recorder(verdict), port=0).in_thread() as scp, associated(scp) as association:
        status = store(association, CT)
    assert status.Status == code
    assert status.ErrorComment == "the reason why"
    assert list(status.OffendingElement) == [0x00080016, 0x00080018]


@pytest.mark.parametrize("called", ["US", "NOT US"])
def test_our_rejection_is_understood(called: str) -> None:
    # The test checks the PDU: if it arrives that early, pynetdicom may treat the following end of the connection as a
    # failed connection, and report the association as aborted.
    rejections: list[tuple[int | None, ...]] = []

    def hear(event: Any) -> None:
        if isinstance(event.pdu, A_ASSOCIATE_RJ):
            rejections.append((event.pdu.result, event.pdu.source, event.pdu.reason_diagnostic))

    recorder = Recorder()
    scp = StorageSCP(recorder, port=0, ae_title="US", check_called_ae_title=True)
    handlers = [(evt.EVT_PDU_RECV, hear)]
    with scp.in_thread(), associated(scp, ae_title=called, evt_handlers=handlers) as association:
        if called == "US":
            assert store(association, CT).Status == 0x0000
        assert association.is_established is (called == "US")
    assert rejections == ([] if called == "US" else [(1, 1, 7)])
    assert recorder.copies.total() == (called == "US")


def test_its_abort_costs_nothing_that_was_stored() -> None:
    recorder = Recorder()
    with StorageSCP(recorder, port=0).in_thread() as scp:
        with associated(scp) as association:
            assert store(association, CT).Status == 0x0000
            association.abort()
        with associated(scp) as association:
            assert store(association, MR).Status == 0x0000
            association.release()
            assert association.is_released
    assert recorder.copies.total() == 2


def test_our_stop_aborts_an_idle_association() -> None:
    aborted = threading.Event()
    with contextlib.ExitStack() as running:
        scp = running.enter_context(StorageSCP(Recorder(), port=0).in_thread())
        handlers = [(evt.EVT_ABORTED, lambda _: aborted.set())]
        with associated(scp, evt_handlers=handlers) as association:
            assert store(association, CT).Status == 0x0000
            running.close()
            assert aborted.wait(SOON)
            association.join(SOON)
            assert association.is_aborted


# Us to pynetdicom.

Bound: TypeAlias = list[evt.EventHandlerType]


@contextlib.contextmanager
def serving(
    *handlers: tuple[evt.EventType, Callable[[Any], Any]],
    wanted: list[tuple[str, str]] = CONTEXTS,
    roles: Mapping[str, tuple[bool, bool]] = MappingProxyType({}),
    **attributes: Any,
) -> Iterator[int]:
    """Start pynetdicom as a listener, and return the port. The attributes configure its AE."""
    entity = AE(ae_title="PYNETDICOM")
    for name, value in attributes.items():
        setattr(entity, name, value)
    bound: Bound = list(handlers)
    # In a context with several syntaxes it would choose by its own order.
    contexts = []
    for abstract_syntax in dict(wanted):
        syntaxes = [transfer_syntax for uid, transfer_syntax in wanted if uid == abstract_syntax]
        context = build_context(abstract_syntax, syntaxes)
        context.scu_role, context.scp_role = roles.get(abstract_syntax, (None, None))
        contexts.append(context)
    server = entity.start_server((HOST, 0), block=False, evt_handlers=bound, contexts=contexts)
    assert server is not None
    try:
        yield server.server_address[1]
    finally:
        # An association that waits for the end of its connection must not be aborted: it would raise in its thread.
        for association in entity.active_associations:
            association.join(SOON)
        entity.shutdown()


class Received:
    """A handler for pynetdicom that records each instance."""

    def __init__(self) -> None:
        self.copies: Copies = Counter()

    def __call__(self, event: Any) -> int:
        request, data_set = event.request, event.encoded_dataset(include_meta=False)
        uid, syntax = request.AffectedSOPInstanceUID, event.context.transfer_syntax
        self.copies[copy_of(uid, syntax, data_set)] += 1
        return 0x0000


def answering(code: int, **elements: Any) -> Callable[[Any], pydicom.Dataset]:
    """Make a handler of pynetdicom's that answers with this status."""
    status = pydicom.Dataset()
    status.Status = code
    for keyword, value in elements.items():
        setattr(status, keyword, value)
    return lambda _: status


@pytest.mark.parametrize("maximum_length", [128, 0])
def test_every_file_arrives_as_it_is(maximum_length: int) -> None:
    received = Received()
    with serving((evt.EVT_C_STORE, received), wanted=pairs(), maximum_pdu_size=maximum_length) as port:
        report = dicomport.blocking.send(paths(sendable()), HOST, port)
    assert [(result.path, result.reason) for result in report.failed] == []
    assert report.associations in {1, 2}
    assert received.copies == copies_of(sendable())


def test_every_file_arrives_from_associations_of_either_kind() -> None:
    received = Received()

    async def store(port: int) -> None:
        async with dicomport.associate(HOST, port, contexts=pairs()) as association:
            assert (await association.c_echo()).code == 0x0000
            for instance in sendable():
                assert (await association.c_store(instance)).status.code == 0x0000

    with serving((evt.EVT_C_STORE, received), wanted=pairs()) as port:
        asyncio.run(store(port))
        with dicomport.blocking.associate(HOST, port, contexts=pairs()) as association:
            assert association.c_echo().code == 0x0000
            for instance in sendable():
                assert association.c_store(instance).status.code == 0x0000
    assert received.copies == copies_of(sendable() * 2)


def test_a_data_set_arrives_as_pydicom_encodes_it() -> None:
    received = Received()
    dataset = pydicom.dcmread(CT)
    with (
        serving((evt.EVT_C_STORE, received)) as port,
        dicomport.blocking.associate(HOST, port, contexts=CONTEXTS) as association,
    ):
        assert association.c_store(dataset).status.code == 0x0000
    data_set = encode(dataset, is_implicit_vr=False, is_little_endian=True)
    assert data_set is not None
    assert received.copies == Counter([copy_of(dataset.SOPInstanceUID, EXPLICIT, data_set)])


def test_the_rest_of_a_request_arrives() -> None:
    requests: list[Any] = []

    def handle(event: Any) -> int:
        requests.append(event.request)
        return 0x0000

    with (
        serving((evt.EVT_C_STORE, handle)) as port,
        dicomport.blocking.associate(HOST, port, contexts=CONTEXTS) as association,
    ):
        association.c_store(CT, priority=dicomport.Priority.HIGH)
        association.c_store(CT, move_originator_ae_title="MOVER", move_originator_message_id=7)
    plain, moved = requests
    assert (plain.Priority, plain.MoveOriginatorApplicationEntityTitle) == (1, None)
    assert (moved.Priority, moved.MoveOriginatorApplicationEntityTitle, moved.MoveOriginatorMessageID) == (
        0,
        "MOVER",
        7,
    )
    assert plain.MessageID != moved.MessageID


@pytest.mark.parametrize("code", [0xA700, 0xB000, 0xC123])
def test_its_status_arrives_with_its_elements(code: int) -> None:
    handler = answering(code, ErrorComment="the reason why", OffendingElement=[0x00080016, 0x00080018])
    with (
        serving((evt.EVT_C_STORE, handler)) as port,
        dicomport.blocking.associate(HOST, port, contexts=CONTEXTS) as association,
    ):
        response = association.c_store(CT)
        assert response.status == Status(code, "the reason why", (0x00080016, 0x00080018))
        assert response.status.accepted is (code == 0xB000)
        assert association.c_store(CT) == response  # the association lives on


def test_a_report_names_each_status() -> None:
    with serving((evt.EVT_C_STORE, answering(0xA700, ErrorComment="full"))) as port:
        report = dicomport.blocking.send([CT, MR], HOST, port, **ONE_BY_ONE)
    assert [result.status for result in report.results] == [Status(0xA700, "full")] * 2
    assert len(report.failed) == 2
    assert report.associations == 1


def test_its_abort_is_named() -> None:
    def handle(event: Any) -> int:
        event.assoc.abort()
        return 0x0000

    with serving((evt.EVT_C_STORE, handle)) as port:
        with (
            pytest.raises(AbortedError, match="the peer aborted the association") as caught,
            dicomport.blocking.associate(HOST, port, contexts=CONTEXTS) as association,
        ):
            association.c_store(CT)
        assert caught.value.aborted.by_peer
        assert not association.open
        report = dicomport.blocking.send([CT, MR], HOST, port, **ONE_BY_ONE)
    assert [result.status for result in report.results] == [None, None]
    assert all("the peer aborted the association" in result.reason for result in report.results)


@pytest.mark.parametrize("over", ["released", "aborted"])
def test_our_end_of_an_association_is_understood(over: str) -> None:
    ended = threading.Event()
    event = evt.EVT_RELEASED if over == "released" else evt.EVT_ABORTED
    with serving((evt.EVT_C_STORE, Received()), (event, lambda _: ended.set())) as port:
        with dicomport.blocking.associate(HOST, port, contexts=CONTEXTS) as association:
            assert association.c_store(CT).status.code == 0x0000
            if over == "aborted":
                association.abort()
        assert ended.wait(SOON)


def test_its_release_is_confirmed() -> None:
    """An acceptor may release as well, and expects its confirmation even where a request has just left."""
    asked = threading.Event()
    releasing: list[threading.Thread] = []

    def handle(event: Any) -> int:
        # Not from here: it waits until the handler is done.
        releasing.append(threading.Thread(target=event.assoc.release))
        return 0x0000

    def sent(event: Any) -> None:
        if isinstance(event.pdu, A_RELEASE_RQ):
            asked.set()

    with (
        serving((evt.EVT_C_STORE, handle), (evt.EVT_PDU_SENT, sent)) as port,
        dicomport.blocking.associate(HOST, port, contexts=CONTEXTS) as association,
    ):
        assert association.c_store(CT).status.code == 0x0000
        releasing[0].start()
        assert asked.wait(SOON)
        with pytest.raises(dicomport.ConnectionLostError, match="the peer released the association"):
            association.c_store(CT)
        assert not association.open
        releasing[0].join(SOON)
        assert not releasing[0].is_alive()


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"require_called_aet": True}, RejectReason.CALLED_AE_TITLE_NOT_RECOGNIZED),
        ({"require_calling_aet": ["FRIEND"]}, RejectReason.CALLING_AE_TITLE_NOT_RECOGNIZED),
    ],
)
def test_its_rejection_is_named(attributes: dict[str, Any], reason: RejectReason) -> None:
    received = Received()
    with serving((evt.EVT_C_STORE, received), **attributes) as port:
        with (
            pytest.raises(RejectedError, match=reason.meaning) as caught,
            dicomport.blocking.associate(HOST, port, contexts=CONTEXTS, called_ae_title="NOBODY"),
        ):
            pass
        assert caught.value.rejection.reason is reason
        assert not caught.value.rejection.transient
        report = dicomport.blocking.send(CT, HOST, port, called_ae_title="NOBODY")
        assert report.error == str(caught.value)
        report = dicomport.blocking.send(CT, HOST, port, called_ae_title="PYNETDICOM", ae_title="FRIEND")
        assert len(report.accepted) == 1


def test_a_full_peer_answers_out_of_resources() -> None:
    with (
        serving((evt.EVT_C_STORE, Received()), maximum_associations=1) as port,
        dicomport.blocking.associate(HOST, port, contexts=CONTEXTS) as association,
    ):
        report = dicomport.blocking.send(CT, HOST, port)
        assert report.associations == 0
        assert RejectReason.LOCAL_LIMIT_EXCEEDED.meaning in report.error
        assert "transient" in report.error
        assert association.c_store(CT).status.code == 0x0000


def test_an_answer_that_does_not_come() -> None:
    over = threading.Event()

    def handle(_: Any) -> int:
        over.wait(SOON)
        return 0x0000

    with serving((evt.EVT_C_STORE, handle)) as port:
        with (
            pytest.raises(TimerExpiredError) as caught,
            dicomport.blocking.associate(HOST, port, contexts=CONTEXTS, timeouts=Timeouts(dimse=0.2)) as association,
        ):
            association.c_store(CT)
        over.set()
    assert caught.value.timer.name == "dimse"
    assert not association.open


def test_instances_pynetdicom_rejects_are_named() -> None:
    received = Received()
    with serving((evt.EVT_C_STORE, received), wanted=[(CT_CLASS, IMPLICIT), (MR_CLASS, EXPLICIT)]) as port:
        report = dicomport.blocking.send([CT, MR, TEST_FILES / "rtplan.dcm"], HOST, port)
    ct, mr, plan = report.results
    assert ct.reason == (
        "the peer does not accept CT Image Storage in Explicit VR Little Endian, only in Implicit VR Little Endian: "
        "it would have to be converted (--convert, or Transform(convert=True))"
    )
    assert mr.accepted
    assert plan.reason == (
        "the peer does not accept RT Plan Storage in Implicit VR Little Endian: the peer does not support the SOP Class"
    )
    assert received.copies.total() == 1


def test_our_negotiation_items_are_understood() -> None:
    asked: list[Any] = []
    information: list[dict[UID, bytes]] = []

    def check(event: Any) -> tuple[bool, bytes | None]:
        asked.append((event.user_id_type, event.primary_field, event.secondary_field))
        return True, None

    def extend(event: Any) -> dict[UID, bytes]:
        information.append(event.app_info)
        return dict(event.app_info)

    def answer(event: Any) -> tuple[int, int]:
        asked.append((event.nr_invoked, event.nr_performed))
        return 1, 1

    identity = wire.UserIdentityRQ(
        2, positive_response_requested=False, primary_field=b"somebody", secondary_field=b"secret"
    )
    with (
        serving(
            (evt.EVT_C_STORE, Received()),
            (evt.EVT_USER_ID, check),
            (evt.EVT_SOP_EXTENDED, extend),
            (evt.EVT_ASYNC_OPS, answer),
            roles={CT_CLASS: (True, False)},
        ) as port,
        dicomport.blocking.associate(
            HOST,
            port,
            contexts=CONTEXTS,
            operations_window=wire.AsynchronousOperationsWindow(4, 2),
            roles=tuple(wire.RoleSelection(uid, scu=True, scp=True) for uid in (CT_CLASS, MR_CLASS)),
            extended=(wire.SOPClassExtendedNegotiation(CT_CLASS, b"\x02\x00\x03\x00\x00\x00"),),
            user_identity=identity,
        ) as association,
    ):
        assert association.outcome.operations_window == wire.AsynchronousOperationsWindow(1, 1)
        # The configured answer for one class, and its default, no answer, for the other.
        assert association.outcome.roles == (wire.RoleSelection(CT_CLASS, scu=True, scp=False),)
        assert [item.information for item in association.outcome.extended] == [b"\x02\x00\x03\x00\x00\x00"]
        assert association.c_store(CT).status.code == 0x0000
    assert sorted(asked, key=len) == [(4, 2), (2, b"somebody", b"secret")]
    assert information == [{CT_CLASS: b"\x02\x00\x03\x00\x00\x00"}]


def test_a_user_it_does_not_know() -> None:
    identity = wire.UserIdentityRQ(1, positive_response_requested=False, primary_field=b"somebody")
    with (
        serving((evt.EVT_USER_ID, lambda _: (False, None))) as port,
        pytest.raises(RejectedError) as caught,
        dicomport.blocking.associate(
            HOST,
            port,
            contexts=CONTEXTS,
            user_identity=identity,
        ),
    ):
        pass
    assert caught.value.rejection.reason is RejectReason.ACSE_NO_REASON

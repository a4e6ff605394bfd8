"""Storage commitment with pynetdicom, in both roles and both ways: over the association that asks, and over another."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from tests.interop.conftest import HOST, free_port
from tests.interop.test_pynetdicom import undisturbed
from tests.scp.storages import Recorder

import dicomport
from dicomport import Address, CommitmentSCP, SOPReference, Status, StorageSCP

pytestmark = [
    pytest.mark.timeout(60),
    # If the peer closes first, pynetdicom drops its socket without closing it.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning:pynetdicom.transport"),
]

COMMITMENT: Final = UID("1.2.840.10008.1.20.1")
INSTANCE: Final = UID("1.2.840.10008.1.20.1.1")
CT: Final = "1.2.840.10008.5.1.4.1.1.2"
KEPT, LOST = SOPReference(CT, "1.2.1"), SOPReference(CT, "1.2.2")
SOON: Final = 20.0


def references(items: Sequence[Dataset]) -> list[SOPReference]:
    return [SOPReference(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in items]


def item(reference: SOPReference, reason: int | None = None) -> Dataset:
    made = Dataset()
    made.ReferencedSOPClassUID = reference.sop_class_uid
    made.ReferencedSOPInstanceUID = reference.sop_instance_uid
    if reason is not None:
        made.FailureReason = reason
    return made


def entity() -> AE:
    made = AE(ae_title="PYNETDICOM")
    made.acse_timeout = made.dimse_timeout = made.network_timeout = SOON
    return made


# pynetdicom asks us.


class Keeper:
    """Keeps one of the two."""

    async def look_up(self, wanted: Sequence[SOPReference]) -> list[Status]:
        return [Status(0x0000 if one == KEPT else 0x0112) for one in wanted]


class Reports:
    """A handler for N-EVENT-REPORT requests that hands them to the test's thread."""

    def __init__(self) -> None:
        self.told: queue.SimpleQueue[tuple[int, Dataset]] = queue.SimpleQueue()

    def __call__(self, event: Any) -> tuple[int, None]:
        self.told.put((event.event_type, event.event_information))
        return 0x0000, None

    def check(self) -> None:
        """Check that the report belongs to `request`."""
        kind, told = self.told.get(timeout=SOON)
        assert (kind, told.TransactionUID) == (2, "1.2.3.4")
        assert references(told.ReferencedSOPSequence) == [KEPT]
        assert references(told.FailedSOPSequence) == [LOST]
        assert [failed.FailureReason for failed in told.FailedSOPSequence] == [0x0112]


def request() -> Dataset:
    made = Dataset()
    made.TransactionUID = "1.2.3.4"
    made.ReferencedSOPSequence = Items([item(KEPT), item(LOST)])
    return made


def ask(association: Association) -> int:
    """Request storage commitment with pynetdicom, and return the status of the response."""
    with undisturbed(association):
        status, _ = association.send_n_action(request(), 1, COMMITMENT, INSTANCE)
    code: int = status.Status
    return code


def test_pynetdicom_gets_the_report_over_its_association(tmp_path: Path) -> None:
    reports, asking = Reports(), entity()
    asking.add_requested_context(COMMITMENT)
    commitment = CommitmentSCP(Keeper(), tmp_path)
    with StorageSCP(Recorder(), port=0, commitment=commitment).in_thread() as scp:
        association = asking.associate(HOST, scp.port, evt_handlers=[(evt.EVT_N_EVENT_REPORT, reports)])
        assert association.is_established
        assert ask(association) == 0x0000
        reports.check()
        association.release()
    assert list(tmp_path.rglob("*.json")) == []


def test_pynetdicom_gets_the_report_at_its_address(tmp_path: Path) -> None:
    reports, listening, asking = Reports(), entity(), entity()
    listening.add_supported_context(COMMITMENT, scu_role=False, scp_role=True)
    asking.add_requested_context(COMMITMENT)
    listener = listening.start_server((HOST, 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, reports)])
    assert listener is not None
    address = Address(HOST, listener.server_address[1])
    held = threading.Event()

    class Late(Keeper):
        async def look_up(self, wanted: Sequence[SOPReference]) -> list[Status]:
            await asyncio.to_thread(held.wait, SOON)
            return await super().look_up(wanted)

    commitment = CommitmentSCP(Late(), tmp_path, report_to={"PYNETDICOM": address})
    with StorageSCP(Recorder(), port=0, commitment=commitment).in_thread() as scp:
        association = asking.associate(HOST, scp.port)
        assert ask(association) == 0x0000
        association.release()
        held.set()
        reports.check()
    listener.shutdown()
    assert list(tmp_path.rglob("*.json")) == []


# We ask pynetdicom.


class Archive:
    """A pynetdicom SCP that reports over the requesting association, or over a separate one to a port."""

    def __init__(self, listener: int | None) -> None:
        self._listener = listener
        self._reporting: list[threading.Thread] = []
        self._entity = entity()
        self._entity.add_supported_context(COMMITMENT)
        server = self._entity.start_server((HOST, 0), block=False, evt_handlers=[(evt.EVT_N_ACTION, self._act)])
        assert server is not None
        self._server = server
        self.port: int = server.server_address[1]
        self.answers: list[int] = []

    def wait(self) -> None:
        """Wait until the report was answered."""
        for thread in self._reporting:
            thread.join(SOON)

    def close(self) -> None:
        self.wait()
        self._server.shutdown()

    def _act(self, event: Any) -> tuple[int, None]:
        asked = event.action_information
        assert references(asked.ReferencedSOPSequence) == [KEPT, LOST]
        told = Dataset()
        told.TransactionUID = asked.TransactionUID
        told.ReferencedSOPSequence = Items([item(KEPT)])
        told.FailedSOPSequence = Items([item(LOST, 0x0110)])
        thread = threading.Thread(target=self._report, args=(event.assoc, told))
        self._reporting.append(thread)
        thread.start()
        return 0x0000, None

    def _report(self, association: Association, told: Dataset) -> None:
        if self._listener is not None:
            reporting = entity()
            reporting.add_requested_context(COMMITMENT)
            role = build_role(COMMITMENT, scp_role=True)
            association = reporting.associate(HOST, self._listener, ext_neg=[role])
        with undisturbed(association):
            status, _ = association.send_n_event_report(told, 2, COMMITMENT, INSTANCE)
        self.answers.append(status.Status)
        if self._listener is not None:
            association.release()


@pytest.fixture(params=[False, True], ids=["the same association", "another one"])
def listener(request: pytest.FixtureRequest) -> int | None:
    return free_port() if request.param else None


@pytest.fixture
def archive(listener: int | None) -> Iterator[Archive]:
    made = Archive(listener)
    yield made
    made.close()


def test_pynetdicom_reports_to_us(archive: Archive, listener: int | None) -> None:
    report = dicomport.blocking.commit([KEPT, LOST], HOST, archive.port, listen_port=listener, wait=SOON)
    assert [(one.committed, one.status) for one in report.commitments] == [
        (True, Status(0x0000)),
        (False, Status(0x0110)),
    ]
    archive.wait()
    assert archive.answers == [0x0000]

"""Storage commitment with Orthanc, in both roles (PS3.4 Annex J). Orthanc reports over separate associations."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from tests.interop.conftest import HOST, TEST_FILES, free_port
from tests.requirements import require_program

import dicomport
from dicomport import Address, CommitmentSCP, SOPReference, Status, StorageSCP
from dicomport.archive import Archive
from dicomport.scu import instance_from_path

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

TIMEOUT: Final = 60.0
STARTS: Final = 5
CT, MR = (instance_from_path(TEST_FILES / name) for name in ("CT_small.dcm", "MR_small.dcm"))
REFERENCES: Final = tuple(SOPReference(one.sop_class_uid, one.sop_instance_uid) for one in (CT, MR))
MISSING: Final = SOPReference(CT.sop_class_uid, "1.2.3.4")
MISTAKEN: Final = SOPReference(MR.sop_class_uid, CT.sop_instance_uid)


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc, with dicomport among its modalities."""

    port: int
    http_port: int
    listener: int
    """The port of our SCU in its configuration."""
    archive: Archive
    """The archive of our SCP, its modality "archive"."""

    def send(self, *paths: Path) -> None:
        report = dicomport.blocking.send(paths, HOST, self.port, called_ae_title="ORTHANC")
        assert [result.reason for result in report.failed] == []

    def get(self, path: str) -> Any:
        return self._ask("GET", path, None)

    def post(self, path: str, body: object) -> Any:
        return self._ask("POST", path, json.dumps(body))

    def await_report(self, transaction: str) -> dict[str, Any]:
        """Wait for the report on a request of Orthanc."""
        for _ in range(int(TIMEOUT * 50)):
            told: dict[str, Any] = self.get(f"/storage-commitment/{transaction}")
            if told["Status"] != "Pending":
                return told
            threading.Event().wait(0.02)
        pytest.fail("no report came")

    def is_up(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until it answers; False where it has ended instead."""
        for _ in range(int(TIMEOUT * 50)):
            with contextlib.suppress(ConnectionRefusedError):
                return bool(self.get("/system")) and process.poll() is None
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
                return False
        return False

    def _ask(self, method: str, path: str, body: str | None) -> Any:
        connection = http.client.HTTPConnection(HOST, self.http_port, timeout=TIMEOUT)
        with contextlib.closing(connection):
            connection.request(method, path, body)
            response = connection.getresponse()
            text = response.read().decode()
            assert response.status == 200, text
            return json.loads(text)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Run Orthanc on loopback, and our SCP for it. Without Orthanc it skips, or fails where Orthanc is required."""
    require_program("Orthanc", "Orthanc")
    for _ in range(STARTS):
        with started(tmp_path_factory.mktemp("orthanc")) as running:
            if running is not None:
                yield running
                return
    pytest.fail("Orthanc did not start")


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Orthanc | None]:
    """Try to start it: another process may take the ports that are free now."""
    port = free_port()
    with contextlib.closing(Archive(folder / "archive")) as archive:
        found = Orthanc(port, free_port(), free_port(), archive)
        commitment = CommitmentSCP(
            archive, archive.paths.commitments, report_to={"ORTHANC": Address(HOST, port)}, ae_title="ARCHIVE"
        )
        scp = StorageSCP(archive, port=0, ae_title="ARCHIVE", check_called_ae_title=True, commitment=commitment)
        with scp.in_thread():
            process = subprocess.Popen(
                ["Orthanc", configured(folder, found, scp.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                yield found if found.is_up(process) else None
            finally:
                process.kill()
                process.wait()


def configured(folder: Path, found: Orthanc, scp_port: int) -> Path:
    def modality(title: str, port: int) -> dict[str, object]:
        return {"AET": title, "Host": HOST, "Port": port, "AllowStorageCommitment": True}

    configuration = {
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "Plugins": [],
        "DicomAet": "ORTHANC",
        "DicomPort": found.port,
        "HttpPort": found.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomModalities": {"sender": modality("SENDER", found.listener), "archive": modality("ARCHIVE", scp_port)},
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration))
    return path


# We ask.


def commit(orthanc: Orthanc, *references: SOPReference) -> dicomport.CommitmentReport:
    return dicomport.blocking.commit(
        references,
        HOST,
        orthanc.port,
        ae_title="SENDER",
        called_ae_title="ORTHANC",
        listen_port=orthanc.listener,
        wait=TIMEOUT,
    )


def test_orthanc_commits_its_instances(orthanc: Orthanc) -> None:
    orthanc.send(TEST_FILES / "CT_small.dcm", TEST_FILES / "MR_small.dcm")
    report = commit(orthanc, *REFERENCES)
    assert tuple(one.reference for one in report.committed) == REFERENCES
    assert (report.failed, report.error) == ((), "")


def test_orthanc_reports_missing_instances(orthanc: Orthanc) -> None:
    orthanc.send(TEST_FILES / "CT_small.dcm")
    report = commit(orthanc, REFERENCES[0], MISSING, MISTAKEN)
    assert [(one.committed, one.status) for one in report.commitments] == [
        (True, Status(0x0000)),
        (False, Status(0x0112)),
        (False, Status(0x0119)),
    ]


def test_orthanc_is_asked_in_several_transactions(orthanc: Orthanc) -> None:
    orthanc.send(TEST_FILES / "CT_small.dcm")
    wanted = [REFERENCES[0], *(SOPReference(CT.sop_class_uid, f"1.2.{number}") for number in range(1100))]
    report = commit(orthanc, *wanted)
    assert [one.committed for one in report.commitments] == [True, *[False] * 1100]
    assert {one.status for one in report.failed} == {Status(0x0112)}


def test_without_a_listener_orthanc_can_not_report(orthanc: Orthanc) -> None:
    report = dicomport.blocking.commit(
        REFERENCES, HOST, orthanc.port, ae_title="SENDER", called_ae_title="ORTHANC", wait=0.5
    )
    assert report.committed == ()
    assert report.error == "nothing was reported within 0.5 s"


# Orthanc asks.


def said(instances: Sequence[dict[str, Any]]) -> list[tuple[SOPReference, int]]:
    """Read Orthanc's view of a report."""
    return [(SOPReference(one["SOPClassUID"], one["SOPInstanceUID"]), one.get("FailureReason", 0)) for one in instances]


def ask(orthanc: Orthanc, *references: SOPReference) -> dict[str, Any]:
    """Request storage commitment with Orthanc, and return the report that it received."""
    pairs = [[one.sop_class_uid, one.sop_instance_uid] for one in references]
    asked = orthanc.post("/modalities/archive/storage-commitment", {"DicomInstances": pairs})
    return orthanc.await_report(asked["ID"])


def test_orthanc_gets_commitments_of_stored_instances(orthanc: Orthanc) -> None:
    orthanc.send(TEST_FILES / "CT_small.dcm", TEST_FILES / "MR_small.dcm")
    studies = orthanc.get("/studies")
    stored = orthanc.post(
        "/modalities/archive/store", {"Resources": studies, "Synchronous": True, "StorageCommitment": True}
    )
    told = orthanc.await_report(stored["StorageCommitmentTransactionUID"])
    assert (told["Status"], told["RemoteAET"]) == ("Success", "ARCHIVE")
    assert sorted(said(told["Success"]), key=str) == sorted(((one, 0) for one in REFERENCES), key=str)
    assert told["Failures"] == []


def test_orthanc_gets_failures_of_missing_instances(orthanc: Orthanc) -> None:
    orthanc.send(TEST_FILES / "CT_small.dcm")
    orthanc.post("/modalities/archive/store", {"Resources": orthanc.get("/studies"), "Synchronous": True})
    told = ask(orthanc, REFERENCES[0], MISSING, MISTAKEN)
    assert told["Status"] == "Failure"
    assert said(told["Success"]) == [(REFERENCES[0], 0)]
    assert sorted(said(told["Failures"]), key=str) == sorted([(MISSING, 0x0112), (MISTAKEN, 0x0119)], key=str)


def test_orthanc_gets_a_report_on_each_request(orthanc: Orthanc) -> None:
    for number in range(20):
        missing = SOPReference(CT.sop_class_uid, f"1.2.{number}")
        assert said(ask(orthanc, missing)["Failures"]) == [(missing, 0x0112)]
    # The last answer may still be on its way.
    for _ in range(500):
        if not list(orthanc.archive.paths.commitments.rglob("*.json")):
            return
        threading.Event().wait(0.02)
    pytest.fail("something was not reported on")

"""Every SOP Class of the reference and of the registry is sent by our SCU and stored by our SCP over a real socket."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydicom
import pytest
from tests.scp.messages import DATA_SET
from tests.scp.storages import Recorder

from dicomport import NoContextError, NotSendableError, SOPClass, StorageSCP, blocking, sop_classes
from dicomport.scu import Instance
from dicomport.wire import ContextResult

EXPLICIT: Final = "1.2.840.10008.1.2.1"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
DICOMDIR: Final = "1.2.840.10008.1.3.10"
MISPRINTS: Final = {"1.2.840.10008.5.1.4.1.1.1.1.1.1", "1.2.840.10008.5.1.1.4.1.1.3.1"}
PRIVATE: Final = "1.3.6.1.4.1.5962.301.9"

with (Path(__file__).parents[2] / "tools" / "reference_storage_classes.csv").open(newline="") as _file:
    ROWS: Final = [(row["uid"], row["alias"]) for row in csv.DictReader(_file)]


@dataclass
class Running:
    port: int
    storage: Recorder


@pytest.fixture(scope="module")
def scp() -> Iterator[Running]:
    storage = Recorder()
    with StorageSCP(storage, port=0).in_thread() as server:
        yield Running(server.port, storage)


def send(scp: Running, sop_class: str, transfer_syntax: str = EXPLICIT) -> None:
    """Send an instance of a class, and check that it arrived under that class, byte for byte."""
    instance_uid = f"2.25.{len(scp.storage.operations) + 1}"
    contexts = [(sop_class, transfer_syntax)]
    with blocking.associate("127.0.0.1", scp.port, contexts=contexts) as association:
        [outcome] = association.outcome.contexts
        assert (outcome.abstract_syntax, outcome.transfer_syntax) == (sop_class, transfer_syntax)
        response = association.c_store(Instance(sop_class, instance_uid, transfer_syntax, DATA_SET))
    assert response.status.code == 0x0000
    operation = scp.storage.operations[-1]
    assert operation.sop_class_uid == sop_class
    assert operation.transfer_syntax_uid == transfer_syntax
    assert scp.storage.data[instance_uid] == DATA_SET


def test_the_reference_has_136_classes_with_both_misprints_among_them() -> None:
    assert len(ROWS) == len({uid for uid, _ in ROWS}) == len({alias for _, alias in ROWS}) == 136
    assert {uid for uid, _ in ROWS} >= MISPRINTS


@pytest.mark.parametrize(("uid", "alias"), ROWS, ids=[alias for _, alias in ROWS])
def test_a_class_of_the_reference_is_stored_by_its_uid_and_by_its_keyword(scp: Running, uid: str, alias: str) -> None:
    found: SOPClass = getattr(sop_classes, alias)
    assert (found.uid == uid) == (uid not in MISPRINTS)
    assert sop_classes.find(uid) is sop_classes.find(alias) is found
    send(scp, uid)
    send(scp, found.uid)


@pytest.mark.parametrize(
    "sop_class", [found for found in sop_classes if found.uid != DICOMDIR], ids=lambda c: c.keyword
)
def test_a_class_of_the_registry_is_stored(scp: Running, sop_class: SOPClass) -> None:
    send(scp, sop_class.uid)


def test_the_registry_is_the_reference_and_what_came_after_it() -> None:
    assert {uid for uid, _ in ROWS} - MISPRINTS <= {found.uid for found in sop_classes}
    assert DICOMDIR in sop_classes


def test_a_dicomdir_is_not_sent_as_it_is_no_instance(scp: Running, tmp_path: Path) -> None:
    path = tmp_path / "DICOMDIR"
    dataset = pydicom.Dataset()
    dataset.PatientID = "P-01"
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.UID(DICOMDIR)
    dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.UID("2.25.1")
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    with (
        blocking.associate("127.0.0.1", scp.port, contexts=[DICOMDIR]) as association,
        pytest.raises(NotSendableError, match="DICOMDIR"),
    ):
        association.c_store(path)
    report = blocking.send(path, "127.0.0.1", scp.port)
    assert not report.accepted


def test_a_private_class_is_stored(scp: Running) -> None:
    send(scp, PRIVATE)


@pytest.mark.parametrize("transfer_syntax", ["1.2.840.10008.1.2.4.999", "1.2.840.113619.5.2", "2.25.7"])
def test_an_unknown_transfer_syntax_is_stored(scp: Running, transfer_syntax: str) -> None:
    send(scp, "1.2.840.10008.5.1.4.1.1.2", transfer_syntax)


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.4.31",  # Modality Worklist, FIND
        "1.2.840.10008.5.1.4.1.2.2.1",  # Study Root, FIND
        "1.2.840.10008.1.20.1",  # Storage Commitment Push Model
        "1.2.840.10008.3.1.2.3.3",  # Modality Performed Procedure Step
    ],
)
def test_a_known_class_of_another_service_is_refused_as_an_abstract_syntax(scp: Running, uid: str) -> None:
    with blocking.associate("127.0.0.1", scp.port, contexts=[uid, PRIVATE]) as association:
        refused, taken = association.outcome.contexts
        with pytest.raises(NoContextError):
            association.c_store(Instance(uid, "2.25.9", EXPLICIT, DATA_SET))
    assert refused.result is ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
    assert int(refused.result) == 3
    assert taken.result is ContextResult.ACCEPTED


def test_files_of_many_kinds_arrive_as_they_are(scp: Running) -> None:
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    names = [
        "CT_small.dcm",
        "MR_small_RLE.dcm",
        "image_dfl.dcm",
        "ExplVR_BigEnd.dcm",
        "test-SR.dcm",
        "waveform_ecg.dcm",
    ]
    report = blocking.send([folder / name for name in names], "127.0.0.1", scp.port)
    assert [result.status and result.status.code for result in report.results] == [0] * len(names)
    for result in report.results:
        assert result.path is not None
        stored = scp.storage.data[result.sop_instance_uid]
        # Of odd length, a deflated stream gets one NUL on its way (PS3.5 A.5).
        padded = result.transfer_syntax_uid == DEFLATED and stored.endswith(b"\0")
        assert result.path.read_bytes().endswith(stored[:-1] if padded else stored)
        assert len(stored) == result.size

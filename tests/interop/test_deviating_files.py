"""Files that deviate from the standard, as three receivers get them from the sender: labels and bytes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Final

import pytest
from pynetdicom import evt
from tests.cli.commands import dicomport
from tests.interop.conftest import HOST, Copies, Recorder, StartStoreSCP, copy_of
from tests.interop.test_pynetdicom import Received, serving
from tests.scu.data import DEVIATING

from dicomport import StorageSCP, blocking

pytestmark = [pytest.mark.timeout(60)]

SC: Final = "1.2.840.10008.5.1.4.1.1.7"
IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
EXPECTED: Final = {
    "file_meta_in_implicit_vr": ("1.2.3.60.3", IMPLICIT, 248, "file-meta-in-implicit-vr"),
    "group_length_without_private_elements": ("1.2.3.60.8", IMPLICIT, 292, "file-meta-group-length-wrong"),
    "odd_length": ("1.2.3.60.27", EXPLICIT, 256, "data-set-odd"),
    "sop_class_differs": ("1.2.3.60.25", EXPLICIT, 256, "sop-class-differs"),
    "transfer_syntax_differs": ("1.2.3.60.22", IMPLICIT, 256, "transfer-syntax-differs"),
    "without_preamble": ("1.2.3.60.5", EXPLICIT, 122, "file-meta-without-preamble"),
    "without_transfer_syntax": ("1.2.3.60.1", EXPLICIT, 226, "transfer-syntax-missing"),
}
"""SOP Instance UID, transfer syntax, offset of the data set, and deviation, by the name of the file."""


def expected() -> Copies:
    copies: Copies = Counter()
    for name, (sop_instance, syntax, offset, _) in EXPECTED.items():
        data_set = (DEVIATING / f"{name}.dcm").read_bytes()[offset:]
        copies[copy_of(sop_instance, syntax, data_set + bytes(len(data_set) % 2))] += 1
    return copies


def test_our_receiver_gets_them() -> None:
    received = Recorder()
    with StorageSCP(received, port=0).in_thread() as scp:
        report = blocking.send(DEVIATING, HOST, scp.port)
    assert [result.reason for result in report.failed] == []
    assert {result.sop_class_uid for result in report.results} == {SC}
    assert received.copies == expected()


@pytest.mark.interop
@pytest.mark.parametrize("options", [("+B",), ("+B", "+x=")], ids=" ".join)
def test_dcmtk_gets_them(storescp: StartStoreSCP, options: tuple[str, ...]) -> None:
    peer = storescp(*options)
    report = blocking.send(DEVIATING, HOST, peer.port)
    assert [result.reason for result in report.failed] == []
    assert peer.copies == expected()


@pytest.mark.interop
def test_dcmtk_that_parses_data_sets_accepts_them(storescp: StartStoreSCP) -> None:
    peer = storescp()
    report = blocking.send(DEVIATING, HOST, peer.port)
    assert [result.reason for result in report.failed] == []
    assert len(peer.copies) == len(EXPECTED)


def test_pynetdicom_gets_them() -> None:
    received = Received()
    with serving((evt.EVT_C_STORE, received), wanted=[(SC, IMPLICIT), (SC, EXPLICIT)]) as port:
        report = blocking.send(DEVIATING, HOST, port)
    assert [result.reason for result in report.failed] == []
    assert received.copies == expected()


def test_the_command_names_what_deviates() -> None:
    with StorageSCP(Recorder(), port=0).in_thread() as scp:
        done = dicomport("storescu", "--json", HOST, str(scp.port), DEVIATING)
    rows = {Path(row["path"]).stem: row["deviations"] for row in map(json.loads, done.stdout.splitlines())}
    assert rows == {name: [deviation] for name, (*_, deviation) in EXPECTED.items()}
    assert done.returncode == 0
    assert "1 file: file meta has another SOP Class UID than the data set: that of the data set is sent" in done.stderr
    planned = dicomport("storescu", "--dry-run", HOST, "1", DEVIATING)
    assert "1 file: the data set is of odd length: it is sent with one NUL at its end" in planned.stderr

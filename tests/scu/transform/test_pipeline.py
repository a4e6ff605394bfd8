"""`storescu --convert`, `--set` and `--invent-uids`: received instances and messages."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pydicom
import pytest
from tests.cli.commands import dicomport
from tests.scu.data import CT_FILE, DEFLATED, EXPLICIT, FILES, IMPLICIT

from dicomport.testing import Peer, ScriptedSCP

HOST: Final = "127.0.0.1"
RLE: Final = "1.2.840.10008.1.2.5"


def serving(*refused: str) -> ScriptedSCP:
    def script(peer: Peer) -> None:
        peer.accept(refuse=refused)
        peer.serve()

    return ScriptedSCP(script)


def received(scp: ScriptedSCP, *, implicit: bool = False) -> list[pydicom.Dataset]:
    return [
        pydicom.dcmread(io.BytesIO(store.data), force=True) if implicit else _explicit(store.data)
        for store in scp.stores
    ]


def _explicit(data: bytes) -> pydicom.Dataset:
    from pydicom.filereader import read_dataset

    return read_dataset(io.BytesIO(data), is_implicit_VR=False, is_little_endian=True)


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_without_being_asked_nothing_is_converted() -> None:
    with serving(EXPLICIT) as scp:
        done = dicomport("storescu", HOST, str(scp.port), CT_FILE)

    assert done.returncode == 1
    assert "it would have to be converted (--convert, or Transform(convert=True))" in done.stderr
    assert scp.stores == []


def test_a_refused_transfer_syntax_is_replaced_and_reported(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with serving(EXPLICIT, DEFLATED) as scp:
        done = dicomport("storescu", HOST, str(scp.port), CT_FILE, "--convert", "--report", report)

    assert done.returncode == 0
    [row] = rows(report)
    assert (row["transfer_syntax_uid"], row["converted_from"], row["accepted"]) == (IMPLICIT, EXPLICIT, True)
    assert "1 instance converted" in done.stderr
    [arrived] = received(scp, implicit=True)
    original = pydicom.dcmread(CT_FILE)
    assert arrived.PixelData == original.PixelData
    assert arrived.PatientName == original.PatientName


def test_an_image_compressed_without_loss_is_decompressed(tmp_path: Path) -> None:
    path = FILES / "MR_small_RLE.dcm"
    report = tmp_path / "report.json"
    with serving(RLE) as scp:
        done = dicomport("storescu", HOST, str(scp.port), path, "--convert", "--report", report)

    assert done.returncode == 0
    [row] = rows(report)
    assert (row["transfer_syntax_uid"], row["converted_from"]) == (EXPLICIT, RLE)
    [arrived] = received(scp)
    assert arrived.PixelData == pydicom.dcmread(FILES / "MR_small.dcm").PixelData


def test_a_possibly_lossy_instance_is_not_converted(tmp_path: Path) -> None:
    paths, report = [FILES / "JPEG2000.dcm", FILES / "image_dfl.dcm"], tmp_path / "report.json"
    with serving("1.2.840.10008.1.2.4.91", EXPLICIT, DEFLATED) as scp:
        done = dicomport("storescu", HOST, str(scp.port), *paths, "--convert", "--report", report)

    assert done.returncode == 1
    assert [(row["accepted"], row["attempts"]) for row in rows(report)] == [(False, 0), (True, 1)]
    assert rows(report)[0]["reason"] == (
        "the peer does not accept Secondary Capture Image Storage in JPEG 2000 Image Compression, only in Implicit VR "
        "Little Endian: it cannot be converted to these without the risk of a loss"
    )


def test_a_missing_decoder_is_named_with_its_package(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    # Without numpy, pydicom decodes nothing.
    program = "import runpy, sys; sys.modules['numpy'] = None; runpy.run_module('dicomport', run_name='__main__')"
    with serving(RLE) as scp:
        arguments = ("storescu", HOST, str(scp.port), str(FILES / "MR_small_RLE.dcm"), "--convert")
        done = subprocess.run(
            (sys.executable, "-c", program, *arguments, "--report", str(report)),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert rows(report)[0]["reason"] == (
        'the peer does not accept RLE Lossless, and no decoder for it is installed: pip install "dicomport[codecs]"'
    )


def test_an_accepted_transfer_syntax_is_not_converted(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with serving() as scp:
        done = dicomport("storescu", HOST, str(scp.port), CT_FILE, "--convert", "--report", report)

    assert done.returncode == 0
    assert (rows(report)[0]["transfer_syntax_uid"], rows(report)[0]["converted_from"]) == (EXPLICIT, "")
    assert scp.stores[0].data in CT_FILE.read_bytes()


def test_values_and_uids_are_put_in_for_test_sends(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    arguments = ("--set", "PatientID=TEST-1", "--set", "PatientName=Test^Case", "--invent-uids", "--report", report)
    with serving() as scp:
        done = dicomport("storescu", HOST, str(scp.port), CT_FILE, CT_FILE, *arguments)

    assert done.returncode == 0
    original = pydicom.dcmread(CT_FILE)
    first, second = received(scp)
    assert (first.PatientID, str(first.PatientName)) == ("TEST-1", "Test^Case")
    assert first.SOPInstanceUID == second.SOPInstanceUID != original.SOPInstanceUID
    assert first.StudyInstanceUID != original.StudyInstanceUID
    assert first.PixelData == original.PixelData
    assert {row["sop_instance_uid"] for row in rows(report)} == {first.SOPInstanceUID}
    assert scp.stores[0].command.affected_sop_instance_uid == first.SOPInstanceUID


@pytest.mark.parametrize(
    ("value", "complaint"), [("PatientID", "KEYWORD=VALUE"), ("PatentID=1", "PatentID"), ("Rows=many", "Rows")]
)
def test_an_invalid_value_to_set_is_wrong_usage(value: str, complaint: str) -> None:
    done = dicomport("storescu", HOST, "104", CT_FILE, "--set", value)

    assert (done.returncode, complaint in done.stderr) == (2, True)


def test_a_dry_run_shows_what_would_be_offered_too() -> None:
    plain = dicomport("storescu", HOST, "104", FILES / "MR_small_RLE.dcm", "--dry-run", "--json")
    converting = dicomport("storescu", HOST, "104", FILES / "MR_small_RLE.dcm", "--dry-run", "--json", "--convert")

    def syntaxes(text: str) -> list[str]:
        return [json.loads(line)["transfer_syntax_uid"] for line in text.splitlines()]

    assert syntaxes(plain.stdout) == [RLE]
    assert syntaxes(converting.stdout) == [RLE, EXPLICIT, IMPLICIT]

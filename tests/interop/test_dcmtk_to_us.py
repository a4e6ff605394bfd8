"""DCMTK's senders to our receiver: the received bytes equal those that DCMTK's receiver gets from the same command.

DCMTK's senders decode and encode data sets, so the sent bytes may differ from the files.
"""

from __future__ import annotations

import concurrent.futures
from collections import Counter
from pathlib import Path
from typing import Final

import pytest
from tests.interop.conftest import (
    DCMTK,
    TEST_FILES,
    TLS,
    Copies,
    Recorder,
    StartStoreSCP,
    copies_in,
    paths,
    sendable,
)

from dicomport import FolderStorage, Status, StorageSCP, TLSProfile
from dicomport.scp import Passwords, hash_password

pytestmark = pytest.mark.interop

IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
JPEG_BASELINE: Final = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED: Final = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS: Final = "1.2.840.10008.1.2.4.70"
JPEG_LS_LOSSLESS: Final = "1.2.840.10008.1.2.4.80"
JPEG_LS_LOSSY: Final = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS: Final = "1.2.840.10008.1.2.4.90"
JPEG_2000: Final = "1.2.840.10008.1.2.4.91"
RLE: Final = "1.2.840.10008.1.2.5"

CT: Final = TEST_FILES / "CT_small.dcm"
MR: Final = TEST_FILES / "MR_small.dcm"
OVERLAY: Final = TEST_FILES / "examples_overlay.dcm"

SYNTAXES: Final = {
    "-xe": EXPLICIT,
    "-xb": BIG_ENDIAN,
    "-xi": IMPLICIT,
    "-xs": JPEG_LOSSLESS,
    "-xy": JPEG_BASELINE,
    "-xx": JPEG_EXTENDED,
    "-xv": JPEG_2000_LOSSLESS,
    "-xw": JPEG_2000,
    "-xt": JPEG_LS_LOSSLESS,
    "-xu": JPEG_LS_LOSSY,
    "-xr": RLE,
    "-xd": DEFLATED,
}
"""storescu's options, and the transfer syntax that each is for."""


def syntaxes(copies: Copies) -> set[str]:
    return {copy.transfer_syntax_uid for copy in copies}


@pytest.mark.parametrize(
    ("option", "contexts"),
    [
        *(pytest.param(option, ("-R",), id=option) for option in SYNTAXES),
        *(pytest.param(option, ("-R", "+C"), id=f"{option} combined") for option in ("-xb", "-xs", "-xy", "-xd")),
    ],
)
def test_storescu_delivers_in_every_syntax(
    dcmtk: DCMTK, storescp: StartStoreSCP, option: str, contexts: tuple[str, ...]
) -> None:
    # In a context of several syntaxes the acceptor chooses: we choose the requestor's first, storescp the syntax
    # that its option prefers.
    reference = storescp("+B", "+xb" if option == "-xb" else "+xa")
    command = ("storescu", "-nh", option, *contexts)
    recorder = Recorder()
    with StorageSCP(recorder, port=0).in_thread() as scp:
        sent = dcmtk.to(scp.port, *command, files=paths(sendable()))
    assert dcmtk.to(reference.port, *command, files=paths(sendable())).returncode == sent.returncode == 0
    assert SYNTAXES[option] in syntaxes(recorder.copies)
    assert recorder.copies == reference.copies


def test_storescu_proposes_all_it_knows(dcmtk: DCMTK, storescp: StartStoreSCP) -> None:
    """It proposes 128 contexts by default, the maximum."""
    reference = storescp("+B", "+xa")
    recorder = Recorder()
    with StorageSCP(recorder, port=0).in_thread() as scp:
        assert dcmtk.to(scp.port, "storescu", "-nh", files=paths(sendable())).returncode == 0
    assert dcmtk.to(reference.port, "storescu", "-nh", files=paths(sendable())).returncode == 0
    assert recorder.copies.total() > 100
    assert recorder.copies == reference.copies


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="as it is"),
        pytest.param(("-dn",), id="never decompress"),
        pytest.param(("+dly",), id="decompress"),
        pytest.param(("-pdu", "4096", "--max-send-pdu", "4096"), id="short PDUs"),
    ],
)
def test_dcmsend_delivers(dcmtk: DCMTK, storescp: StartStoreSCP, tmp_path: Path, options: tuple[str, ...]) -> None:
    reference = storescp("+B", "+xa")
    report = tmp_path / "report.txt"
    command = ("dcmsend", "-nh", *options)
    recorder = Recorder()
    with StorageSCP(recorder, port=0).in_thread() as scp:
        sent = dcmtk.to(scp.port, *command, "+crf", str(report), files=paths(sendable()))
    assert dcmtk.to(reference.port, *command, files=paths(sendable())).returncode == sent.returncode == 0
    # If the UIDs of a file have VR UN, dcmsend reads their first byte as a number and sends the SOP Class "31".
    # The context has another class, so the receiver refuses the instance.
    misnamed = reference.copies - recorder.copies
    assert {(copy.sop_instance_uid, copy.transfer_syntax_uid) for copy in misnamed} == {("31", RLE)}
    assert report.read_text().count("0x0122 (Refused: SOPClassNotSupported)") == misnamed.total() == 2
    assert recorder.copies + misnamed == reference.copies
    assert syntaxes(recorder.copies) >= {
        EXPLICIT,
        DEFLATED,
        JPEG_BASELINE,
        JPEG_EXTENDED,
        JPEG_LOSSLESS,
        JPEG_LS_LOSSLESS,
        JPEG_LS_LOSSY,
        JPEG_2000_LOSSLESS,
        JPEG_2000,
        RLE,
    }


@pytest.mark.parametrize("maximum_length", [0, 128, 4096, 1 << 20])
def test_storescu_keeps_to_our_maximum_length(dcmtk: DCMTK, storescp: StartStoreSCP, maximum_length: int) -> None:
    files = (CT, MR, OVERLAY)
    reference = storescp("+B", "+xa")
    recorder = Recorder()
    with StorageSCP(recorder, port=0, maximum_length=maximum_length).in_thread() as scp:
        assert dcmtk.to(scp.port, "storescu", "-R", files=files).returncode == 0
    assert dcmtk.to(reference.port, "storescu", "-R", files=files).returncode == 0
    assert recorder.copies == reference.copies


def test_storescu_takes_short_pdus_only(dcmtk: DCMTK) -> None:
    recorder = Recorder(Status(0xB000, "c" * 64, tuple(range(1000))))
    with StorageSCP(recorder, port=0).in_thread() as scp:
        sent = dcmtk.to(scp.port, "storescu", "-R", "-pdu", "4096", "--max-send-pdu", "4096", files=(CT, OVERLAY))
    assert sent.returncode == 0
    assert recorder.copies.total() == 2


def test_many_files_come_over_one_association(dcmtk: DCMTK) -> None:
    files = sorted((TEST_FILES / "dicomdirtests").glob("98892003/*/*"))
    recorder = Recorder()
    with StorageSCP(recorder, port=0).in_thread() as scp:
        assert dcmtk.to(scp.port, "storescu", "-aet", "SENDER", "-R", files=files).returncode == 0
    assert recorder.copies.total() == len(files) == 17
    (association,) = recorder.associations.values()
    assert association.calling_ae_title == "SENDER"
    assert association.implementation.version_name == "OFFIS_DCMTK_367"


def test_many_senders_at_once(dcmtk: DCMTK, storescp: StartStoreSCP) -> None:
    files = sorted((TEST_FILES / "dicomdirtests").glob("98892003/*/*"))
    reference = storescp("+B", "+xa")
    assert dcmtk.to(reference.port, "storescu", "-R", files=files).returncode == 0
    recorder = Recorder()
    with StorageSCP(recorder, port=0).in_thread() as scp, concurrent.futures.ThreadPoolExecutor() as threads:
        sent = [threads.submit(dcmtk.to, scp.port, "storescu", "-R", files=files) for _ in range(4)]
        assert [one.result().returncode for one in sent] == [0] * 4
    assert recorder.copies == Counter({copy: 4 * count for copy, count in reference.copies.items()})
    assert len(recorder.associations) == 4


def test_a_folder_of_files_that_dcmtk_reads(dcmtk: DCMTK, storescp: StartStoreSCP, tmp_path: Path) -> None:
    reference = storescp("+B", "+xa")
    folder = tmp_path / "ours"
    with StorageSCP(FolderStorage(folder), port=0).in_thread() as scp:
        assert dcmtk.to(scp.port, "storescu", "-nh", "-R", "-xe", files=paths(sendable())).returncode == 0
    assert dcmtk.to(reference.port, "storescu", "-nh", "-R", "-xe", files=paths(sendable())).returncode == 0
    # An instance received twice with the same bytes is stored once.
    assert copies_in(folder) == Counter(set(reference.copies))
    files = sorted(folder.iterdir())
    tested = dcmtk.run("dcmftest", *files)
    assert tested.returncode == 0
    assert tested.stdout.splitlines() == [f"yes: {path}" for path in files]
    assert dcmtk.run("dcmdump", "-q", "+fo", "+P", "0002,0016", *files).stdout.count("[STORESCU]") == len(files)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="as it is"),
        pytest.param(("-aec", "SOMEBODY ELSE"), id="another called AE title"),
        pytest.param(("-pdu", "4096"), id="short PDUs"),
        pytest.param(("-pts", "38", "-ppc", "128"), id="128 contexts of 38 syntaxes"),
        pytest.param(("--repeat", "20"), id="twenty times"),
        pytest.param(("--abort",), id="aborts"),
    ],
)
def test_echoscu_is_answered(dcmtk: DCMTK, options: tuple[str, ...]) -> None:
    with StorageSCP(Recorder(), port=0).in_thread() as scp:
        echoed = dcmtk.to(scp.port, "echoscu", "-v", *options)
    assert echoed.returncode == 0, echoed.stdout
    assert "Received Echo Response (Success)" in echoed.stdout


def test_a_called_ae_title_is_not_checked_by_default(dcmtk: DCMTK) -> None:
    recorder = Recorder()
    with StorageSCP(recorder, port=0, ae_title="US").in_thread() as scp:
        assert dcmtk.to(scp.port, "storescu", "-R", "-aec", "NOT US", files=(CT,)).returncode == 0
    assert [info.called_ae_title for info in recorder.associations.values()] == ["NOT US"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("-aet", "FRIEND", "-aec", "NOT US"), "Called AE Title Not Recognized"),
        (("-aet", "STRANGER", "-aec", "US"), "Calling AE Title Not Recognized"),
    ],
)
def test_ae_titles_are_checked_where_asked_for(dcmtk: DCMTK, options: tuple[str, ...], reason: str) -> None:
    recorder = Recorder()
    scp = StorageSCP(recorder, port=0, ae_title="US", check_called_ae_title=True, allow=["FRIEND"])
    with scp.in_thread():
        refused = dcmtk.to(scp.port, "storescu", "-R", *options, files=(CT,))
        assert dcmtk.to(scp.port, "storescu", "-R", "-aet", "FRIEND", "-aec", "US", files=(CT,)).returncode == 0
    assert refused.returncode == 1
    assert reason in refused.stdout
    assert recorder.copies.total() == 1


def test_storescu_fails_where_the_handler_refuses(dcmtk: DCMTK) -> None:
    recorder = Recorder(Status(0xA700, "full"))
    with StorageSCP(recorder, port=0).in_thread() as scp:
        refused = dcmtk.to(scp.port, "storescu", "-v", "-R", files=(CT, MR))
        assert recorder.copies.total() == 1  # it halts
        assert dcmtk.to(scp.port, "storescu", "-R", "-nh", files=(CT, MR)).returncode == 0
    assert refused.returncode == 0xA7
    assert "Refused: OutOfResources" in refused.stdout
    assert recorder.copies.total() == 3


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_storescu_takes_a_warning_for_a_success(dcmtk: DCMTK, status: int) -> None:
    recorder = Recorder(status)
    with StorageSCP(recorder, port=0).in_thread() as scp:
        assert dcmtk.to(scp.port, "storescu", "-R", files=(CT, MR)).returncode == 0
    assert recorder.copies.total() == 2


def test_dcmsend_receives_a_failure(dcmtk: DCMTK, tmp_path: Path) -> None:
    report = tmp_path / "report.txt"
    with StorageSCP(Recorder(Status(0xC123, "no")), port=0).in_thread() as scp:
        dcmtk.to(scp.port, "dcmsend", "-nh", "+crf", str(report), files=(CT, MR))
    assert report.read_text().count("DIMSE Status  : 0xc123 (Error: CannotUnderstand)") == 2


@pytest.mark.parametrize("options", [("-usr", "somebody"), ("-usr", "somebody", "-pwd", "secret")])
def test_an_unchecked_user_identity(dcmtk: DCMTK, options: tuple[str, ...]) -> None:
    recorder = Recorder()
    with StorageSCP(recorder, port=0).in_thread() as scp:
        assert dcmtk.to(scp.port, "storescu", "-R", *options, files=(CT,)).returncode == 0
    assert recorder.copies.total() == 1


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("-usr", "somebody", "-pwd", "secret"), 0),
        (("-usr", "somebody", "-pwd", "secret", "-rsp"), 0),
        (("-usr", "somebody", "-pwd", "wrong", "-rsp"), 1),
        (("-usr", "somebody"), 1),
        ((), 1),
    ],
)
def test_a_user_identity_that_is_checked(dcmtk: DCMTK, options: tuple[str, ...], code: int) -> None:
    recorder = Recorder()
    check = Passwords([hash_password("somebody", "secret")])
    with StorageSCP(recorder, port=0, user_identity=check).in_thread() as scp:
        done = dcmtk.to(scp.port, "storescu", "-R", *options, files=(CT,))
    assert done.returncode == code
    assert recorder.copies.total() == (0 if code else 1)
    if code:
        assert "Result: Rejected Permanent, Source: Service Provider (ACSE Related)" in done.stdout


def test_an_abort_costs_nothing_that_was_stored(dcmtk: DCMTK) -> None:
    recorder = Recorder()
    with StorageSCP(recorder, port=0).in_thread() as scp:
        assert dcmtk.to(scp.port, "storescu", "-R", "--abort", files=(CT, MR)).returncode == 0
        assert dcmtk.to(scp.port, "echoscu").returncode == 0
    assert recorder.copies.total() == 2


def test_only_some_syntaxes_are_taken(dcmtk: DCMTK) -> None:
    """If the receiver accepts Implicit VR only, storescu converts to it."""
    recorder = Recorder()
    with StorageSCP(recorder, port=0, transfer_syntaxes=[IMPLICIT]).in_thread() as scp:
        assert dcmtk.to(scp.port, "storescu", "-R", files=(CT, MR)).returncode == 0
    assert syntaxes(recorder.copies) == {IMPLICIT}


def test_a_preferred_syntax_is_chosen(dcmtk: DCMTK) -> None:
    recorder = Recorder()
    scp = StorageSCP(recorder, port=0, preferred_transfer_syntaxes=(BIG_ENDIAN,))
    with scp.in_thread():
        assert dcmtk.to(scp.port, "storescu", "-R", "+C", "-xs", files=(CT, MR)).returncode == 0
    assert syntaxes(recorder.copies) == {BIG_ENDIAN}


@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
@pytest.mark.parametrize("ours", TLSProfile)
def test_storescu_over_tls(dcmtk: DCMTK, tls: TLS, ours: TLSProfile, profile: str) -> None:
    """In DCMTK's profiles: non-downgrading BCP 195, BCP 195 and Extended BCP 195."""
    recorder = Recorder()
    with StorageSCP(recorder, port=0, tls=tls.server(ours)).in_thread() as scp:
        assert dcmtk.to(scp.port, "storescu", "-R", *tls.options, profile, files=(CT, OVERLAY)).returncode == 0
    assert recorder.copies.total() == 2
    (association,) = recorder.associations.values()
    assert association.tls_certificate is not None


@pytest.mark.parametrize(
    "options", [(), ("-tls",), ("+tla", "+cf", "{ca}"), ("+tls", "{key}", "{certificate}", "-ic", "+pa")]
)
def test_storescu_that_is_not_secure_enough_gets_no_association(
    dcmtk: DCMTK, tls: TLS, options: tuple[str, ...]
) -> None:
    """Without TLS, without a certificate, and in the retired AES profile."""
    names = dict(zip(("key", "certificate", "ca"), (*tls.options[1:3], tls.authority), strict=True))
    given = [option.format(**names) for option in options]
    recorder = Recorder()
    with StorageSCP(recorder, port=0, tls=tls.server()).in_thread() as scp:
        assert dcmtk.to(scp.port, "storescu", "-R", *given, files=(CT,)).returncode == 1
        assert dcmtk.to(scp.port, "storescu", "-R", *tls.options, files=(CT,)).returncode == 0
    assert recorder.copies.total() == 1

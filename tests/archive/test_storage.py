"""The archive across an association: stored instances and their names, refused instances and the quarantine."""

import os
import random
import shutil
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pydicom
import pytest
from tests.archive.sending import (
    CT,
    LONG,
    Receiver,
    bytes_of,
    files,
    findings,
    instance,
    left_over,
    receiver,
    rows,
    stored_bytes,
)
from tests.core.messages import LAST_COMMAND, command_set, p_data, pdv
from tests.encoding.encode import (
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ITEM,
    SEQUENCE_END,
    UNDEFINED,
    deflate,
    element,
    header,
)
from tests.files.test_names import HOSTILE
from tests.scp.messages import context, in_fragments, request, store_elements

from dicomport import NotSendableError, blocking, sop_classes
from dicomport.archive import (
    Archive,
    ArchiveOptions,
    Check,
    Checks,
    DiscrepancyKind,
    Duplicates,
    Layout,
    Policy,
    quarantined as entries,
)
from dicomport.files import Durability, read_part10
from dicomport.scu import Instance, instance_from_path
from dicomport.testing import ScriptedSCU
from dicomport.wire import CStoreRSP

DATA: Final = Path(pydicom.__file__).parent / "data"
NAME: Final = "1.2.3/1.2.3.1/1.2.3.4.dcm"
ACCEPTING: Final = Checks(dict.fromkeys(Check, Policy.ACCEPT))
PRIVATE_CLASS: Final = "1.2.826.0.1.99.2"


@pytest.fixture
def received(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path / "archive", ArchiveOptions(durability=Durability.FLUSH)) as opened:
        yield opened


def quarantined(received: Receiver) -> list[tuple[int, bytes]]:
    """List the statuses and data sets in quarantine, the oldest first."""
    folder = received.archive.paths.quarantine
    return [(entry.status, stored_bytes(folder / entry.file)) for entry in entries(folder)]


# Everything in pydicom's package that can be sent -----------------------------------------------------------------


def sendable() -> Iterator[tuple[str, Instance]]:
    for path in sorted(path for path in DATA.rglob("*") if path.is_file() and path.suffix != ".py"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield str(path.relative_to(DATA)), instance_from_path(path)
        except NotSendableError:
            continue


NO_STUDY: Final = (
    "charset_files/chrSQEncoding.dcm",
    "charset_files/chrSQEncoding1.dcm",
    "test_files/JPEGLSNearLossless_08.dcm",
    "test_files/JPEGLSNearLossless_16.dcm",
    "test_files/SC_rgb_jls_lossy_line.dcm",
    "test_files/SC_rgb_jls_lossy_sample.dcm",
    "test_files/UN_sequence.dcm",
    "test_files/no_meta_group_length.dcm",
    "test_files/priv_SQ.dcm",
)
REFUSED: Final = {
    **dict.fromkeys(NO_STUDY, 0xA900),
    "test_files/MR_truncated.dcm": 0xC210,
    "test_files/SC_rgb_jpeg.dcm": 0xC210,  # in Implicit VR, which its file meta denies
}


def has_all_uids(name: str, what: Instance) -> bool:
    """Ask pydicom whether a data set says the UIDs of its request, and those of its study and series."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(DATA / name, force=True, stop_before_pixels=True)
        return (
            dataset.get("SOPInstanceUID") == what.sop_instance_uid
            and dataset.get("SOPClassUID") == what.sop_class_uid
            and bool(dataset.get("StudyInstanceUID"))
            and bool(dataset.get("SeriesInstanceUID"))
        )


def test_every_file_of_pydicom_is_stored_or_quarantined_byte_for_byte(received: Receiver) -> None:
    refused: dict[str, int] = {}
    sent: dict[tuple[str, bytes], Instance] = {}
    for name, what in sendable():
        with blocking.associate(
            "127.0.0.1",
            received.port,
            contexts=[(what.sop_class_uid, what.transfer_syntax_uid)],
            ae_title="PYDICOM",
        ) as association:
            response = association.c_store(what)
        if response.accepted:
            assert response.status.code == 0x0000
            sent[what.sop_instance_uid, bytes_of(what)] = what
        else:
            refused[name] = response.status.code
            assert response.status.code == 0xC210 or not has_all_uids(name, what), name
            status, data = quarantined(received)[-1]
            assert (status, data) == (response.status.code, bytes_of(what)), name
    assert refused == REFUSED
    assert len(quarantined(received)) == len(refused)
    received.close()
    root = received.root
    found = {(str(row["sop_instance_uid"]), stored_bytes(root / str(row["path"]))): row for row in rows(root)}
    assert found.keys() == sent.keys()
    assert len(sent) > 60
    for key, row in found.items():
        what, path = sent[key], root / str(row["path"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert path.read_bytes()[:132] == bytes(128) + b"DICM"
        meta = read_part10(path).meta
        assert (
            meta.media_storage_sop_class_uid,
            meta.media_storage_sop_instance_uid,
            meta.transfer_syntax_uid,
            meta.source_ae_title,
            meta.receiving_ae_title,
        ) == (what.sop_class_uid, what.sop_instance_uid, what.transfer_syntax_uid, "PYDICOM", "ANY-SCP")
        study, series = row["study_instance_uid"] or "_", row["series_instance_uid"] or "_"
        assert path.parent == root / str(study) / str(series)
        assert path.stem.partition("~")[0] == what.sop_instance_uid
        assert (row["transfer_syntax_uid"], row["size"]) == (what.transfer_syntax_uid, len(key[1]))
    assert findings(root) == []
    assert left_over(root) == []


# Truncation ---------------------------------------------------------------------------------------------------------

CUT: Final = ("CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm", "reportsi.dcm")


def element_starts(path: Path) -> set[int]:
    """Ask pydicom where in the data set the top-level elements start."""
    dataset = pydicom.dcmread(path)
    starts: set[int] = set()
    for tag in dataset:
        raw = dataset.get_item(tag.tag)
        tell: int = getattr(raw, "value_tell", None) or getattr(raw, "file_tell", None) or 0
        starts.update((tell - 8, tell - 12))
    offset = read_part10(path).offset
    return {start - offset for start in starts}


@pytest.mark.parametrize("name", CUT)
def test_a_truncated_data_set_is_refused_and_quarantined(received: Receiver, name: str) -> None:
    path = DATA / "test_files" / name
    what = instance_from_path(path)
    data = bytes_of(what)
    between = element_starts(path)
    rng = random.Random(name)
    places = rng.sample([at for at in range(2, len(data), 2) if at not in between], 50)
    with blocking.associate(
        "127.0.0.1", received.port, contexts=[(what.sop_class_uid, what.transfer_syntax_uid)]
    ) as association:
        for at in places:
            part = Instance(what.sop_class_uid, what.sop_instance_uid, what.transfer_syntax_uid, data[:at])
            response = association.c_store(part)
            assert (response.status.code, response.error_comment) == (0xC210, "the data set is truncated"), at
        assert association.c_store(what).status.code == 0x0000
    assert quarantined(received) == [(0xC210, data[:at]) for at in places]
    assert [stored_bytes(received.root / path) for path in files(received.root)] == [data]


def test_a_cut_between_elements_can_only_be_told_by_what_is_missing(received: Receiver) -> None:
    """Nothing in a data set says how many elements it has: only the attributes that are asked for are missed."""
    whole = instance()
    data = bytes_of(whole)
    pixels = data.index(b"\xe0\x7f\x10\0")
    study = data.index(b"\x20\0\x0d\0")
    cut = [Instance(CT, "1.2.3.4", EXPLICIT, data[:at]) for at in (pixels, study)]
    assert received.send(*cut) == [0x0000, 0xA900]


# Duplicates (row F5) ------------------------------------------------------------------------------------------------

OTHER: Final = instance(pixels=b"\4\3\2\1")


def test_f5_the_same_bytes_again_write_nothing(received: Receiver) -> None:
    assert received.send(instance()) == [0x0000]
    before = (received.root / NAME).stat()
    assert received.send(instance(), calling="ANOTHER") == [0x0000]
    after = (received.root / NAME).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert files(received.root) == [NAME]
    received.close()
    [row] = rows(received.root)
    assert row["calling_ae_title"] == "MODALITY"


def test_f5_other_bytes_are_kept_beside_as_a_conflict(received: Receiver) -> None:
    third = instance(pixels=b"\7\7\7\7")
    assert received.send(instance(), OTHER, instance(), OTHER, third) == [0] * 5
    names = [NAME, NAME.replace(".dcm", "~2.dcm"), NAME.replace(".dcm", "~3.dcm")]
    assert files(received.root) == sorted(names)
    assert [stored_bytes(received.root / name) for name in names] == [
        bytes_of(one) for one in (instance(), OTHER, third)
    ]
    received.close()
    states = {row["path"]: row["state"] for row in rows(received.root)}
    assert states == dict(zip(names, ["stored", "conflict", "conflict"], strict=True))
    assert findings(received.root) == []


def test_f5_other_bytes_replace(tmp_path: Path) -> None:
    with receiver(tmp_path, ArchiveOptions(duplicates=Duplicates.REPLACE)) as received:
        assert received.send(instance(), OTHER, OTHER) == [0, 0, 0]
    assert files(tmp_path) == [NAME]
    assert stored_bytes(tmp_path / NAME) == bytes_of(OTHER)
    [row] = rows(tmp_path)
    assert row["state"] == "stored"
    assert findings(tmp_path) == []


def test_f5_other_bytes_are_rejected(tmp_path: Path) -> None:
    with receiver(tmp_path, ArchiveOptions(duplicates=Duplicates.REJECT)) as received:
        assert received.send(instance(), OTHER, instance()) == [0, 0x0111, 0]
        assert left_over(tmp_path) == []
    assert files(tmp_path) == [NAME]
    assert stored_bytes(tmp_path / NAME) == bytes_of(instance())
    assert findings(tmp_path) == []


@pytest.mark.parametrize("duplicates", list(Duplicates))
@pytest.mark.parametrize("different", [False, True])
def test_f5_twenty_senders_of_one_uid_at_once(tmp_path: Path, different: bool, duplicates: Duplicates) -> None:
    senders = 20
    sent = [instance(pixels=LONG[:100_000] + bytes([number if different else 0, 1])) for number in range(senders)]
    statuses: list[tuple[int, bytes]] = []
    with receiver(tmp_path, ArchiveOptions(duplicates=duplicates)) as received:
        barrier = threading.Barrier(senders)

        def run(what: Instance) -> None:
            with received.association() as association:
                barrier.wait(60)
                statuses.append((association.c_store(what).status.code, bytes_of(what)))

        threads = [threading.Thread(target=run, args=(what,)) for what in sent]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert left_over(tmp_path) == []
    stored = [stored_bytes(tmp_path / name) for name in files(tmp_path)]
    accepted = [data for status, data in statuses if status == 0]
    if not different or duplicates is Duplicates.KEEP_BOTH:
        assert len(accepted) == senders
        assert sorted(stored) == sorted(set(accepted))
    elif duplicates is Duplicates.REPLACE:
        assert len(accepted) == senders
        assert len(stored) == 1
        assert stored[0] in accepted
    else:
        assert stored == accepted
        assert [status for status, _ in statuses].count(0x0111) == senders - 1
    assert [row["state"] for row in rows(tmp_path)].count("stored") == 1
    assert len(rows(tmp_path)) == len(stored)
    assert findings(tmp_path) == []


def test_f5_one_instance_uid_in_two_series(received: Receiver) -> None:
    assert received.send(instance(), instance(series="1.2.3.2")) == [0, 0]
    assert files(received.root) == [NAME, "1.2.3/1.2.3.2/1.2.3.4.dcm"]
    received.close()
    assert {row["path"]: row["state"] for row in rows(received.root)} == {
        NAME: "stored",
        "1.2.3/1.2.3.2/1.2.3.4.dcm": "conflict",
    }


def test_two_processes_in_one_archive(tmp_path: Path) -> None:
    sent = [instance(f"1.2.4.{number % 10}", bytes([number % 3, 0])) for number in range(60)]
    with receiver(tmp_path) as first, receiver(tmp_path) as second:
        assert len(list(tmp_path.glob(".dicomport/sessions/session-*"))) == 2
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda at=at, to=to: statuses.extend(to.send(*sent[at::2])))
            for at, to in ((0, first), (1, second), (0, second), (1, first))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert statuses == [0] * 120
    stored = sorted(stored_bytes(tmp_path / name) for name in files(tmp_path))
    assert stored == sorted({bytes_of(one) for one in sent})
    assert len(rows(tmp_path)) == len(stored)
    assert findings(tmp_path) == []


# Checks -------------------------------------------------------------------------------------------------------------

FAILING: Final = {
    "another instance UID": (Check.INSTANCE_UID, instance(said="1.2.3.99"), 0xA900, (0x00080018,)),
    "another SOP Class": (
        Check.SOP_CLASS,
        instance(said_class="1.2.840.10008.5.1.4.1.1.4"),
        0xA900,
        (0x00080016,),
    ),
    "truncated": (Check.WHOLE, Instance(CT, "1.2.3.4", EXPLICIT, bytes_of(instance())[:-2]), 0xC210, ()),
    "no study": (Check.IDENTITY, instance(study=""), 0xA900, (0x0020000D,)),
    "no series": (Check.IDENTITY, instance(series=""), 0xA900, (0x0020000E,)),
    "a study that is no UID": (Check.IDENTITY, instance(study="../../x"), 0xA900, (0x0020000D,)),
    "an instance that is no UID": (Check.IDENTITY, instance("1.2/3"), 0x0117, (0x00080018,)),
}


@pytest.mark.parametrize(("check", "what", "status", "offending"), FAILING.values(), ids=FAILING)
def test_a_failed_check_quarantines_or_marks_as_suspect(
    tmp_path: Path, check: Check, what: Instance, status: int, offending: tuple[int, ...]
) -> None:
    with receiver(tmp_path / "refusing") as received:
        response = received.answer(what)
        assert response.status.code == status
        assert response.error_comment
        assert response.status.offending == offending
        assert files(received.root) == []
        assert quarantined(received) == [(status, bytes_of(what))]
        [entry] = entries(received.archive.paths.quarantine)
        assert entry.reason == check
    with receiver(tmp_path / "accepting", ArchiveOptions(checks=Checks({check: Policy.ACCEPT}))) as received:
        response = received.answer(what)
        assert response.status.code == 0xB007
        assert check in response.error_comment
        assert quarantined(received) == []
    [row] = rows(tmp_path / "accepting")
    assert row["state"] == "suspect"
    assert stored_bytes(tmp_path / "accepting" / str(row["path"])) == bytes_of(what)
    assert findings(tmp_path / "accepting") == []


def test_an_instance_outside_studies_needs_no_study(received: Receiver) -> None:
    hanging = sop_classes.find("HangingProtocolStorage")
    assert hanging is not None
    sent = [
        instance("1.2.3.5", study="", series="", sop_class=hanging.uid),
        instance("1.2.3.6", study="", series="", sop_class=PRIVATE_CLASS),
        instance("1.2.3.7", sop_class=PRIVATE_CLASS),
    ]
    assert received.send(*sent) == [0, 0, 0]
    assert files(received.root) == ["1.2.3/1.2.3.1/1.2.3.7.dcm", "_/_/1.2.3.5.dcm", "_/_/1.2.3.6.dcm"]
    received.close()
    assert findings(received.root) == []


# Names (rows F1 to F4, F8) ------------------------------------------------------------------------------------------

ON_THE_WIRE: Final = [
    text for text in HOSTILE if text.strip("\0 ") == text and text and all(ord(char) < 256 for char in text)
]


def send_raw(received: Receiver, uid: str, data: bytes) -> int:
    with ScriptedSCU("127.0.0.1", received.port) as peer:
        peer.associate(request=request(context(3, CT, EXPLICIT)))
        elements = store_elements() | {0x1000: uid.encode("latin-1")}
        peer.send(p_data(pdv(3, LAST_COMMAND, command_set(elements))), in_fragments(3, data, 16_000))
        status = peer.expect(CStoreRSP).command.status
        peer.release()
        return status


def test_f1_hostile_uids_are_refused(received: Receiver, tmp_path: Path) -> None:
    for text in ON_THE_WIRE:
        if not set(text) <= set("0123456789."):
            assert send_raw(received, text, bytes_of(instance(text))) in (0x0117, 0xA900), text
            assert send_raw(received, "1.2.3.4", bytes_of(instance(study=text))) == 0xA900, text
            assert send_raw(received, "1.2.3.4", bytes_of(instance(series=text))) == 0xA900, text
    assert files(received.root) == []
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_f1_hostile_uids_that_are_accepted_stay_inside_and_apart(tmp_path: Path) -> None:
    options = ArchiveOptions(checks=ACCEPTING, durability=Durability.FLUSH)
    sent: set[bytes] = set()
    with receiver(tmp_path / "archive", options) as received:
        for text in ON_THE_WIRE:
            if len(text) <= 64:
                data = bytes_of(instance(text))
                assert send_raw(received, text, data) in (0, 0xB007), text
                sent.add(data)
            data = bytes_of(instance("1.2.9", study=text, series=text))
            assert send_raw(received, "1.2.9", data) in (0, 0xB007), text
            sent.add(data)
    root = tmp_path / "archive"
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]
    assert {stored_bytes(root / name) for name in files(root)} == sent
    assert len(files(root)) == len(sent)
    assert findings(root) == []


LAYOUT: Final = "{patient_id}/{modality}-{study_date}/{calling}/{accession_number}_{class}/{instance}"


def test_f2_f3_hostile_fields_in_a_layout_stay_inside_and_apart(tmp_path: Path) -> None:
    options = ArchiveOptions(layout=Layout(LAYOUT), durability=Durability.FLUSH)
    texts = [
        text for text in dict.fromkeys((*ON_THE_WIRE, "a/b", "a_b", "\u202eabc"[1:], "x" * 300)) if "\\" not in text
    ]
    with receiver(tmp_path / "archive", options) as received:
        sent = [instance(patient=text, modality=text[:16].strip() or "x") for text in texts]
        assert received.send(*sent, calling="../..") == [0] * len(sent)
    root = tmp_path / "archive"
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]
    assert len(files(root)) == len({one["path"] for one in rows(root)}) == len(sent)
    assert {stored_bytes(root / name) for name in files(root)} == {bytes_of(one) for one in sent}
    assert all(len(name.split("/")) == 5 for name in files(root))
    assert all(len(part) < 256 for name in files(root) for part in name.split("/"))
    # Nothing else is wrong than that one study has all these patients.
    assert [found.kind for found in findings(root)] == [DiscrepancyKind.PATIENT_CONFLICT]


@pytest.mark.parametrize(
    "template",
    [
        "",
        "{study}",
        "{nothing}/{instance}",
        "/{instance}",
        "../{instance}",
        "a//{instance}",
        ".x/{instance}",
        "a\\{instance}",
    ],
)
def test_layouts_that_are_none(template: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Layout(template)


def test_equal_templates_make_equal_layouts() -> None:
    templates = ("{study}/{instance}", "{study}/{instance}", "{instance}")
    assert len({Layout(template) for template in templates}) == 2


def test_f4_a_link_planted_for_a_study_is_not_followed(received: Receiver, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (received.root / "1.2.3").symlink_to(outside)
    with received.association() as association:
        assert association.c_store(instance()).status.code == 0x0110
        assert association.c_store(instance(study="1.2.4")).status.code == 0x0000
    assert list(outside.iterdir()) == []
    assert left_over(received.root) == []


@pytest.mark.parametrize("durability", list(Durability))
@pytest.mark.parametrize("inside", [False, True])
def test_f4_a_link_planted_for_a_study_in_use_is_not_followed(
    tmp_path: Path, inside: bool, durability: Durability
) -> None:
    """Even if it leads to the folder that the receiver has been using."""
    with receiver(tmp_path / "archive", ArchiveOptions(durability=durability)) as received:
        study = received.root / "1.2.3"
        aside = received.root / "9.9" if inside else tmp_path / "aside"
        with received.association() as association:
            assert association.c_store(instance()).status.code == 0x0000
            study.rename(aside)
            study.symlink_to(aside)
            assert association.c_store(instance("1.2.3.5")).status.code == 0x0110
            study.unlink()
            assert association.c_store(instance("1.2.3.5")).status.code == 0x0000
        assert [path.name for path in aside.rglob("*.dcm")] == ["1.2.3.4.dcm"]
        assert [path.name for path in study.rglob("*.dcm")] == ["1.2.3.5.dcm"]
        assert left_over(received.root) == []


@pytest.mark.parametrize("durability", list(Durability))
@pytest.mark.parametrize("part", ["1.2.3", "1.2.3/1.2.3.1"])
def test_a_folder_removed_while_the_receiver_runs_is_created_again(
    tmp_path: Path, part: str, durability: Durability
) -> None:
    with receiver(tmp_path / "archive", ArchiveOptions(durability=durability)) as received:
        with received.association() as association:
            for uid in ("1.2.3.4", "1.2.3.5"):
                assert association.c_store(instance(uid)).status.code == 0x0000
                assert files(received.root) == [f"1.2.3/1.2.3.1/{uid}.dcm"]
                shutil.rmtree(received.root / part)
        assert left_over(received.root) == []


def test_a_layout_without_folders_stores_into_the_root(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", ArchiveOptions(layout=Layout("{instance}"))) as received:
        assert received.send(instance(), instance("1.2.3.5")) == [0x0000] * 2
        received.close()
        assert files(received.root) == ["1.2.3.4.dcm", "1.2.3.5.dcm"]
        assert findings(received.root) == []


@pytest.mark.parametrize("duplicates", list(Duplicates))
@pytest.mark.parametrize("target", ["the same data set", "another file", "nothing"])
def test_f4_a_link_planted_for_an_instance_is_not_followed(tmp_path: Path, target: str, duplicates: Duplicates) -> None:
    outside = tmp_path / "outside.dcm"
    with receiver(tmp_path / "archive", ArchiveOptions(duplicates=duplicates)) as received:
        path = received.root / NAME
        if target == "the same data set":
            assert received.send(instance()) == [0x0000]
            path.rename(outside)
        elif target == "another file":
            outside.write_bytes(b"precious")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(outside)
        before = outside.read_bytes() if outside.exists() else None
        expected = 0x0111 if duplicates is Duplicates.REJECT else 0x0000
        assert received.send(instance()) == [expected]
        assert (outside.read_bytes() if outside.exists() else None) == before
        stored = path if duplicates is Duplicates.REPLACE else path.with_name("1.2.3.4~2.dcm")
        if expected == 0:
            assert not stored.is_symlink()
            assert stored_bytes(stored) == bytes_of(instance())


def test_f8_data_like_a_program_are_quarantined_behind_a_zeroed_preamble(received: Receiver) -> None:
    for start in (b"MZ", b"\x7fELF", b'{"a": 1}'):
        assert send_raw(received, "1.2.3.4", start + bytes(62)) == 0xC210
    paths = sorted(received.archive.paths.quarantine.glob("*.dcm"))
    assert len(paths) == 3
    for path in paths:
        assert path.read_bytes()[:132] == bytes(128) + b"DICM"
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


# Quarantine ---------------------------------------------------------------------------------------------------------


def test_the_quarantine_is_bounded_in_size(tmp_path: Path) -> None:
    with receiver(tmp_path, ArchiveOptions(quarantine_bytes=62_000)) as received:
        sent = [instance(f"1.2.5.{number}", bytes([number, 0]) * 7000, said="1.2.6") for number in range(6)]
        assert received.send(*sent) == [0xA900] * 6
        assert [data for _, data in quarantined(received)] == [bytes_of(one) for one in sent[-3:]]
        assert received.send(instance("1.2.7", LONG, said="1.2.8")) == [0xA900]
        assert [data for _, data in quarantined(received)] == [bytes_of(instance("1.2.7", LONG))]
        assert len(list(received.archive.paths.quarantine.iterdir())) == 2


def test_the_quarantine_is_bounded_in_age(tmp_path: Path) -> None:
    with receiver(tmp_path, ArchiveOptions(quarantine_days=2.0)) as received:
        assert received.send(*(instance(f"1.2.5.{number}", said="1.2.6") for number in range(2))) == [0xA900] * 2
        oldest, _ = sorted(received.archive.paths.quarantine.glob("*.dcm"))
        entry = oldest.stat()
        os.utime(oldest, ns=(entry.st_atime_ns, entry.st_mtime_ns - 3 * 86_400 * 10**9))
        assert received.send(instance("1.2.5.7", said="1.2.6")) == [0xA900]
        assert not oldest.exists()
        assert len(quarantined(received)) == 2


def test_many_are_quarantined_at_once(tmp_path: Path) -> None:
    with receiver(tmp_path, ArchiveOptions(quarantine_bytes=20_000)) as received:
        statuses: list[int] = []
        what = [instance(f"1.2.5.{number}", bytes(4000), said="1.2.6") for number in range(20)]
        threads = [threading.Thread(target=lambda: statuses.extend(received.send(*what))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(statuses) == {0xA900}
        assert len(statuses) == 80
        assert left_over(tmp_path) == []
        assert 1 <= len(quarantined(received)) <= 5


# Hostile data sets (rows D1 to D8) ----------------------------------------------------------------------------------

PLAIN: Final = bytes_of(instance())


def nested(depth: int) -> bytes:
    """Nest sequences of undefined length, and end none of them but by the end of the whole."""
    start = header(EXPLICIT, 0x00400275, "SQ", UNDEFINED) + header(EXPLICIT, ITEM, "", UNDEFINED)
    end = header(EXPLICIT, 0xFFFEE00D, "", 0) + header(EXPLICIT, SEQUENCE_END, "", 0)
    return start * depth + end * depth


HOSTILE_DATA: Final = {
    "D2: sequences 400 deep": (PLAIN + nested(400), 0x0000),
    "D2: sequences 100,000 deep": (PLAIN + nested(100_000), 0x0000),
    "D3: file meta in the data set": (element(EXPLICIT, 0x00020010, "UI", b"1.2\0") + PLAIN, 0x0000),
    "D3: a strange VR with a huge length": (
        element(EXPLICIT, 0x00020001, "ZZ", b"")[:-2] + b"\xff\xff" + PLAIN,
        0xC210,
    ),
    "D4: a length beyond the end": (PLAIN + header(EXPLICIT, 0x7FE10010, "OB", 0xFFFFFFFE), 0xC210),
    "D4: unsorted, twice": (PLAIN + element(EXPLICIT, 0x00100020, "LO", b"AB") * 2, 0x0000),
    "D4: an over-long value": (PLAIN + element(EXPLICIT, 0x7FE10010, "LO", b"x" * 65_534), 0x0000),
    "D4: an odd length": (
        PLAIN + element(EXPLICIT, 0x7FE10010, "OB", b"x") + element(EXPLICIT, 0x7FE10011, "OB", b"x"),
        0,
    ),
    "D5: a bad item tag": (
        PLAIN + element(EXPLICIT, 0x7FE10010, "SQ", header(EXPLICIT, 0x00000000, "", 0)),
        0x0000,
    ),
    "D6: no UIDs at all": (element(EXPLICIT, 0x00100020, "LO", b"AB"), 0xA900),
    **{f"D6: {size} bytes": (PLAIN[:size], 0xC210) for size in range(1, 8)},
    "D6: in another syntax": (
        element(IMPLICIT, 0x00080016, "UI", CT.encode() + b"\0") + element(IMPLICIT, 0x00080018, "UI", b"1.2.3.4\0"),
        0xC210,
    ),
}


@pytest.mark.parametrize(("data", "expected"), HOSTILE_DATA.values(), ids=HOSTILE_DATA)
def test_d2_d3_d4_d5_d6_data_sets_are_stored_or_quarantined_byte_for_byte(
    received: Receiver, data: bytes, expected: int
) -> None:
    assert send_raw(received, "1.2.3.4", data) == expected
    if expected == 0:
        assert stored_bytes(received.root / NAME) == data
    else:
        assert quarantined(received) == [(expected, data)]
    assert send_raw(received, "1.2.3.5", bytes_of(instance("1.2.3.5"))) == 0x0000
    # A data set that begins like File Meta Information does not confuse later readers of the file.
    assert send_raw(received, "1.2.3.4", data) == expected
    received.close()
    assert len(files(received.root)) == (2 if expected == 0 else 1)
    assert findings(received.root) == []


def test_d1_a_deflated_bomb_is_stored_as_it_is(received: Receiver) -> None:
    bomb = deflate(PLAIN + element(EXPLICIT, 0x7FE10010, "OB", bytes(64 << 20)))
    with blocking.associate("127.0.0.1", received.port, contexts=[(CT, DEFLATED)]) as association:
        assert association.c_store(Instance(CT, "1.2.3.4", DEFLATED, bomb)).status.code == 0x0000
    assert stored_bytes(received.root / NAME) == bomb


@pytest.mark.parametrize(
    "character_set", ["ISO 2022 IR 100\\ISO 2022 IR 144", "ISO 2022 IR 87", "ISO 2022 IR 6", "NONE", "{}", "\\"]
)
def test_d7_a_character_set_has_no_effect_on_reception(received: Receiver, character_set: str) -> None:
    raw = character_set.encode()
    data = element(EXPLICIT, 0x00080005, "CS", raw + b" " * (len(raw) % 2)) + PLAIN
    data += element(EXPLICIT, 0x7FE10010, "PN", b"{0}\x1b$B=={!")
    assert send_raw(received, "1.2.3.4", data) == 0x0000
    assert stored_bytes(received.root / NAME) == data


@pytest.mark.parametrize("fragment", [100, 16_384, 1 << 20])
def test_d8_in_pdus_of_any_size(received: Receiver, fragment: int) -> None:
    data = bytes_of(instance(pixels=LONG[: 60_000 if fragment == 100 else len(LONG)]))
    with ScriptedSCU("127.0.0.1", received.port) as peer:
        peer.associate(request=request(context(3, CT, EXPLICIT)))
        # The receiver announces less than 1 MiB; larger fragments are the sender's fault, so they are cut.
        command = p_data(pdv(3, LAST_COMMAND, command_set(store_elements())))
        peer.send(command, in_fragments(3, data, min(fragment, 65_000)))
        assert peer.expect(CStoreRSP).command.status == 0x0000
    assert stored_bytes(received.root / NAME) == data


def test_names_of_a_layout_leave_room_for_the_number_of_a_duplicate(tmp_path: Path) -> None:
    """Each part is at most 255 bytes long, and differs where the fields differ."""
    layout = Layout("ä" * 100 + "{patient_id}{accession_number}{modality}/{patient_id}{study}{series}{instance}")
    patients = ["Ä" * 30 + "1", "Ä" * 30 + "2"]
    with receiver(tmp_path, ArchiveOptions(layout=layout)) as received:
        for patient in patients:
            for pixels in (b"1234", b"5678"):
                assert received.send(instance(patient=patient, pixels=pixels, study=f"1.{patient[-1] * 60}")) == [0]
    stored = files(tmp_path)
    assert len(stored) == 4
    assert sum("~2.dcm" in name for name in stored) == 2
    assert len({Path(name).parent for name in stored}) == 2
    assert {len(part.encode()) for name in stored for part in Path(name).parts} <= set(range(256))
    assert findings(tmp_path) == []


def test_a_process_killed_while_it_tries_calls_leaves_nothing(tmp_path: Path) -> None:
    with receiver(tmp_path) as first:
        left = tmp_path / ".dicomport" / "sessions" / ".0123456789abcdef.part"
        left.write_bytes(b"probe")
        assert first.send(instance()) == [0]
    with receiver(tmp_path):
        assert not left.exists()
    assert files(tmp_path) == [NAME]


def test_a_closed_archive_has_no_threads(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    archive = Archive(tmp_path)
    assert {thread.name for thread in set(threading.enumerate()) - before} >= {
        "dicomport-committer",
        "dicomport-indexer",
    }
    archive.close()
    assert set(threading.enumerate()) <= before

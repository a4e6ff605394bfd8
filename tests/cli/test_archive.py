"""`dicomport archive`: list, show, verify, reindex, export and remove received instances."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.archive.sending import instance, receiver as in_process
from tests.cli.commands import FILES, dicomport, receiver, start

from dicomport.cli.archive import archive
from dicomport.files import read_part10

CT, MR, ECG = FILES / "CT_small.dcm", FILES / "MR_small.dcm", FILES / "waveform_ecg.dcm"
TRUNCATED = FILES / "MR_truncated.dcm"
CT_STUDY = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"
CT_INSTANCE = "1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filled") / "archive"
    with receiver(root) as found:
        sent = dicomport("storescu", "-aet", "SCANNER", "localhost", found.port, CT, MR, ECG, TRUNCATED)
        assert sent.returncode == 1
        assert "0xC210" in sent.stderr
        assert found.stop()[0] == 0
    return root


def rows(*arguments: str | Path) -> list[dict[str, object]]:
    """Return the objects that a command prints; it runs in this process, which is faster."""
    done = CliRunner().invoke(archive, [*map(str, arguments), "--json"], standalone_mode=False)
    assert (done.return_value, done.exception) == (0, None), done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_studies_are_listed_with_their_patients(filled: Path) -> None:
    studies = {row["study_instance_uid"]: row for row in rows("ls", "--archive", filled)}
    assert len(studies) == 3
    ct = studies[CT_STUDY]
    assert (ct["patient_id"], ct["patient_name"], ct["study_date"]) == ("1CT1", "CompressedSamples^CT1", "20040119")
    assert (ct["number_of_series"], ct["number_of_instances"], ct["size"]) == (1, 1, 38870)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--patient-id", "1CT1"), 1),
        (("--patient-id", "nobody"), 0),
        (("--study", CT_STUDY), 1),
        (("--date", "20040119"), 1),
        (("--date", "20040101-20041231"), 2),
        (("--date", "20040201-20041231"), 1),
        (("--date", "20040827-"), 1),
        (("--date", "-20040826"), 2),
        (("--modality", "MR"), 1),
        (("--ae", "SCANNER"), 3),
        (("--ae", "OTHER"), 0),
    ],
)
def test_studies_are_filtered(filled: Path, options: tuple[str, ...], expected: int) -> None:
    assert len(rows("ls", "--archive", filled, *options)) == expected


@pytest.mark.parametrize("date", ["2004", "2004-01-19", "20040132", "20040101-2005", "-", "20041231-20040101"])
def test_an_invalid_date_is_wrong_usage_instead_of_an_empty_list(filled: Path, date: str) -> None:
    done = dicomport("archive", "ls", "--archive", filled, "--date", date)
    assert done.returncode == 2
    assert f"'{date}' is not a date or a range; expected YYYYMMDD or YYYYMMDD-YYYYMMDD" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "no studies in the archive"),
        (("--level", "series"), "no series in the archive"),
        (("--ae", "NOBODY"), "no studies match the filters"),
        (("--quarantine",), "no instances in quarantine"),
    ],
)
def test_an_empty_list_is_explained_instead_of_an_empty_table(
    options: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with in_process(tmp_path / "archive"):
        pass
    done = dicomport("archive", "ls", "--archive", tmp_path / "archive", *options)
    assert (done.returncode, done.stdout) == (0, "")
    assert message in done.stderr
    as_json = CliRunner().invoke(archive, ["ls", "--archive", str(tmp_path / "archive"), *options, "--json"])
    assert as_json.output == ""


def test_series_and_instances_are_listed_as_a_table_for_people(filled: Path) -> None:
    series = dicomport("archive", "ls", "--archive", filled, "--level", "series", "--study", CT_STUDY)
    assert "1.3.6.1.4.1.5962.1.3.1.1.20040119072730.12322" in series.stdout
    instances = dicomport("archive", "ls", "--archive", filled, "--level", "instances", "--study", CT_STUDY)
    assert "CT Image Storage" in instances.stdout
    assert "SCANNER" in instances.stdout
    assert CT_INSTANCE in instances.stdout


def test_a_refused_instance_is_in_quarantine_byte_for_byte(filled: Path) -> None:
    (entry,) = rows("ls", "--archive", filled, "--quarantine")
    assert (entry["reason"], entry["status"], entry["calling_ae_title"]) == ("whole", 0xC210, "SCANNER")
    kept, source = read_part10(filled / ".dicomport" / "quarantine" / str(entry["file"])), read_part10(TRUNCATED)
    assert [bytes(c) for c in kept.chunks(1 << 20)] == [bytes(c) for c in source.chunks(1 << 20)]
    assert "whole" in dicomport("archive", "ls", "--archive", filled, "--quarantine").stdout


def test_an_instance_is_shown_with_all_that_is_known(filled: Path) -> None:
    (shown,) = rows("show", CT_INSTANCE, "--archive", filled)
    assert Path(str(shown["path"])).is_file()
    assert (shown["state"], shown["rows"], shown["address"]) == ("stored", 128, "127.0.0.1")
    text = dicomport("archive", "show", CT_STUDY, "--archive", filled).stdout
    assert CT_INSTANCE in text
    missing = dicomport("archive", "show", "1.2.3", "--archive", filled)
    assert missing.returncode == 1
    assert "UID 1.2.3 is not in the archive" in missing.stderr


def test_a_study_of_two_patients_is_shown_as_a_conflict(tmp_path: Path) -> None:
    with in_process(tmp_path) as received:
        assert received.send(instance("1.2.3.4", patient="A"), instance("1.2.3.5", patient="B")) == [0, 0]
    studies = rows("ls", "--archive", tmp_path)
    assert [(row["patient_id"], row["patient_conflict"]) for row in studies] == [("A", True), ("B", True)]
    assert [len(rows("ls", "--archive", tmp_path, "--patient-id", patient)) for patient in "ABC"] == [1, 1, 0]
    assert dicomport("archive", "ls", "--archive", tmp_path).stdout.count("several patients") == 2
    shown = dicomport("archive", "show", "1.2.3", "--archive", tmp_path).stdout
    assert re.findall(r"^patient_id +(.*)$", shown, re.MULTILINE) == ["A", "B"]
    assert re.findall(r"^patient_conflict +(.*)$", shown, re.MULTILINE) == ["True", "True"]


def test_reindex_replaces_an_index_of_an_older_version(tmp_path: Path) -> None:
    with in_process(tmp_path) as received:
        assert received.send(instance()) == [0]
    with contextlib.closing(sqlite3.connect(tmp_path / ".dicomport" / "index.sqlite")) as database:
        database.execute("PRAGMA user_version = 1")
    for command in (("ls",), ("show", "1.2.3"), ("verify",), ("export", "1.2.3", tmp_path / "out")):
        done = dicomport("archive", *command, "--archive", tmp_path)
        assert done.returncode == 1
        assert "older schema 1: run" in done.stderr
        assert "Traceback" not in done.stderr
    assert "older schema 1: run" in dicomport("storescp", "0", "--archive", tmp_path).stderr
    assert dicomport("archive", "reindex", "--archive", tmp_path).returncode == 0
    assert len(rows("ls", "--archive", tmp_path)) == 1


def test_a_study_is_exported_as_a_folder_and_as_a_zip_file(filled: Path, tmp_path: Path) -> None:
    source = next(filled.glob(f"{CT_STUDY}/*/*.dcm"))
    folder, zipped = tmp_path / "out", tmp_path / "out.zip"
    assert dicomport("archive", "export", CT_STUDY, folder, "--archive", filled).returncode == 0
    assert (folder / source.relative_to(filled)).read_bytes() == source.read_bytes()
    assert dicomport("archive", "export", CT_STUDY, zipped, "--archive", filled).returncode == 0
    with zipfile.ZipFile(zipped) as opened:
        assert opened.read(source.relative_to(filled).as_posix()) == source.read_bytes()
    again = dicomport("archive", "export", CT_STUDY, folder, "--archive", filled)
    assert again.returncode == 1
    assert "exists: choose a new folder or zip file" in again.stderr
    assert dicomport("archive", "export", "1.2.3", tmp_path / "none", "--archive", filled).returncode == 1


def test_an_export_to_a_place_that_cannot_be_is_reported(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = dicomport("archive", "export", CT_STUDY, tmp_path / "file" / "out", "--archive", filled)
    [line] = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith(str(tmp_path / "file"))
    assert line.endswith(": Not a directory")


def test_reindex_in_json_prints_discrepancies_alone(filled: Path, tmp_path: Path) -> None:
    root = shutil.copytree(filled, tmp_path / "archive")
    done = dicomport("archive", "reindex", "--archive", root, "--json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (root / "stray.dcm").write_bytes(b"no instance")
    done = dicomport("archive", "reindex", "--archive", root, "--json")
    assert done.returncode == 1
    [line] = done.stdout.splitlines()
    assert json.loads(line)["path"] == "stray.dcm"
    assert done.stderr == ""


def test_a_damaged_study_is_not_exported_and_the_message_names_the_file(filled: Path, tmp_path: Path) -> None:
    root = shutil.copytree(filled, tmp_path / "archive")
    source = next(root.glob(f"{CT_STUDY}/*/*.dcm"))
    source.write_bytes(source.read_bytes()[:-2] + b"??")
    damaged = dicomport("archive", "export", CT_STUDY, tmp_path / "out", "--archive", root)
    assert damaged.returncode == 1
    assert f"was not exported: {source.relative_to(root)} does not match its digest" in damaged.stderr
    assert "archive verify" in damaged.stderr
    assert not (tmp_path / "out").exists()


def test_verify_finds_nothing_and_then_each_kind_of_damage(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    with receiver(root) as found:
        assert dicomport("storescu", "localhost", found.port, CT, MR, ECG).returncode == 0
        found.stop()
    clean = dicomport("archive", "verify", "--archive", root)
    assert (clean.returncode, clean.stderr) == (0, "no discrepancies\n")

    changed, missing, _ = sorted(root.glob("[!.]*/*/*.dcm"))
    data = bytearray(changed.read_bytes())
    data[-1] ^= 1
    changed.write_bytes(data)
    missing.unlink()
    (root / "stray.dcm").write_bytes(CT.read_bytes())
    done = dicomport("archive", "verify", "--archive", root, "--json")
    assert done.returncode == 1
    findings = {row["path"]: row["discrepancy"] for row in map(json.loads, done.stdout.splitlines())}
    assert findings == {
        changed.relative_to(root).as_posix(): "the data set differs from the received data set",
        missing.relative_to(root).as_posix(): "in the index, but the file does not exist",
        "stray.dcm": "the file exists, but it is not in the index",
    }
    text = dicomport("archive", "verify", "--archive", root)
    assert "3 discrepancies" in text.stderr


def test_reindex_gives_the_same_as_before(filled: Path) -> None:
    levels = ("studies", "series", "instances")
    before = [rows("ls", "--archive", filled, "--level", level) for level in levels]
    with sqlite3.connect(filled / ".dicomport" / "index.sqlite") as database:
        database.execute("DELETE FROM instances")
    assert rows("ls", "--archive", filled, "--level", "instances") == []
    done = dicomport("archive", "reindex", "--archive", filled)
    assert (done.returncode, done.stderr) == (0, "3 instances in the index\n")
    assert [rows("ls", "--archive", filled, "--level", level) for level in levels] == before


def test_a_killed_receiver_leaves_nothing_to_find(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    with receiver(root) as found:
        assert dicomport("storescu", "localhost", found.port, CT, MR).returncode == 0
        found.stop(signal.SIGKILL)
    assert dicomport("archive", "verify", "--archive", root).returncode == 0
    assert len(rows("ls", "--archive", root, "--level", "instances")) == 2
    assert not list((root / ".dicomport" / "sessions").glob("session-*"))


@pytest.mark.parametrize("command", [("ls",), ("show", "1.2"), ("verify",), ("reindex",), ("export", "1.2", "out")])
def test_no_archive_is_explained(command: tuple[str, ...], tmp_path: Path) -> None:
    done = dicomport("archive", *command, "--archive", tmp_path / "nowhere", cwd=tmp_path)
    assert done.returncode == 1
    assert "no archive in" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        (("--layout", "{study}/{nonsense}"), "unknown field {nonsense} in a layout"),
        (("--layout", "{study}"), "needs {instance}"),
        (("--check", "whole=perhaps"), "is not one of"),
        (("--min-free", "much"), "is not a valid size"),
        (("--duplicates", "lose"), "is not one of"),
    ],
)
def test_wrong_options_of_the_archive_are_wrong_usage(option: tuple[str, str], complaint: str, tmp_path: Path) -> None:
    done = dicomport("storescp", "0", "--archive", tmp_path / "archive", *option)
    assert done.returncode == 2
    assert complaint in done.stderr


def test_accept_anyway_stores_with_a_warning(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", "--accept-anyway") as found:
        sent = dicomport("storescu", "--json", "localhost", found.port, TRUNCATED)
    (row,) = map(json.loads, sent.stdout.splitlines())
    assert (sent.returncode, row["status"], row["category"]) == (0, 0xB007, "Warning")
    assert len(found.kept()) == 1


def test_a_layout_decides_where_instances_go(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", "--layout", "{calling}/{modality}-{study_date}/{instance}") as found:
        assert dicomport("storescu", "-aet", "A", "localhost", found.port, CT).returncode == 0
    (path,) = found.kept()
    assert path.parent.relative_to(found.archive).as_posix() == "_41/_43_54-20040119"


def test_verify_reads_at_a_limited_rate(filled: Path) -> None:
    """With a byte per second, the first part of the first file already needs hours."""
    assert dicomport("archive", "verify", "--archive", filled, "--rate", "100GB").returncode == 0
    assert dicomport("archive", "verify", "--archive", filled, "--rate", "0").returncode == 2
    slow = start("archive", "verify", "--archive", filled, "--rate", "1")
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            slow.communicate(timeout=3)
    finally:
        slow.kill()
        slow.communicate()


@pytest.mark.parametrize("options", [("--patient-id", "1CT1"), ("--ae", "X"), ("--level", "instances")])
def test_filters_of_the_quarantine_are_refused_instead_of_ignored(filled: Path, options: tuple[str, ...]) -> None:
    done = dicomport("archive", "ls", "--archive", filled, "--quarantine", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--quarantine lists all quarantined instances: remove --level and the filters" in done.stderr

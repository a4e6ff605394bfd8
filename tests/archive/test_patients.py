"""Patients in the index: kept for each instance, and a study of several patients is a named conflict."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.archive.sending import instance, receiver, rows

from dicomport.archive import Archive, ArchiveOptions, Duplicates, Filters, Index, Paths, SchemaError, open_archive
from dicomport.files import Durability
from dicomport.scu import Instance

FLUSH = ArchiveOptions(durability=Durability.FLUSH)


@contextlib.contextmanager
def index_of(root: Path) -> Iterator[Index]:
    index = Index(Paths(root.resolve()).index)
    try:
        yield index
    finally:
        index.close()


def test_f14_another_patient_id_does_not_move_the_study(tmp_path: Path) -> None:
    with receiver(tmp_path, FLUSH) as received:
        sent = [instance(f"1.2.3.{number}", patient="A") for number in range(4, 8)]
        assert received.send(*sent, instance("1.2.3.9", patient="B")) == [0] * 5
    with index_of(tmp_path) as index:
        of_a, of_b = (index.studies(Filters(patient_id=patient)) for patient in "AB")
        assert [(row["patient_id"], row["patient_name"], row["number_of_instances"]) for row in of_a + of_b] == [
            ("A", "Name^A", 4),
            ("B", "Name^B", 1),
        ]
    assert {row["sop_instance_uid"]: row["patient_id"] for row in rows(tmp_path)} == {
        **{f"1.2.3.{number}": "A" for number in range(4, 8)},
        "1.2.3.9": "B",
    }


def test_a_study_under_two_patients_is_a_conflict_and_another_is_none(tmp_path: Path) -> None:
    with receiver(tmp_path, FLUSH) as received:
        sent = [instance("1.1", patient="A"), instance("1.2", patient="B"), instance("1.3", patient="")]
        assert received.send(*sent) == [0, 0, 0]
        others = [instance("2.1", patient="A", study="1.9"), instance("2.2", patient="", study="1.9")]
        assert received.send(*others) == [0, 0]
    with index_of(tmp_path) as index:
        assert [
            (row["study_instance_uid"], row["patient_id"], row["patient_conflict"]) for row in index.studies(Filters())
        ] == [
            ("1.2.3", "", False),
            ("1.2.3", "A", True),
            ("1.2.3", "B", True),
            ("1.9", "", False),
            ("1.9", "A", False),
        ]
        assert [(row["patient_id"], row["patient_conflict"]) for row in index.find("1.1", "2.1")] == [
            ("A", True),
            ("A", False),
        ]


def test_a_replaced_instance_ends_the_conflict(tmp_path: Path) -> None:
    with receiver(tmp_path, ArchiveOptions(duplicates=Duplicates.REPLACE)) as received:
        assert received.send(instance("1.1", patient="A"), instance("1.2", patient="B")) == [0, 0]
        assert received.send(instance("1.2", patient="A")) == [0]
    with index_of(tmp_path) as index:
        [study] = index.studies(Filters())
    assert (study["patient_id"], study["patient_conflict"], study["number_of_instances"]) == ("A", False, 2)


@pytest.mark.parametrize(
    ("odd", "filters"),
    [
        (instance("1.9", date="19990101"), Filters(study_date="20260102")),
        (instance("1.9", modality="MR"), Filters(modality="CT")),
    ],
    ids=["date", "modality"],
)
def test_another_date_or_modality_does_not_hide_the_study(tmp_path: Path, odd: Instance, filters: Filters) -> None:
    with receiver(tmp_path, FLUSH) as received:
        assert received.send(instance("1.1"), instance("1.2"), odd) == [0, 0, 0]
    with index_of(tmp_path) as index:
        [study] = index.studies(filters)
        assert study["number_of_instances"] == 2
        [whole] = index.studies(Filters())
        assert whole["number_of_instances"] == 3


def test_states_are_those_of_a_rebuilt_index_after_a_replacement(tmp_path: Path) -> None:
    with receiver(tmp_path, FLUSH) as received:
        assert received.send(instance("1.1", b"\1\1"), instance("1.1", b"\2\2")) == [0, 0]
    assert [row["state"] for row in rows(tmp_path)] == ["stored", "conflict"]
    with receiver(tmp_path, ArchiveOptions(duplicates=Duplicates.REPLACE)) as received:
        assert received.send(instance("1.1", b"\3\3")) == [0]
    assert [row["state"] for row in rows(tmp_path)] == ["conflict", "stored"]


def test_an_index_of_an_older_version_names_the_command_that_rebuilds_it(tmp_path: Path) -> None:
    with receiver(tmp_path, FLUSH) as received:
        assert received.send(instance()) == [0]
    with contextlib.closing(sqlite3.connect(Paths(tmp_path.resolve()).index)) as database:
        database.execute("PRAGMA user_version = 1")
    with pytest.raises(SchemaError, match="older schema 1: run dicomport archive reindex"):
        Archive(tmp_path)
    with pytest.raises(SchemaError, match="run dicomport archive reindex"), open_archive(tmp_path):
        pass

"""The registry of storage SOP classes."""

import copy
import csv
from pathlib import Path

import pytest
from pydicom._uid_dict import UID_dictionary

from dicomport.standard import SOPClass, SOPClasses, describe, sop_classes

REFERENCE = Path(__file__).parents[2] / "tools" / "reference_storage_classes.csv"
with REFERENCE.open(newline="") as _file:
    ROWS = [(row["uid"], row["alias"], row["iod"]) for row in csv.DictReader(_file)]

MISPRINTS = {
    "1.2.840.10008.5.1.4.1.1.1.1.1.1": "DigitalXRayImageStorageForProcessing",
    "1.2.840.10008.5.1.1.4.1.1.3.1": "DigitalIntraOralXRayImageStorageForProcessing",
}
VERIFICATION = "1.2.840.10008.1.1"


def test_reference_has_136_rows() -> None:
    assert len(ROWS) == len({uid for uid, *_ in ROWS}) == 136


@pytest.mark.parametrize(("uid", "alias", "iod"), ROWS)
def test_every_row_of_the_reference_resolves(uid: str, alias: str, iod: str) -> None:
    found = sop_classes.find(alias)
    assert found is not None
    assert found is sop_classes.find(uid)
    assert found is sop_classes.find(found.keyword)
    assert found is getattr(sop_classes, alias)
    assert found.iod == iod
    assert not found.retired
    assert found.aliases == (() if alias == found.keyword else (alias,))
    assert (found.uid == uid) is (uid not in MISPRINTS)


@pytest.mark.parametrize(("uid", "keyword"), MISPRINTS.items())
def test_a_misprinted_uid_is_known_but_never_proposed(uid: str, keyword: str) -> None:
    right: SOPClass = getattr(sop_classes, keyword)
    assert sop_classes.misprint_of(uid) is right
    assert sop_classes.misprint_of(right.uid) is None
    assert sop_classes.is_storage(uid)
    assert uid not in sop_classes
    assert uid not in UID_dictionary
    assert describe(uid) == f"{right.name} (misprinted UID)"


def test_counts() -> None:
    assert len(sop_classes) == 205
    assert sum(found.retired for found in sop_classes) == 20


def test_classes_are_in_the_order_of_their_uids() -> None:
    numbers = [[int(part) for part in found.uid.split(".")] for found in sop_classes]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("uid", UID_dictionary)
def test_every_uid_of_pydicom_is_either_storage_or_something_else(uid: str) -> None:
    name, _, _, retired, keyword = UID_dictionary[uid]
    found = sop_classes.find(uid)
    if found:
        assert (found.uid, found.keyword, found.name, found.retired) == (uid, keyword, name, bool(retired))
        assert uid in sop_classes
        assert sop_classes.is_storage(uid)
        assert sop_classes.known_as_other(uid) is None
        assert getattr(sop_classes, keyword) is found
    else:
        assert uid not in sop_classes
        assert not sop_classes.is_storage(uid)
        assert sop_classes.known_as_other(uid) == (name or None)
        assert sop_classes.find(keyword) is None
    assert describe(uid) == (name or uid)


def test_only_nameless_uids_are_neither() -> None:
    neither = [uid for uid in UID_dictionary if not (uid in sop_classes or sop_classes.known_as_other(uid))]
    assert neither == ["1.2.840.10008.5.1.4.1.1.12.77", "1.2.840.10008.5.1.4.1.1.40"]


@pytest.mark.parametrize(
    ("uid", "name"),
    [
        (VERIFICATION, "Verification SOP Class"),
        ("1.2.840.10008.1.20.1", "Storage Commitment Push Model SOP Class"),
        ("1.2.840.10008.5.1.4.1.2.2.1", "Study Root Query/Retrieve Information Model - FIND"),
        ("1.2.840.10008.5.1.1.9", "Basic Grayscale Print Management Meta SOP Class"),
        ("1.2.840.10008.4.2", "Storage Service Class"),
        ("1.2.840.10008.1.2.1", "Explicit VR Little Endian"),
        ("1.2.840.10008.3.1.1.1", "DICOM Application Context Name"),
    ],
)
def test_known_as_something_else(uid: str, name: str) -> None:
    assert sop_classes.known_as_other(uid) == name
    assert not sop_classes.is_storage(uid)


def test_unknown_uids_may_be_storage_classes() -> None:
    for uid in ("1.3.46.670589.11.0.0.12.1", "1.2.840.10008.5.1.4.1.1.999", ""):
        assert sop_classes.known_as_other(uid) is None
        assert sop_classes.find(uid) is None
        assert describe(uid) == uid


def test_a_wrong_name_is_explained() -> None:
    with pytest.raises(AttributeError, match="'CTImageStorag' is not a keyword of a storage SOP class") as error:
        _ = sop_classes.CTImageStorag
    assert error.value.name == "CTImageStorag"  # with these two Python suggests the right keyword
    assert error.value.obj is sop_classes


def test_dir_lists_keywords_and_no_aliases() -> None:
    names = dir(sop_classes)
    assert {found.keyword for found in sop_classes} < set(names)
    assert "register" in names
    assert "ProcedureSRStorage" not in names


def test_a_private_class_is_registered_in_one_registry() -> None:
    registry = SOPClasses()
    private = registry.register("1.3.46.670589.11.0.0.12.1", "PrivateMRSpectrumStorage", "Private MR Spectrum")
    assert private == SOPClass("1.3.46.670589.11.0.0.12.1", "PrivateMRSpectrumStorage", "Private MR Spectrum")
    assert registry.find(private.uid) is registry.PrivateMRSpectrumStorage is private
    assert private.uid in registry
    assert registry.is_storage(private.uid)
    assert registry.describe(private.uid) == "Private MR Spectrum"
    assert [*registry][-1] is private
    assert len(registry) == 206
    assert private.keyword in dir(registry)
    assert private.uid not in sop_classes
    assert sop_classes.find(private.keyword) is None


def test_a_private_class_is_named_by_its_keyword_unless_told() -> None:
    assert SOPClasses().register("1.2.3", "MyStorage").name == "MyStorage"


@pytest.mark.parametrize("uid", ["1.2", "0.0", "2.25." + "9" * 59, "1.2.0.3"])
def test_valid_uids(uid: str) -> None:
    assert SOPClasses().register(uid, "MyStorage").uid == uid


@pytest.mark.parametrize(
    "uid",
    ["", "1", "1.", ".1", "1..2", "1.02", "3.1", "1.2 ", "1.2\0", "1.2.x", "1.2.-3", "1.2.²", "1.2.٣", "1." + "9" * 63],
)
def test_invalid_uids(uid: str) -> None:
    registry = SOPClasses()
    with pytest.raises(ValueError, match="is not a valid UID"):
        registry.register(uid, "MyStorage")
    assert len(registry) == 205


@pytest.mark.parametrize("uid", ["1.2.840.10008.5.1.4.1.1.2", *MISPRINTS, VERIFICATION])
def test_a_taken_uid(uid: str) -> None:
    with pytest.raises(ValueError, match="is already registered: "):
        SOPClasses().register(uid, "MyStorage")


@pytest.mark.parametrize("keyword", ["CTImageStorage", "ProcedureSRStorage"])
def test_a_taken_keyword(keyword: str) -> None:
    registry = SOPClasses()
    with pytest.raises(ValueError, match=f"{keyword} is already registered: 1.2.840.10008"):
        registry.register("1.2.3", keyword)
    assert "1.2.3" not in registry


@pytest.mark.parametrize("keyword", ["", "My Storage", "2D", "_private", "__len__", "register", "find"])
def test_a_keyword_that_can_be_no_attribute(keyword: str) -> None:
    with pytest.raises(ValueError, match="is not a valid keyword"):
        SOPClasses().register("1.2.3", keyword)


def test_registering_twice_is_a_clash() -> None:
    registry = SOPClasses()
    registry.register("1.2.3", "MyStorage")
    with pytest.raises(ValueError, match=r"1\.2\.3 is already registered: MyStorage"):
        registry.register("1.2.3", "OtherStorage")
    with pytest.raises(ValueError, match=r"MyStorage is already registered: 1\.2\.3"):
        registry.register("1.2.4", "MyStorage")


def test_a_registry_can_be_copied() -> None:
    registry = copy.deepcopy(sop_classes)
    registry.register("1.2.3", "MyStorage")
    assert "1.2.3" not in sop_classes

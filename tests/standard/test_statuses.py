"""Statuses: every code has a category, and only Success and Warning are accepted."""

import pytest
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS, code_to_category

from dicomport import standard
from dicomport.standard import OUT_OF_RESOURCES, SUCCESS, Category, Status

ALL_CODES = range(0x10000)
F, W = Category.FAILURE, Category.WARNING


@pytest.mark.parametrize(
    ("name", "code", "category", "source"),
    [
        ("SUCCESS", 0x0000, Category.SUCCESS, "PS3.7 C.1.1"),
        ("PROCESSING_FAILURE", 0x0110, F, "PS3.7 C.5.21"),
        ("INVALID_OBJECT_INSTANCE", 0x0117, F, "PS3.7 C.5.12"),
        ("SOP_CLASS_NOT_SUPPORTED", 0x0122, F, "PS3.7 C.5.6"),
        ("NOT_AUTHORIZED", 0x0124, F, "PS3.7 C.5.25"),
        ("DUPLICATE_INVOCATION", 0x0210, F, "PS3.7 C.5.9"),
        ("UNRECOGNIZED_OPERATION", 0x0211, F, "PS3.7 C.5.23"),
        ("MISTYPED_ARGUMENT", 0x0212, F, "PS3.7 C.5.15"),
        ("OUT_OF_RESOURCES", 0xA700, F, "PS3.4 B.2.3"),
        ("DATA_SET_DOES_NOT_MATCH", 0xA900, F, "PS3.4 B.2.3"),
        ("CANNOT_UNDERSTAND", 0xC000, F, "PS3.4 B.2.3"),
        ("COERCION", 0xB000, W, "PS3.4 B.2.3"),
        ("ELEMENTS_DISCARDED", 0xB006, W, "PS3.4 B.2.3"),
        ("DATA_SET_DOES_NOT_MATCH_WARNING", 0xB007, W, "PS3.4 B.2.3"),
        ("HANDLER_STATUS_MISSING", 0xC001, F, "dicomport"),
        ("HANDLER_STATUS_INVALID", 0xC002, F, "dicomport"),
        ("UNDECODABLE_DATA_SET", 0xC210, F, "dicomport"),
        ("HANDLER_RAISED", 0xC211, F, "dicomport"),
    ],
)
def test_named_statuses(name: str, code: int, category: Category, source: str) -> None:
    status = getattr(standard, name)
    assert int(status) == status.code == code
    assert status.category is category
    assert status.source == source
    assert status.accepted is (category is not F)
    assert status == Status(code)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0x0000, "0x0000 Success: Done"),
        (0x0122, "0x0122 Failure: SOP class not supported"),
        (0x0112, "0x0112 Failure: No such SOP instance (some peers mean: SOP class not supported)"),
        (0xA700, "0xA700 Failure: Out of resources"),
        (0xA7FF, "0xA7FF Failure: Out of resources"),
        (0xA800, "0xA800 Failure: Unknown failure"),
        (0xA900, "0xA900 Failure: Data set does not match SOP class"),
        (0xA9FF, "0xA9FF Failure: Data set does not match SOP class"),
        (0xB006, "0xB006 Warning: Elements discarded"),
        (0xB007, "0xB007 Warning: Data set does not match SOP class"),
        (0xB123, "0xB123 Warning: Unknown warning"),
        (0xC123, "0xC123 Failure: Cannot understand"),
        (0xCFFF, "0xCFFF Failure: Cannot understand"),
        (0xFE00, "0xFE00 Cancel: Canceled as asked"),
        (0xFF00, "0xFF00 Pending: More responses follow"),
        (0xFF02, "0xFF02 Failure: Unknown status"),
        (0x0002, "0x0002 Failure: Unknown status"),
        (0xD000, "0xD000 Failure: Unknown status"),
        (0xFFFF, "0xFFFF Failure: Unknown status"),
    ],
)
def test_text(code: int, text: str) -> None:
    assert str(Status(code)) == text


def rule(code: int) -> Category:
    """Classify a code by PS3.7 Annex C, typed independently."""
    exact = {0x0000: Category.SUCCESS, 0xFE00: Category.CANCEL, 0xFF00: Category.PENDING, 0xFF01: Category.PENDING}
    if code in {0x0001, 0x0107, 0x0116} or code >> 12 == 0xB:
        return W
    return exact.get(code, F)


def test_the_category_of_every_code() -> None:
    assert all(Status(code).category is rule(code) for code in ALL_CODES)
    assert [code for code in ALL_CODES if rule(code) is Category.SUCCESS] == [0]


def test_pynetdicom_sorts_the_storage_statuses_alike() -> None:
    for code, (category, _) in STORAGE_SERVICE_CLASS_STATUS.items():
        assert Status(code).category.value == category == code_to_category(code)


def test_every_status_has_a_meaning_and_a_source() -> None:
    assert all(Status(code).meaning and Status(code).source for code in ALL_CODES)


@pytest.mark.parametrize("code", [-1, 0x10000])
def test_a_code_has_16_bits(code: int) -> None:
    with pytest.raises(ValueError, match="expected 0 to 0xFFFF"):
        Status(code)


@pytest.mark.parametrize(
    ("text", "comment"),
    [
        ("disk full", "disk full"),
        ("  disk full \n", "disk full"),
        ("x" * 200, "x" * 64),
        ("x" * 63 + " y", "x" * 63),
        ("Größe \N{SNOWMAN} \x7f\x9b", "Gr??e ? ??"),
        ("\ud800", "?"),
        ("a\nb\0c\\d\x1b[2Jé", "a?b?c?d?[2J?"),
        ("", ""),
    ],
)
def test_any_text_can_be_a_comment(text: str, comment: str) -> None:
    status = Status(0xA700, text)
    assert status.comment == comment
    assert status == Status(0xA700, comment)
    assert status.category is OUT_OF_RESOURCES.category


def test_offending_elements_are_tags() -> None:
    assert Status(0xA900, offending=(0x00100010, 0x0020000D)).offending == (0x00100010, 0x0020000D)
    for tag in (-1, 1 << 32):
        with pytest.raises(ValueError, match="invalid tags"):
            Status(0xA900, offending=(tag,))


def test_a_status_is_a_value() -> None:
    assert len({SUCCESS, Status(0), Status(0, "stored")}) == 2
    with pytest.raises(AttributeError):
        SUCCESS.code = 1  # type: ignore[misc]

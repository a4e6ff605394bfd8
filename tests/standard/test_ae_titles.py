"""AE titles (PS3.5 6.2)."""

import pytest

from dicomport.standard import check_ae_title


@pytest.mark.parametrize(
    ("title", "bare"), [("A", "A"), (" PACS ", "PACS"), ("MY PACS", "MY PACS"), ("x" * 16, "x" * 16), ("*-_.", "*-_.")]
)
def test_a_valid_ae_title_is_returned_without_padding(title: str, bare: str) -> None:
    assert check_ae_title(title) == bare


@pytest.mark.parametrize(
    "title", ["", " ", " " * 16, "x" * 17, "A\\B", "A\nB", "A\0", "\x7f", "ÄRZTE", "\u2013", "A\tB"]
)
def test_an_invalid_ae_title_is_rejected(title: str) -> None:
    with pytest.raises(ValueError, match="AE title"):
        check_ae_title(title)

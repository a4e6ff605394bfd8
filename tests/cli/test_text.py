"""Numbers as text."""

import pytest

from dicomport.cli.text import amount


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (48_400, "48.4 kB"),
        (2_500_000, "2.5 MB"),
        (3_250_000_000, "3.2 GB"),
        (4_700_000_000_000, "4.7 TB"),
        (12_345_000_000_000_000, "12345.0 TB"),
    ],
)
def test_a_number_of_bytes_has_a_decimal_unit(size: int, text: str) -> None:
    assert amount(size) == text

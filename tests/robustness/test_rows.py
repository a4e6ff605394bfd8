"""Every row of docs/robustness.md has a test that is named after it, wherever in the tests it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
LAST: Final = {"P": 18, "A": 14, "C": 11, "T": 10, "F": 15, "D": 8}
ROWS: Final = [f"{letter}{number}" for letter, last in LAST.items() for number in range(1, last + 1)]


def test_the_page_has_every_row_in_order() -> None:
    page = (ROOT / "docs" / "robustness.md").read_text()
    assert re.findall(r"^\| ([A-Z]\d+) \|", page, re.MULTILINE) == ROWS


def test_each_row_has_a_test() -> None:
    named = {
        row.upper()
        for path in (ROOT / "tests").rglob("test_*.py")
        for rows in re.findall(r"^(?:async )?def test((?:_[a-z]\d+)+)_", path.read_text(), re.MULTILINE)
        for row in rows.split("_")
    }
    assert sorted(set(ROWS) - named) == []

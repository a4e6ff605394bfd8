"""docs/deviations.md lists each tolerated deviation, and nothing else."""

import re
from pathlib import Path
from typing import Final

from dicomport.archive.scan.attributes import InstanceAttributes
from dicomport.archive.scan.scanner import Scan
from dicomport.encoding.deviations import ScanFlag
from dicomport.wire import Deviation

DOCS: Final = Path(__file__).parents[2] / "docs"
FIRST_CELL: Final = re.compile(r"^\| (`[^|]*) \|", re.MULTILINE)


def first_cells(text: str) -> list[str]:
    return re.findall(r"`([a-z-]+)`", " ".join(FIRST_CELL.findall(text)))


def names(page: str, heading: str) -> list[str]:
    section = (DOCS / page).read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return first_cells(section)


def test_each_deviation_of_a_data_set_is_documented_once() -> None:
    scan = Scan(attributes=InstanceAttributes(), problem=None, flags=frozenset(ScanFlag))
    assert names("deviations.md", "In data sets") == scan.deviations


def test_each_deviation_of_a_message_or_file_is_documented_once() -> None:
    in_files = [name for name in first_cells((DOCS / "sender.md").read_text()) if name in set(Deviation)]
    assert sorted(names("deviations.md", "In messages") + in_files) == sorted(Deviation)


def test_no_name_has_two_meanings() -> None:
    """`StorageSCP.counters` has both in one mapping."""
    assert not set(map(str, Deviation)) & set(map(str, ScanFlag))

"""What sending costs before it begins: storing and forwarding bytes needs no library for data sets or terminals."""

import json
import subprocess
import sys
from typing import Final

from tests.scu.data import CT_FILE, FILES

from dicomport.testing import ScriptedSCP, healthy

HEAVY: Final = ("pydicom", "numpy", "rich", "click", "sqlalchemy")

PROGRAM: Final = """
import json, sys
import dicomport
after_import = sorted(sys.modules)
report = dicomport.blocking.send(sys.argv[2:], "127.0.0.1", int(sys.argv[1]))
print(json.dumps([after_import, sorted(sys.modules), [result.reason for result in report.results]]))
"""


def imported(*paths: str) -> tuple[set[str], set[str], list[str]]:
    """Give what was imported after `import dicomport` and after sending these files, and what became of them."""
    with ScriptedSCP(healthy) as scp:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(scp.port), *paths], check=True, capture_output=True, text=True
        )
    after_import, after_sending, reasons = json.loads(done.stdout)
    return set(after_import).intersection(HEAVY), set(after_sending).intersection(HEAVY), reasons


def test_neither_importing_nor_sending_a_file_takes_a_heavy_library() -> None:
    assert imported(str(CT_FILE)) == (set(), set(), [""])


def test_only_a_file_that_has_to_be_looked_into_takes_pydicom() -> None:
    after_import, after_sending, reasons = imported(str(FILES / "rtstruct.dcm"))

    assert after_import == set()
    assert "pydicom" in after_sending
    assert reasons == [""]


def test_a_file_that_is_plainly_none_does_not() -> None:
    after_import, after_sending, reasons = imported(str(FILES / "README.txt"), str(CT_FILE))

    assert (after_import, after_sending - {"numpy", "pydicom"}) == (set(), set())
    assert [bool(reason) for reason in reasons] == [True, False]

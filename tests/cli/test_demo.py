"""`dicomport demo` sends and receives real instances, and its table names the unsendable files and the reasons."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cli.commands import FILES, dicomport
from tests.scu.inputs.scanning import scan

from dicomport.files import read_part10


def test_the_demo_shows_every_file_and_compares_what_arrived() -> None:
    done = dicomport("demo")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = scan([FILES])
    names = {path.name for path in FILES.rglob("*") if path.is_file() and path.suffix != ".py"}
    shown = re.findall(r"^│ (\S+) ", done.stdout, re.MULTILINE)
    assert {name.rstrip("…") for name in shown} >= {name for name in names if len(name) < 20}
    assert done.stdout.count("│ unchanged ") == len(found.instances)
    assert "DIFFERENT" not in done.stdout
    assert f"{len(found.instances)} instances of 15 SOP Classes in 12 transfer syntaxes" in done.stdout
    assert "a DICOMDIR: it lists" in done.stdout
    assert re.search(r"rtplan_truncated.dcm .* not sent │ the data set is of odd length", done.stdout)


def test_kept_files_hold_the_bytes_that_were_sent(tmp_path: Path) -> None:
    done = dicomport("demo", "--keep", tmp_path / "kept")
    assert done.returncode == 0, done.stderr
    source = read_part10(FILES / "CT_small.dcm")
    kept = read_part10(tmp_path / "kept" / f"{source.meta.media_storage_sop_instance_uid}.dcm")
    assert [bytes(c) for c in kept.chunks(1 << 20)] == [bytes(c) for c in source.chunks(1 << 20)]
    assert kept.meta.source_ae_title == "DICOMPORT"

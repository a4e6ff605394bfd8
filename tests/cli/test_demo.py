"""`dicomport demo` sends and receives real instances, and its table names the unsendable files and the reasons."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cli.commands import FILES, dicomport, start
from tests.ports import unused_port
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
    assert "receiver checks no content" in done.stdout
    assert "a DICOMDIR: it lists" in done.stdout
    assert re.search(r"rtplan_truncated.dcm .* not sent │ the data set is of odd length", done.stdout)


def test_kept_files_hold_the_bytes_that_were_sent(tmp_path: Path) -> None:
    done = dicomport("demo", "--keep", tmp_path / "kept")
    assert done.returncode == 0, done.stderr
    source = read_part10(FILES / "CT_small.dcm")
    kept = read_part10(tmp_path / "kept" / f"{source.meta.media_storage_sop_instance_uid}.dcm")
    assert [bytes(c) for c in kept.chunks(1 << 20)] == [bytes(c) for c in source.chunks(1 << 20)]
    assert kept.meta.source_ae_title == "DICOMPORT"


def test_the_first_test_of_the_readme_works_as_typed(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "README.md").read_text()
    block = page.partition("A first test")[2].partition("\n\n")[2].partition("\n\n")[0]
    port = str(unused_port())
    demo, receive, send, listing = (line.split()[1:] for line in block.replace("11112", port).splitlines())
    assert dicomport(*demo, cwd=tmp_path).returncode == 0
    process = start(*receive, wrapper=("env", "-C", str(tmp_path)))
    try:
        assert process.stderr is not None
        assert any("storing in" in line for line in process.stderr)
        sent = dicomport(*send, cwd=tmp_path)
        process.terminate()
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (sent.returncode, "failed: " in sent.stderr) == (1, True)
    listed = dicomport(*listing, cwd=tmp_path)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "CT" in listed.stdout

"""The generated tables are fresh, the tool notices when they aren't, and the room is light."""

from pathlib import Path

import pytest

from tools import generate_standard


def test_tables_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate_standard.main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_the_check_says_what_is_stale_and_writing_mends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = tmp_path / "_tables.py"
    stale = generate_standard.render().replace("'CT Image Storage'", "'CT Picture Storage'")
    tables.write_text(stale)

    assert generate_standard.main(["--check"], tables) == 1
    told = capsys.readouterr()
    changed = [line for line in told.out.splitlines() if "CT " in line]
    assert [line[0] for line in changed] == ["-", "+"]
    assert "CT Picture Storage" in changed[0]
    assert "CT Image Storage" in changed[1]
    assert "is stale" in told.err
    assert tables.read_text() == stale

    assert generate_standard.main([], tables) == 0
    assert generate_standard.main(["--check"], tables) == 0


def test_a_missing_file_is_stale(tmp_path: Path) -> None:
    assert generate_standard.main(["--check"], tmp_path / "_tables.py") == 1


def test_a_documented_class_that_ps3_6_lacks_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("uid,alias,iod\n1.2.3,NoSuchStorage,A.1\n")
    monkeypatch.setattr(generate_standard, "STORAGE_CLASSES", rows)
    with pytest.raises(SystemExit, match=r"1\.2\.3"):
        generate_standard.render()


def test_a_new_transfer_syntax_is_taken_for_an_encapsulated_one() -> None:
    assert generate_standard.encoding("1.2.840.10008.1.2.4.999") == (True, True, False, False)

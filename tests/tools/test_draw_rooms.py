"""The picture of the rooms: floors, and the arrows that are drawn."""

from pathlib import Path

import pytest
from tools.draw_rooms import arrows, drawing, floors, read_imports

from tools import draw_rooms

HOUSE = {"roof": {"wall", "floor", "door"}, "wall": {"floor"}, "door": {"floor"}, "floor": set()}


def test_a_room_is_above_all_rooms_that_it_imports() -> None:
    assert floors(HOUSE) == [["floor"], ["door", "wall"], ["roof"]]


def test_an_arrow_that_follows_from_others_is_not_drawn() -> None:
    assert list(arrows(HOUSE)) == [("door", "floor"), ("roof", "door"), ("roof", "wall"), ("wall", "floor")]


def test_the_drawing_has_each_room_once_in_the_table() -> None:
    lines = drawing(HOUSE).splitlines()
    assert lines[-3:] == ["| 2 | `roof` |", "| 1 | `door`, `wall` |", "| 0 | `floor` |"]
    assert "    roof --> wall" in lines


def test_the_low_rooms_import_only_rooms_below() -> None:
    imports = read_imports()
    assert not imports["values"]
    assert imports["standard"] <= {"errors", "values"}
    assert imports["encoding"] <= {"errors", "values", "standard"}
    assert imports["wire"] <= {"errors", "values", "standard", "encoding"}
    assert imports["core"] <= {"errors", "values", "standard", "encoding", "wire"}
    assert not imports["net"] & {"files", "scp", "scu"}


def test_a_stale_page_is_found_and_drawn_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "architecture.md"
    page.write_text("before\n<!-- rooms:begin -->\nold\n<!-- rooms:end -->\nafter\n", encoding="utf-8")
    monkeypatch.setattr(draw_rooms, "PAGE", page)

    monkeypatch.setattr("sys.argv", ["draw_rooms", "--check"])
    assert draw_rooms.main() == 1
    assert "architecture.md is stale" in capsys.readouterr().err

    monkeypatch.setattr("sys.argv", ["draw_rooms"])
    assert draw_rooms.main() == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- rooms:begin -->\nDrawn by")
    assert text.endswith("\n<!-- rooms:end -->\nafter\n")

    monkeypatch.setattr("sys.argv", ["draw_rooms", "--check"])
    assert draw_rooms.main() == 0

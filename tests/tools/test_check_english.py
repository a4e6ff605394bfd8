"""The check for plain English: its patterns, and the places where it reads."""

from pathlib import Path

import pytest
from tools.check_english import Kind, Pattern, Sentence

from tools import check_english

PATTERNS = check_english.load_patterns()


def in_its_place(pattern: Pattern, text: str) -> Sentence:
    """Return the text as a sentence of the first kind and opening that the pattern is for."""
    kind = min(pattern.kinds, key=list(Kind).index)
    return Sentence(1, kind, text, opens=min(pattern.opening, default=""))


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_a_pattern_finds_the_bad_example_and_passes_over_the_good_one(pattern: Pattern) -> None:
    assert pattern.finds(in_its_place(pattern, pattern.bad))
    assert not pattern.finds(in_its_place(pattern, pattern.good))


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_a_good_example_has_no_pattern(pattern: Pattern) -> None:
    good = in_its_place(pattern, pattern.good)
    assert [other.name for other in PATTERNS if other.finds(good)] == []


def test_patterns_have_names_reasons_and_replacements() -> None:
    assert len({pattern.name for pattern in PATTERNS}) == len(PATTERNS) >= 40
    assert all(pattern.reason and pattern.write for pattern in PATTERNS)


def test_a_page_is_read_without_its_code() -> None:
    page = """\
# A heading

A paragraph of two
lines. The `second sentence` is
here.

```python
nothing = 1  # of this
```

    nor of this

- an item
  goes on
| a cell | `|` a b |
"""
    read = [(sentence.line, sentence.text) for sentence in check_english.read("docs/page.md", page)]
    assert read == [
        (1, "A heading"),
        (3, "A paragraph of two lines."),
        (4, "The `second sentence` is here."),
        (13, "an item goes on"),
        (15, "a cell"),
        (15, "`"),
        (15, "` a b"),
    ]


MODULE = '''\
"""First sentence. Second one."""

LIMIT: int = 1
"""A field's."""


# A comment that
# has two lines.
class Box:
    """A class's."""

    @property
    def size(self) -> int:
        """A property's."""
        return 1  # noqa: SOME

    def fail(self, most: str) -> None:
        """A function's."""
        raise ValueError(f"the {most} of it", "word", r"two words")
'''


def test_docstrings_comments_messages_and_names_are_read_from_python() -> None:
    sentences = check_english.read("src/module.py", MODULE)
    assert [
        (each.line, each.kind.value, each.text, each.opens) for each in sentences if each.kind is not Kind.NAME
    ] == [
        (1, "docstring", "First sentence.", "module"),
        (1, "docstring", "Second one.", ""),
        (4, "docstring", "A field's.", "field"),
        (7, "comment", "A comment that has two lines.", ""),
        (10, "docstring", "A class's.", "class"),
        (14, "docstring", "A property's.", "field"),
        (18, "docstring", "A function's.", "function"),
        (19, "message", "the {} of it", ""),
        (19, "message", "two words", ""),
    ]
    names = [(each.line, each.text) for each in sentences if each.kind is Kind.NAME]
    assert names == [
        (3, "LIMIT"), (9, "Box"), (13, "size"), (13, "self"), (17, "fail"), (17, "self"), (17, "most"),
    ]  # fmt: skip


def test_strings_in_tests_are_not_messages() -> None:
    assert {each.kind for each in check_english.read("tests/test_module.py", MODULE)} == {
        Kind.DOCSTRING,
        Kind.COMMENT,
        Kind.NAME,
    }


def test_code_between_backticks_is_not_english() -> None:
    [fate] = [pattern for pattern in PATTERNS if pattern.name == "fate"]
    assert fate.finds(Sentence(1, Kind.PAGE, "The fate of `x`."))
    assert not fate.finds(Sentence(1, Kind.PAGE, "The `fate` of [x](fate.md)."))


def test_findings_are_printed_with_their_place_and_end_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("The fate of an instance.\n")
    assert check_english.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"{page}:1: fate: The fate of an instance.: result\n"
    assert check_english.main(["--summary", str(page)]) == 1
    assert "     1 in all\n" in capsys.readouterr().out
    page.write_text("The result of an instance.\n")
    assert check_english.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""

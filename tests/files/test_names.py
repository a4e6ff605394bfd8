"""From a peer's text to a file name: inside the folder, and never one name for two texts."""

import os
import re
from pathlib import Path, PureWindowsPath
from typing import Final

import pytest
from hypothesis import example, given, settings, strategies as st

from dicomport.files import file_name

MAX_BYTES: Final = 120

HOSTILE: Final = [
    "",
    ".",
    "..",
    "...",
    "../../x",
    "/etc/cron.d/x",
    "..\\..\\x",
    "C:\\x",
    "\\\\h\\s\\x",
    "1.2/3",
    "1/2",
    "1_2",
    "1_2f2",
    "1.2\0.3",
    "1.2.3\n",
    "....//",
    "%2e%2e%2f",
    "CON",
    "con",
    "nul.dcm",
    "NUL.dcm",
    "1.2.3.",
    "1.2.3 ",
    " 1.2.3",
    ".1.2.3",
    "-rf",
    "~root",
    "$(id)",
    "`id`",
    "|id",
    "*",
    "a",
    "A",
    "ä",
    "a\u0308",
    "\u202e1.2",
    "\ud800",
    "1" * 64,
    "1" * 65,
    "1" * 119,
    "1" * 120,
    "1" * 121,
    "1" * 300,
    "1" * 5000,
    "/" * 40,
    "/" * 41,
    "/" * 300,
    "_",
    "__",
]

TEXTS: Final = st.one_of(
    st.text(),
    st.text(st.characters()),
    # Characters of names, chosen so that two names could become the same.
    st.text("01.9_/\\~afAF5e2", max_size=12),
    st.text("01._5f", min_size=110, max_size=140),
    st.sampled_from(HOSTILE),
)


def texts_back(name: str) -> str:
    """Read the text from its name, which shows that no other text has that name."""
    if name == "_":
        return ""
    raw = re.sub(rb"_([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), name.encode())
    return raw.decode("utf-8", "surrogatepass")


@given(TEXTS)
@settings(max_examples=1000)
def test_a_name_leads_back_to_its_text(text: str) -> None:
    name = file_name(text)
    if "__" in name:
        # It was cut: all of the text is in its digest.
        assert len(name) == MAX_BYTES
        assert re.fullmatch(r"[0-9.a-f_]*__[0-9a-f]{32}", name)
    else:
        assert texts_back(name) == text


@given(TEXTS, TEXTS)
@settings(max_examples=1000)
@example("1/2", "1_2")
@example("", "_")
@example("a", "A")
@example("/" * 300, "/" * 301)
@example("1" * 300 + "a", "1" * 300 + "A")
def test_no_two_texts_have_one_name_even_where_case_is_ignored(one: str, other: str) -> None:
    assert (one == other) == (file_name(one).casefold() == file_name(other).casefold())


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_names_are_all_different(text: str) -> None:
    assert [other for other in HOSTILE if file_name(other).casefold() == file_name(text).casefold()] == [text]


@given(TEXTS)
@settings(max_examples=1000)
@example("1" * 5000)
@example("/" * 5000)
def test_a_name_is_one_part_of_a_path_on_every_system(text: str) -> None:
    name = file_name(text)
    assert re.fullmatch(r"[0-9a-f_][0-9a-f_.]*(?<!\.)", name)
    assert 1 <= len(name) <= MAX_BYTES
    assert name == name.lower() == os.fsencode(name).decode()
    folder = Path("/archive")
    path = folder / f"{name}.dcm"
    assert Path(os.path.normpath(path)) == path
    assert path.parent == folder
    assert not PureWindowsPath(f"{name}.dcm").is_reserved()


@given(st.from_regex(r"[0-2](\.(0|[1-9][0-9]{0,8})){1,6}", fullmatch=True))
def test_a_uid_is_its_own_name(uid: str) -> None:
    assert file_name(uid) == uid


def test_the_longest_uid_is_its_own_name() -> None:
    assert file_name("1." + "2" * 62) == "1." + "2" * 62


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "_"),
        ("..", "_2e_2e"),
        ("1.2/3", "1.2_2f3"),
        ("1_2", "1_5f2"),
        ("1.2.3.", "1.2.3_2e"),
        ("CON", "_43_4f_4e"),
        ("é", "_c3_a9"),
        ("1.2\0.3", "1.2_00.3"),
    ],
)
def test_the_form_of_names(text: str, name: str) -> None:
    assert file_name(text) == name

"""Find hard English in the pages, docstrings, comments, messages and names, by the patterns of tools/english.toml.

    python tools/check_english.py [--summary] [PATH ...]

Prints `path:line: pattern: sentence: what to write` for each finding and exits with 1 if there is any. PATH is a file
or a folder (default: the project). `--summary` counts the findings per room instead of listing them.

Pages are read as Markdown without their code. Of Python files, docstrings, comments and the names that they define are
read; outside tests/ also each string with a space in it, because it may reach a user. Text between backticks is code.
"""

from __future__ import annotations

import argparse
import ast
import enum
import io
import re
import sys
import tokenize
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PATTERNS = Path(__file__).with_name("english.toml")

_READ = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs",
    "src",
    "tools",
    "bench",
    "fuzz",
    "tests",
)
_GENERATED = frozenset(
    (
        "docs/limits.md",  # the texts of these two are read where they are written: in src/ and tools/
        "docs/state-machine.md",
        "docs/benchmarks/table.md",
        "src/dicomport/standard/_tables.py",  # the standard's own words
    )
)

_CODE = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)|\]\([^)]*\)|https?://\S+", re.DOTALL)
_SENTENCE_END = re.compile(r"""(?<=[.!?])["')*_]*\s+(?=["'(*_`\[]*[A-Z0-9`*])""")
_LIST_ITEM = re.compile(r"\s*(?:[-*+]|\d+\.)\s+")
_DIRECTIVE = re.compile(r"#!|#\s*(?:noqa|type:|pragma|fmt:|ruff:|mypy:)")


class Kind(enum.Enum):
    """Kinds of text that are read."""

    PAGE = "page"
    DOCSTRING = "docstring"
    COMMENT = "comment"
    MESSAGE = "message"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, or a name that the code defines."""

    line: int
    kind: Kind
    text: str
    opens: str = ""
    """The kind of definition whose docstring this sentence begins: module, class, function or field."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A kind of hard English, with an example of it and an example of what to write instead."""

    name: str
    find: re.Pattern[str]
    reason: str
    write: str
    bad: str
    good: str
    kinds: frozenset[Kind]
    opening: frozenset[str]
    """Look only at the first sentence of the docstrings of these definitions; empty for all sentences."""

    def finds(self, sentence: Sentence) -> bool:
        """Return whether the sentence has this pattern outside its code."""
        if sentence.kind not in self.kinds or (self.opening and sentence.opens not in self.opening):
            return False
        return self.find.search(_without_code(sentence.text)) is not None


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence that has a pattern."""

    path: str
    sentence: Sentence
    pattern: Pattern

    def __str__(self) -> str:
        return f"{self.path}:{self.sentence.line}: {self.pattern.name}: {self.sentence.text}: {self.pattern.write}"


_PROSE = frozenset(Kind) - {Kind.NAME}


def load_patterns(path: Path = PATTERNS) -> list[Pattern]:
    """Read the patterns; their expressions ignore case unless `case = true`."""
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["pattern"]
    return [
        Pattern(
            name=row["name"],
            find=re.compile(row["find"], 0 if row.get("case") else re.IGNORECASE),
            reason=row["reason"],
            write=row["write"],
            bad=row["bad"],
            good=row["good"],
            kinds=frozenset(map(Kind, row["kinds"])) if "kinds" in row else _PROSE,
            opening=frozenset(row.get("opening", ())),
        )
        for row in rows
    ]


def check(paths: Iterable[Path], patterns: Iterable[Pattern], root: Path = ROOT) -> Iterator[Finding]:
    """Yield the findings in files and folders, by path and line."""
    patterns = list(patterns)
    for path in _files(paths, root):
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
        for sentence in read(name, path.read_text(encoding="utf-8")):
            for pattern in patterns:
                if pattern.finds(sentence):
                    yield Finding(name, sentence, pattern)


def read(name: str, text: str) -> list[Sentence]:
    """Return the sentences of a file, in order of their lines."""
    if name.endswith(".md"):
        return list(_page(text))
    return sorted(_python(text, in_tests=name.startswith("tests/")), key=lambda sentence: sentence.line)


def _files(paths: Iterable[Path], root: Path) -> Iterator[Path]:
    generated = {root / name for name in _GENERATED}
    for path in paths:
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (each for each in found if each.suffix in {".md", ".py"} and each not in generated)


def _without_code(text: str) -> str:
    return _CODE.sub(lambda code: "`" * len(code[0]), text)


def _page(text: str) -> Iterator[Sentence]:
    """Read the paragraphs, headings, list items and table cells of a Markdown page, without its code blocks."""
    paragraph: list[tuple[int, str]] = []
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        plain = "" if fenced or line.lstrip().startswith(("```", "<!--")) else line
        indented = plain.startswith("    ") and not paragraph
        apart = plain.lstrip().startswith(("#", "|")) or _LIST_ITEM.match(plain)
        if (not plain.strip() or apart) and paragraph:
            yield from _sentences(paragraph, Kind.PAGE)
            paragraph = []
        if plain.lstrip().startswith("|"):
            for cell in re.split(r"(?<!\\)\|", plain):
                yield from _sentences([(number, cell)], Kind.PAGE)
        elif plain.strip() and not indented:
            paragraph.append((number, _LIST_ITEM.sub("", plain, count=1).lstrip("# ")))
    yield from _sentences(paragraph, Kind.PAGE)


def _python(text: str, *, in_tests: bool) -> Iterator[Sentence]:
    tree = ast.parse(text)
    docstrings = dict(_docstrings(tree))
    for constant, definition in docstrings.items():
        yield from _docstring(constant, definition)
    yield from _names(tree)
    yield from _comments(text)
    if not in_tests:
        yield from _messages(tree, docstrings.keys())


def _docstrings(tree: ast.AST) -> Iterator[tuple[ast.Constant, str]]:
    """Yield the docstrings with the kind of definition that each belongs to; a property is a field."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for position, statement in enumerate(node.body):
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value, "field" if position else _definition(node)


def _definition(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    if isinstance(node, ast.Module | ast.ClassDef):
        return type(node).__name__.removesuffix("Def").lower()
    return "field" if any("property" in ast.unparse(decorator) for decorator in node.decorator_list) else "function"


def _docstring(constant: ast.Constant, opens: str) -> Iterator[Sentence]:
    for paragraph in _paragraphs(constant.lineno, str(constant.value).splitlines()):
        for sentence in _sentences(paragraph, Kind.DOCSTRING, opens=opens):
            yield sentence
            opens = ""


def _paragraphs(first: int, lines: Iterable[str]) -> Iterator[list[tuple[int, str]]]:
    paragraph: list[tuple[int, str]] = []
    for number, line in enumerate(lines, first):
        if (not line.strip() or _LIST_ITEM.match(line)) and paragraph:
            yield paragraph
            paragraph = []
        if line.strip():
            paragraph.append((number, line))
    yield paragraph


def _comments(text: str) -> Iterator[Sentence]:
    """Read comments; those on lines that follow one another are one paragraph."""
    paragraph: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT or _DIRECTIVE.match(token.string):
            continue
        number, column = token.start
        whole_line = not token.line[:column].strip()
        if paragraph and not (whole_line and number == paragraph[-1][0] + 1):
            yield from _sentences(paragraph, Kind.COMMENT)
            paragraph = []
        paragraph.append((number, token.string.lstrip("#:")))
    yield from _sentences(paragraph, Kind.COMMENT)


def _messages(tree: ast.AST, docstrings: Collection[ast.Constant]) -> Iterator[Sentence]:
    """Read the strings that contain a space, with `{}` for each value of an f-string."""
    parts = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            message = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and node not in docstrings and node not in parts:
            message = node.value if isinstance(node.value, str) else ""
        else:
            continue
        if " " in message.strip():
            for paragraph in _paragraphs(node.lineno, message.splitlines()):
                yield from _sentences(paragraph, Kind.MESSAGE)


def _names(tree: ast.AST) -> Iterator[Sentence]:
    """Read the names that functions, classes, parameters and assignments define."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield Sentence(node.lineno, Kind.NAME, node.name)
        elif isinstance(node, ast.arg):
            yield Sentence(node.lineno, Kind.NAME, node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield Sentence(node.lineno, Kind.NAME, node.id)


def _sentences(paragraph: list[tuple[int, str]], kind: Kind, *, opens: str = "") -> Iterator[Sentence]:
    """Split a paragraph, given as its numbered lines, into sentences, each with the line that it begins on."""
    starts: list[tuple[int, int]] = []
    text = ""
    for number, line in paragraph:
        text += " " if text else ""
        starts.append((len(text), number))
        text += " ".join(line.split())
    begin = 0
    for end in [*(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]:
        if sentence := text[begin:end].strip():
            yield Sentence(max(number for start, number in starts if start <= begin), kind, sentence, opens=opens)
            opens = ""
        begin = end


def _room(path: str) -> str:
    """Return the folder that is counted apart: src/dicomport/NAME, tests/NAME, docs, or the file at the top."""
    parts = Path(path).parts
    depth = {"src": 3, "tests": 2}.get(parts[0], 1)
    return "/".join(parts[:depth])


def main(arguments: list[str] | None = None) -> int:
    """Print the findings, or their number per room; return 1 if there are any, otherwise 0."""
    parser = argparse.ArgumentParser(description="Find hard English.")
    parser.add_argument("paths", metavar="PATH", type=Path, nargs="*", help="files and folders (default: the project)")
    parser.add_argument("--summary", action="store_true", help="count the findings per room")
    chosen = parser.parse_args(arguments)
    paths = [path.absolute() for path in chosen.paths] or [ROOT / name for name in _READ]
    findings = list(check(paths, load_patterns()))
    if chosen.summary:
        rooms = Counter(_room(finding.path) for finding in findings)
        for room, count in sorted(rooms.items()):
            print(f"{count:6} {room}")
        print(f"{len(findings):6} in all")
    else:
        print(*findings, sep="\n", end="\n" if findings else "")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

"""One VR table, one element-header reader, one inflate, one match by example, one request/response engine: counted.

A second copy fails here. Code that only resembles a copy is listed below with its reason. A loop that is repeated for
speed is listed below with the property test that proves it equal to the original.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.encoding import test_walkers
from tests.wire import test_commands

import dicomport
from dicomport.encoding.vr import LONG_VRS

SOURCE: Final = Path(dicomport.__file__).parent
MODULES: Final = {
    path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCE.rglob("*.py")
}

VRS: Final = "encoding/vr.py"
HEADERS: Final = "encoding/headers.py"
INFLATE: Final = "encoding/inflate.py"
TEMPLATES: Final = "encoding/templates.py"
UIDS: Final = "standard/uids.py"

SAME_NUMBER: Final = {
    "cli/options/common.py": "the largest PDU length",
    "scp/decoding.py": "a tag that no data set has",
    "standard/statuses.py": "the largest tag",
    "wire/cursor.py": "the largest 32-bit number",
}
"""Modules with the number 0xFFFFFFFF as something else than an undefined length."""

SPECIALISED: Final[dict[tuple[str, str], Callable[..., object]]] = {
    ("encoding/elements.py", "ElementWalker._elements"): (
        test_walkers.test_any_spoiled_data_set_in_any_split_is_read_alike
    ),
    ("wire/command_sets.py", ""): test_commands.test_each_command_is_the_bytes_of_the_standard,
}
"""Code that unpacks or packs element headers itself for speed, and the test that covers it."""


def nodes() -> Iterator[tuple[str, ast.AST]]:
    for module, tree in MODULES.items():
        for node in ast.walk(tree):
            yield module, node


def constants(kind: type) -> Iterator[tuple[str, object]]:
    """Find the constants of a type; docstrings are none, as nothing is done with them."""
    for module, tree in MODULES.items():
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and type(node.value) is kind and id(node) not in docstrings:
                yield module, node.value


def calls(*names: str) -> list[str]:
    """Find the modules that call a function or method by one of these names, once for each call."""
    return [
        module
        for module, node in nodes()
        if isinstance(node, ast.Attribute | ast.Name)
        and (node.attr if isinstance(node, ast.Attribute) else node.id) in names
    ]


def test_inflate() -> None:
    assert calls("decompressobj") == [INFLATE]
    assert set(calls("compressobj")) == {INFLATE}


def test_table_of_vrs() -> None:
    tables = []
    for module, node in nodes():
        if isinstance(node, ast.Set | ast.Tuple | ast.List | ast.Dict):
            members = node.keys if isinstance(node, ast.Dict) else node.elts
            vrs = {member.value for member in members if isinstance(member, ast.Constant)}
            vrs = {vr.encode() if isinstance(vr, str) else vr for vr in vrs}
            if len(vrs & LONG_VRS) > len(LONG_VRS) // 2:
                tables.append(module)
    assert tables == [VRS]


@pytest.mark.parametrize("number", [0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0xFFFE, 0xE000, 0xE00D, 0xE0DD])
def test_tags_of_items_and_delimiters(number: int) -> None:
    assert [module for module, value in constants(int) if value == number] in ([HEADERS], [])
    octets = {(number & 0xFFFFFFFF).to_bytes(4 if number > 0xFFFF else 2, order) for order in ("little", "big")}
    assert not [module for module, value in constants(bytes) if value in octets]


def test_undefined_length() -> None:
    assert sorted(module for module, value in constants(int) if value == 0xFFFFFFFF) == sorted([HEADERS, *SAME_NUMBER])
    assert not [module for module, value in constants(bytes) if value == b"\xff\xff\xff\xff"]


def test_formats_of_element_headers() -> None:
    """Two 16-bit words and more are the tag of an element."""
    header = re.compile(r"(2H|HH)(.s)?(2x)?[HLI]|[LI]2sH")
    formats = [
        module for module, value in constants(str) if isinstance(value, str) and header.fullmatch(value.lstrip("<>"))
    ]
    assert set(formats) == {HEADERS}


def test_specialised_loops() -> None:
    found = set()
    for module, tree in MODULES.items():
        if module == HEADERS:
            continue
        for name, node in _functions(tree):
            if any(
                isinstance(inner, ast.Attribute) and inner.attr in {"unpack_element", "tagged_length"}
                for inner in ast.walk(node)
            ):
                found.add((module, name))
    assert found == set(SPECIALISED)


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Find functions and methods with their names; a statement of the module itself has none."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{getattr(inner, 'name', '')}", inner) for inner in node.body)
        else:
            yield node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else "", node


def test_match_by_example() -> None:
    """Only a template makes a layout out of elements that it was shown."""
    made = [
        module
        for module, node in nodes()
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "Struct"
        and not isinstance(node.args[0], ast.Constant | ast.JoinedStr | ast.IfExp)
    ]
    assert set(made) == {TEMPLATES}


def test_request_response_engine() -> None:
    """Message IDs are counted, and responses are matched with requests, in `dimse` alone; the test kit judges that."""
    rooms = {
        module.partition("/")[0]
        for module, node in nodes()
        if (isinstance(node, ast.Attribute) and node.attr == "message_id_being_responded_to")
        or (isinstance(node, ast.keyword) and node.arg == "message_id_being_responded_to")
        or (isinstance(node, ast.Attribute) and node.attr == "_message_id")
    }
    assert rooms == {"dimse", "testing"}


def test_longest_uid() -> None:
    named = [
        module
        for module, node in nodes()
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and "UID" in ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
        and isinstance(node.value, ast.Constant)
        and node.value.value == 64
    ]
    assert named == [UIDS]
    assert [module for module, value in constants(str) if isinstance(value, str) and "[0-9.]{1," in value] == [UIDS]

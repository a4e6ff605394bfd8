"""The public API: the package's exports, and the pages that describe their use."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dicomport
from dicomport import scu, wire
from dicomport.core.negotiation import IMPLEMENTATION

ROOT = Path(__file__).parent.parent


def test_everything_in_all_is_there_once_and_sorted() -> None:
    for module in (dicomport, scu):
        names: list[str] = vars(module)["__all__"]
        assert len(set(names)) == len(names)
        assert all(hasattr(module, name) for name in names)
        assert set(names) <= set(dir(module))


def test_the_stub_is_the_list_of_the_public_names() -> None:
    stub = ast.parse((Path(dicomport.__file__).parent / "__init__.pyi").read_text(encoding="utf-8"))
    listed = [
        (node.module or "", alias.name, alias.asname)
        for node in stub.body
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for alias in node.names
    ]
    assert len(listed) > 50
    for module, name, public in listed:
        assert name == public
        home = importlib.import_module(module if module != "dicomport" else f"dicomport.{name}")
        assert getattr(dicomport, name) is (home if module == "dicomport" else getattr(home, name))
    assert {name for _, name, _ in listed} | {"__version__"} == set(vars(dicomport)["__all__"])


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Final2'"):
        _ = getattr(dicomport, "Final2")  # noqa: B009  # mypy knows that it is not there


def test_the_contract_is_exported() -> None:
    contract = "StorageSCP associate send blocking StoreRequest StoreResponse Status sop_classes wire"
    assert set(contract.split()) <= set(vars(dicomport)["__all__"])
    assert callable(dicomport.blocking.associate)
    assert callable(dicomport.blocking.send)


def test_wire_decodes_what_it_encodes() -> None:
    pdu = wire.AssociateRJ(wire.RejectReason.LOCAL_LIMIT_EXCEEDED, transient=True)
    assert wire.encode(pdu) == bytes.fromhex("03 00 00000004 00 02 03 02")
    assert wire.decode(wire.encode(pdu)) == pdu


def test_the_version_that_peers_see_is_that_of_the_package() -> None:
    assert IMPLEMENTATION.version_name == f"DICOMPORT_{dicomport.__version__.replace('.', '_')}"


def test_the_package_is_typed() -> None:
    assert (Path(dicomport.__file__).parent / "py.typed").exists()


def test_importing_it_imports_neither_pydicom_nor_terminal_libraries() -> None:
    code = "import sys, dicomport; print(*({'pydicom', 'rich', 'click'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


@pytest.mark.parametrize(
    "page", ["README.md", "docs/library.md", "docs/archive.md", "docs/commitment.md", "docs/testing.md", "docs/tls.md"]
)
def test_the_examples_are_well_typed(page: str, tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert examples
    for number, example in enumerate(examples):
        (tmp_path / f"example_{number}.py").write_text(example, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout


def test_every_page_that_is_linked_exists() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(((?!https?:)[^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links {target}"

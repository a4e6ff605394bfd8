"""Imports of a send: storing and forwarding bytes needs no library for data sets or terminals."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

from tests.scu.data import CT_FILE, FILES

from dicomport.testing import ScriptedSCP, healthy

_SETTINGS: Final = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
LATE: Final = set(_SETTINGS["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-module-level-imports"])
"""The one list of the modules that are imported in functions."""

HEAVY: Final = {"pydicom", "numpy", "rich", "click", "sqlalchemy"}

SELDOM: Final = LATE - {"fcntl", "resource", "termios"} | {"tempfile", "dicomport.archive", "dicomport.scp"}
"""Modules that a plain send does not import on any platform."""

CLICK: Final = {"click", "datetime"}
"""click and its imports."""

PROGRAM: Final = """
import sys
import dicomport
after_import = sorted(sys.modules)
report = dicomport.blocking.send(sys.argv[2:], "127.0.0.1", int(sys.argv[1]))
print([after_import, sorted(sys.modules), [result.reason for result in report.results]])
"""

COMMAND: Final = """
import sys
from dicomport.cli.main import main
try:
    main([sys.argv[2], "127.0.0.1", sys.argv[1], *sys.argv[3:]])
except SystemExit as end:
    print([int(end.code), sorted(sys.modules)])
"""


def run(program: str, *arguments: str) -> list[Any]:
    """Run the program against a peer that accepts everything, and return its output."""
    # Coverage would import further modules.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    with ScriptedSCP(healthy) as scp:
        done = subprocess.run(
            [sys.executable, "-c", program, str(scp.port), *arguments],
            check=True,
            capture_output=True,
            text=True,
            env=environment,
        )
    printed: list[Any] = ast.literal_eval(done.stdout)
    return printed


def imported(*paths: str) -> tuple[set[str], set[str], list[str]]:
    """Return the modules imported by `import dicomport` and by sending these files, and the results."""
    after_import, after_sending, reasons = run(PROGRAM, *paths)
    return HEAVY.intersection(after_import), HEAVY.intersection(after_sending), reasons


def test_neither_importing_nor_sending_a_file_takes_a_heavy_library() -> None:
    assert imported(str(CT_FILE)) == (set(), set(), [""])


def test_a_file_without_header_does_not() -> None:
    assert imported(str(FILES / "rtstruct.dcm")) == (set(), set(), [""])


def test_a_file_that_is_plainly_none_does_not() -> None:
    after_import, after_sending, reasons = imported(str(FILES / "README.txt"), str(CT_FILE))

    assert (after_import, after_sending - {"numpy", "pydicom"}) == (set(), set())
    assert [bool(reason) for reason in reasons] == [True, False]


def test_importing_the_package_imports_only_its_table_of_names() -> None:
    after_import, _, _ = run(PROGRAM, str(CT_FILE))

    assert {name for name in after_import if name.startswith(("dicomport", "asyncio"))} == {"dicomport"}


def test_a_plain_send_imports_no_rarely_used_modules() -> None:
    _, after_sending, reasons = run(PROGRAM, str(CT_FILE))

    assert SELDOM.intersection(after_sending) == set()
    assert reasons == [""]


def test_listing_an_archive_imports_no_network() -> None:
    program = "import sys, dicomport.scu.inputs.tar, dicomport.scu.inputs.zip; print(sorted(sys.modules))"

    modules = run(program)

    network = ("asyncio", "socket", "ssl", "dicomport.core", "dicomport.net")
    sending = ("dicomport.scu.association", "dicomport.scu.requestor", "dicomport.scu.sending", "dicomport.scu.explain")
    assert {"dicomport.scu.inputs.tar", "dicomport.scu.inputs.zip"} <= set(modules)
    assert {name for name in modules if name.startswith((*network, *sending))} == set()


def test_nor_is_it_by_the_command(tmp_path: Path) -> None:
    for name in "123":
        (tmp_path / name).symlink_to(CT_FILE)

    code, modules = run(COMMAND, "storescu", str(tmp_path))

    assert code == 0
    assert ((SELDOM | HEAVY) - CLICK).intersection(modules) == set()


def test_a_plain_echo_does_not_import_explain() -> None:
    code, modules = run(COMMAND, "echoscu", "-q")

    assert code == 0
    assert ((SELDOM | HEAVY) - CLICK).intersection(modules) == set()


HELP: Final = """
import io, sys
from contextlib import redirect_stdout
from dicomport.cli.main import main
try:
    with redirect_stdout(io.StringIO()):
        main(["storescu", "--help"])
except SystemExit:
    print(sorted(sys.modules))
"""

RECEIVER: Final = """
import sys, tempfile
before = set(sys.modules) | {"tempfile"}
from dicomport import FolderStorage, StorageSCP
from dicomport.testing import ScriptedSCU, association_request
with (
    tempfile.TemporaryDirectory() as folder,
    StorageSCP(FolderStorage(folder), port=0).in_thread() as scp,
    ScriptedSCU("127.0.0.1", scp.port) as peer,
):
    peer.send(association_request(("1.2.840.10008.5.1.4.1.1.2", ["1.2.840.10008.1.2"])))
    peer.receive()
    status = peer.store("1.2.3.4", bytes.fromhex("0800050000000000")).status
    peer.release()
print([status, sorted(set(sys.modules) - before)])
"""


def test_the_help_of_the_sender_imports_no_rarely_used_modules() -> None:
    assert ((SELDOM | HEAVY) - CLICK).intersection(run(HELP)) == set()


def test_a_receiver_into_a_folder_imports_no_archive_and_no_sender() -> None:
    status, modules = run(RECEIVER)

    assert status == 0
    assert "dicomport.scp.folder" in modules
    assert HEAVY.intersection(modules) == set()
    other = ("dicomport.archive", "dicomport.blocking", "dicomport.cli", "dicomport.commitment", "dicomport.scu")
    assert [name for name in modules if name.startswith(other)] == []


CONSTRUCTORS: Final = """
import builtins
compiled, run = [], exec
builtins.exec = lambda source, *scopes: (compiled.append(source), run(source, *scopes))
import dicomport
dicomport.send
print([source for source in compiled if isinstance(source, str) and source.startswith("def __init__")])
"""


def test_a_sender_compiles_few_constructors_to_import() -> None:
    """`dicomport.values`: compiling those of all 60 classes, and their methods, took a third of the start."""
    assert 0 < len(run(CONSTRUCTORS)) < 10

"""The pages' Python examples run, and the commands, options and modules in the text exist."""

from __future__ import annotations

import contextlib
import re
import runpy
import shlex
import shutil
import socket
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
import pydicom
import pytest
import trustme
from tests.cli.commands import dicomport as run_command

import dicomport
from dicomport.archive import Archive
from dicomport.cli.program import dicomport as command

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
TESTS_OF_ITS_OWN = "testing.md"
"""A page of tests, which tests/testing/test_fixtures.py runs."""
FILE = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"

SNIPPETS = [
    pytest.param(snippet, id=f"{page.stem}-{number}")
    for page in PAGES
    if page.name != TESTS_OF_ITS_OWN
    for number, snippet in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
]


class Receivers:
    """A plain and a TLS receiver with one archive, under the addresses of the pages."""

    def __init__(self, archive: Path, plain: dicomport.StorageSCP, secure: dicomport.StorageSCP) -> None:
        self._archive = archive
        self._ports = {"11112": plain.port, "2762": secure.port, "11113": free_port()}

    def adapt(self, snippet: str) -> str:
        """Replace hosts and ports; a snippet's own receiver gets a free port."""
        snippet = re.sub(r"\bport=(?:11112|2762)\b", "port=0", snippet)
        for port, actual in self._ports.items():
            snippet = re.sub(rf"\b{port}\b", str(actual), snippet)
        return snippet.replace("pacs.example", "127.0.0.1").replace("192.0.2.7", "127.0.0.1")

    def received(self) -> int:
        """Return the number of instances in the archive."""
        return sum(".dicomport" not in path.parts for path in self._archive.rglob("*.dcm"))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with the files that the pages mention."""
    monkeypatch.chdir(tmp_path)
    for name in ("studies", "incoming"):
        Path(name).mkdir()
    shutil.copy(FILE, "studies")
    shutil.copy(FILE, "one.dcm")
    authority = trustme.CA()
    authority.cert_pem.write_to_path("hospital-ca.pem")
    for name in ("pacs", "pacs-2027", "ct1"):
        certificate = authority.issue_cert("127.0.0.1", "pacs.example")
        Path(f"{name}.pem").write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
        certificate.private_key_pem.write_to_path(f"{name}.key")
    return tmp_path


@pytest.fixture
def receivers(folder: Path) -> Iterator[Receivers]:
    tls = dicomport.tls_server_context("pacs.pem", "pacs.key", authorities="hospital-ca.pem")
    with contextlib.closing(Archive(folder / "received")) as archive:
        commitment = dicomport.CommitmentSCP(archive, folder / "transactions")
        plain = dicomport.StorageSCP(archive, port=0, commitment=commitment)
        secure = dicomport.StorageSCP(archive, port=0, tls=tls)
        with plain.in_thread(), secure.in_thread():
            yield Receivers(folder / "received", plain, secure)


async def serve_one_sender(scp: dicomport.StorageSCP) -> None:
    """Send to the receiver instead of serving forever."""
    [result] = (await dicomport.send([FILE], "127.0.0.1", scp.port, called_ae_title="ARCHIVE")).results
    assert result.accepted, result.reason


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_runs(
    snippet: str, receivers: Receivers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dicomport.StorageSCP, "serve_forever", serve_one_sender)
    program = Path("snippet.py")
    program.write_text(receivers.adapt(snippet), encoding="utf-8")
    values = runpy.run_path(str(program), run_name="__main__")
    sends = re.search(r"\bsend\(|c_store\(", snippet) is not None
    assert receivers.received() == sends
    if sends and (report := values.get("report")) is not None:
        assert report.accepted
        assert not report.failed
    if "await scp.serve_forever()" in snippet:
        assert "sent incoming" in capsys.readouterr().out


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_a_module_in_the_text_exists(page: str) -> None:
    named = re.findall(r"`((?:\w+/)*\w+\.py)`", (ROOT / page).read_text(encoding="utf-8"))
    assert named
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "src" / "dicomport" / name).exists(), name


def test_the_output_of_explain_is_that_of_the_readme(folder: Path) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"( {4}\$ dicomport echoscu --explain .*\n(?: {4}.*\n)+)", page)
    storage = dicomport.FolderStorage(folder)
    with dicomport.StorageSCP(storage, port=0, ae_title="ARCHIVE", check_called_ae_title=True).in_thread() as scp:
        done = run_command("echoscu", "--explain", "127.0.0.1", str(scp.port), "-aec", "PACS")
    printed = done.stderr.replace(f"127.0.0.1:{scp.port}", "192.0.2.7:104")
    times = re.compile(r"[\d.]+ ms")
    assert times.sub("T ms", printed) == times.sub("T ms", textwrap.dedent(shown).split("\n", 1)[1])


# Command lines.


def command_lines(program: str) -> list[str]:
    """Return the command lines of a program in the pages' code blocks, without their explanations."""
    lines: set[str] = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"(?:^|\n\n)((?: {4}.*\n)+)", text) + re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
        joined = re.sub(r"\n {20,}", " ", "".join(blocks))
        lines.update(re.split(r" {3}|#|>>", line.strip().removeprefix("$ "))[0] for line in joined.splitlines())
    return sorted(line for line in lines if line.startswith(f"{program} "))


def options(command: click.Command) -> set[str]:
    """Return the names of a command's options, with those of its subcommands."""
    names = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    if isinstance(command, click.Group):
        names.update(*(options(subcommand(command, name)) for name in command.list_commands(click.Context(command))))
    return {name for name in names if name.startswith("-")} | {"--help"}


def subcommand(group: click.Group, name: str) -> click.Command:
    found = group.get_command(click.Context(group), name)
    assert found is not None, name
    return found


def test_the_pages_have_command_lines() -> None:
    assert len(command_lines("dicomport")) > 20
    assert {"make demo", "make test"} <= set(command_lines("make"))


@pytest.mark.parametrize("line", command_lines("dicomport"))
def test_a_command_line_has_existing_options(line: str) -> None:
    words = shlex.split(re.sub(r"[\[\]]", " ", line))[1:]
    commands: list[click.Command] = [command]
    while isinstance(commands[0], click.Group) and words and not words[0].startswith("-"):
        commands = [subcommand(commands[0], name) for name in words.pop(0).split("|")]
    known = set.union(*map(options, commands))
    assert {word.split("=")[0] for word in words if re.match("--?[a-z]", word)} <= known


@pytest.mark.parametrize("line", command_lines("make"))
def test_a_make_command_has_an_existing_target(line: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE)


ELSEWHERE = {"--update", "--check", "--short", "--quick", "--seconds", "--only", "--rounds"}
"""Options of the project's tools."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_an_option_in_the_text_exists(page: Path) -> None:
    named = set(re.findall(r"`(--?[a-z][a-z-]*)[^`]*`", page.read_text(encoding="utf-8")))
    assert named - options(command) - ELSEWHERE - {"--max-"} == set()

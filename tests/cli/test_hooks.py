"""Commands as hooks: real processes, which receive text of peers as data and never block the receiver."""

import asyncio
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner
from tests.core.messages import CT
from tests.encoding.encode import EXPLICIT, element
from tests.scp.messages import request

from dicomport import StorageSCP
from dicomport.archive import Archive, ArchiveOptions, Check, Checks, HookError, Policy
from dicomport.cli.receiver.hooks import command_hook, command_hooks, hook_options, split_command
from dicomport.testing import ScriptedSCU

TIMEOUT: Final = 60.0
"""Seconds: only a test that fails waits that long."""

SOON: Final = 0.05
HOUR: Final = 3600.0

HOSTILE: Final = (
    ";id",
    "$(id)",
    "`id`",
    "|id",
    "&& id",
    "a\nid",
    "-rf",
    "--help",
    "$HOME",
    "*",
    "'\"",
    "\x1b[2J",
    "\x00",
    "é",
)

APPEND: Final = """
import json, os, sys
line = sys.stdin.buffer.read()
with open(sys.argv[1], "ab") as file:
    file.write(json.dumps({"argv": sys.argv[1:], "stdin": line.decode("ascii")}).encode() + b"\\n")
"""
"""Writes down how it was called."""


def python(code: str, *arguments: str | Path) -> tuple[str, ...]:
    return (sys.executable, "-c", code, *map(str, arguments))


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario, and check that it leaves no task and no process."""

    async def main() -> None:
        async with asyncio.timeout(TIMEOUT):
            await scenario()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def called(path: Path) -> list[dict[str, Any]]:
    """Return the calls that `APPEND` has recorded, with the decoded stdin."""
    calls = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert all(call["stdin"].count("\n") == 1 for call in calls)
    return [json.loads(call["stdin"]) for call in calls]


# The function that runs a command.


def test_it_gets_the_facts_as_one_line_of_json_and_its_own_arguments_only(tmp_path: Path) -> None:
    facts: Mapping[str, object] = {str(number): value for number, value in enumerate(HOSTILE)}
    calls = tmp_path / "calls"

    run(lambda: _once(python(APPEND, calls, "$(id)", "a b"), facts))
    assert called(calls) == [facts]
    [call] = map(json.loads, calls.read_bytes().splitlines())
    assert call["argv"] == [str(calls), "$(id)", "a b"]


async def _once(argv: tuple[str, ...], facts: Mapping[str, object] | None = None) -> None:
    await command_hook(argv)(facts or {})


def test_output_of_a_hook_is_discarded(capfd: pytest.CaptureFixture[str]) -> None:
    run(lambda: _once(python("import sys; print('out', flush=True); print('err', file=sys.stderr)")))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_it_need_not_read_its_stdin(size: int) -> None:
    run(lambda: _once(python("pass"), {"value": "x" * size}))


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (python("raise SystemExit(3)", "token=secret"), f"{Path(sys.executable).name} ended with exit code 3"),
        (
            python("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "token=secret"),
            f"{Path(sys.executable).name} was ended by signal 15",
        ),
        (("/nowhere/tell", "token=secret"), "cannot run tell: No such file or directory"),
        (("/etc/passwd", "token=secret"), "cannot run passwd: Permission denied"),
    ],
    ids=["exit code", "signal", "not found", "no program"],
)
def test_a_failure_is_logged_without_the_arguments(argv: tuple[str, ...], reason: str) -> None:
    async def scenario() -> None:
        with pytest.raises(HookError) as caught:
            await _once(argv)
        assert str(caught.value) == reason

    run(scenario)


def test_cancelled_it_is_killed_with_all_that_it_has_started(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # Its child keeps the pipe open; both wait for ever and ignore SIGTERM.
    code = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1], "wb") as pipe:
    pipe.write(b"!")
    pipe.flush()
    subprocess.run([sys.executable, "-c", "import signal; signal.pause()"], stdout=pipe)
"""

    async def scenario() -> None:
        running = asyncio.create_task(_once(python(code, pipe)))
        with await asyncio.to_thread(pipe.open, "rb", 0) as end:
            assert await asyncio.to_thread(end.read, 1) == b"!"
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            # The other end is closed in each process.
            assert await asyncio.to_thread(end.read) == b""

    run(scenario)


# The option's value.


def test_a_command_is_split_and_nothing_more() -> None:
    assert split_command(f"{shlex.quote(sys.executable)} -c 'a b' $HOME `id` | tee *") == (
        *(sys.executable, "-c", "a b", "$HOME", "`id`", "|", "tee", "*"),
    )


@pytest.mark.parametrize("command", ["", "  ", "'open", "/nowhere/tell it", "/etc/passwd"])
def test_an_invalid_command_is_refused(command: str) -> None:
    with pytest.raises(ValueError, match=r"not an executable program|No closing quotation"):
        split_command(command)


def test_the_options_are_the_parameters_of_command_hooks(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    @click.command()
    @hook_options
    def command(**options: Any) -> None:
        command_hooks(tmp_path, **options)
        seen.append(options)

    runner = CliRunner()
    assert runner.invoke(command, []).exit_code == 0
    assert runner.invoke(command, ["--on-study", "true 'a b'", "--study-timeout", "5"]).exit_code == 0
    assert seen == [
        {"on_instance": None, "on_study": None, "study_timeout": 60.0, "hook_timeout": 300.0},
        {"on_instance": None, "on_study": ("true", "a b"), "study_timeout": 5.0, "hook_timeout": 300.0},
    ]
    for wrong in (["--on-instance", "/nowhere/tell"], ["--on-study", "'"], ["--study-timeout", "0"]):
        assert runner.invoke(command, wrong).exit_code == 2


# From a peer's words to a command.


def data_set(instance: str, patient_id: str) -> bytes:
    def text(tag: int, vr: str, value: str) -> bytes:
        data = value.encode()
        return element(EXPLICIT, tag, vr, data + (b"\0" if vr == "UI" else b" ") * (len(data) % 2))

    return b"".join(
        (
            text(0x00080005, "CS", "ISO_IR 192"),
            text(0x00080016, "UI", CT),
            text(0x00080018, "UI", instance),
            text(0x00100010, "PN", patient_id),
            text(0x00100020, "LO", patient_id),
            text(0x0020000D, "UI", "1.2.1"),
            text(0x0020000E, "UI", "1.2.1.1"),
        )
    )


async def receive(
    root: Path,
    on_instance: tuple[str, ...] | None,
    on_study: tuple[str, ...] | None,
    send: Callable[[int], object],
    options: ArchiveOptions | None = None,
) -> None:
    """Run a receiver with hooks for as long as `send` takes, and the hooks until they have ended."""
    hooks = command_hooks(root, on_instance=on_instance, on_study=on_study, study_timeout=SOON, hook_timeout=HOUR)
    archive = Archive(root, options, hooks=hooks)
    try:
        async with hooks, StorageSCP(archive, port=0, on_association_end=hooks.association_ended) as scp:
            await asyncio.to_thread(send, scp.port)
    finally:
        archive.close()


def test_f7_text_of_peers_is_data_and_never_interpreted(tmp_path: Path) -> None:
    calling = (";id", "$(id)", "`id`", "|id", "&& id", "-rf", "--help", "$HOME", "*")
    patients = (";id", "$(id)", "`id`", "|id", "&& id", "a\nid", "-rf", "--help", "é")
    root, instances, studies = tmp_path / "archive", tmp_path / "instances", tmp_path / "studies"

    def send(port: int) -> None:
        for number, (title, patient) in enumerate(zip(calling, patients, strict=True)):
            with ScriptedSCU("127.0.0.1", port) as peer:
                peer.associate(request=request(calling=title))
                uid = f"1.2.3.{number}"
                assert peer.store(uid, data_set(uid, patient)).status == 0x0000
                peer.release()

    run(lambda: receive(root, python(APPEND, instances), python(APPEND, studies), send))
    told = sorted(called(instances), key=lambda facts: str(facts["sop_instance_uid"]))
    assert [facts["calling_ae_title"] for facts in told] == list(calling)
    assert [facts["patient_id"] for facts in told] == list(patients)
    for facts in told:
        assert facts["event"] == "instance"
        assert Path(facts["path"]).is_absolute()
        assert facts["patient_id"].encode() in Path(facts["path"]).read_bytes()
        assert (facts["study_instance_uid"], facts["sop_class_uid"], facts["address"]) == ("1.2.1", CT, "127.0.0.1")
        assert len(facts["digest"]) == 64
    about_study = called(studies)
    assert sum(facts["instances"] for facts in about_study) == len(told)
    assert {title for facts in about_study for title in facts["calling_ae_titles"]} == set(calling)
    assert {(facts["event"], facts["archive"]) for facts in about_study} == {("study", str(root))}


@pytest.mark.parametrize("accepted", [False, True])
def test_f7_uids_that_are_none_are_data_too_where_they_are_accepted(tmp_path: Path, *, accepted: bool) -> None:
    root, calls = tmp_path / "archive", tmp_path / "calls"
    uids = (";id", "$(id)", "`id`", "|id", "&& id", "-rf", "../../1.2", "/etc/1.2", "1.2.3\nid")
    options = ArchiveOptions(checks=Checks(dict.fromkeys(Check, Policy.ACCEPT) if accepted else {}))

    def send(port: int) -> None:
        with ScriptedSCU("127.0.0.1", port) as peer:
            peer.associate()
            for message_id, uid in enumerate(uids, 1):
                status = peer.store(uid, data_set(uid, "P1"), message_id=message_id).status
                assert status == (0xB007 if accepted else 0x0117)
            assert peer.store("1.2.3", data_set("1.2.3", "P1"), message_id=99).status == 0x0000
            peer.release()

    run(lambda: receive(root, python(APPEND, calls), None, send, options))
    told = called(calls)
    assert {facts["sop_instance_uid"] for facts in told} == ({"1.2.3", *uids} if accepted else {"1.2.3"})
    for facts in told:
        path = Path(facts["path"])
        assert path.resolve() == path
        assert path.is_relative_to(root)
        assert path.is_file()


def test_a_command_that_fails_is_logged_and_the_sender_knows_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def send(port: int) -> None:
        with ScriptedSCU("127.0.0.1", port) as peer:
            peer.associate()
            assert peer.store("1.2.3", data_set("1.2.3", "P1")).status == 0x0000
            peer.release()

    with caplog.at_level(logging.WARNING, "dicomport"):
        run(lambda: receive(tmp_path, python("raise SystemExit(3)", "token=secret"), None, send))
    name = Path(sys.executable).name
    assert [entry.getMessage() for entry in caplog.records] == [
        f'hook_failed hook=on_instance uid=1.2.3 reason="{name} ended with exit code 3"'
    ]

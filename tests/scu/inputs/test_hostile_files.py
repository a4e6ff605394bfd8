"""F9: files in a folder may be hostile; the sender names the unsendable ones, and ends."""

import contextlib
import os
from pathlib import Path

import pytest
from tests.scu.data import CT as CT_CLASS, EXPLICIT, FILES, IMPLICIT, explicit, part10, uid

from dicomport import NotSendableError, StorageSCP, StoreRequest, blocking
from dicomport.scu import instance_from_path
from dicomport.scu.transform.conversion import convert
from dicomport.scu.transform.editing import Editor

CT = FILES / "CT_small.dcm"
ITEM = bytes.fromhex("feff00e0ffffffff")


def take(_: StoreRequest) -> int:
    return 0x0000


def sent(*paths: Path) -> dict[str, str]:
    """Send, and return the reason for each file's name, "" for a success."""
    with StorageSCP(take, port=0).in_thread() as scp:
        report = blocking.send(paths, "127.0.0.1", scp.port)
    return {result.path.name: result.reason for result in report.results if result.path is not None}


def test_f9_a_dicomdir_in_a_folder_is_named_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "DICOMDIR").write_bytes(next(FILES.rglob("DICOMDIR")).read_bytes())
    assert sent(tmp_path) == {
        "DICOMDIR": "a DICOMDIR: it lists instances, but is not one",
        tmp_path.name: "nothing to send: no instances found in this folder",
    }


def test_f9_a_loop_of_links_between_folders_is_not_walked(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "ct.dcm").write_bytes(CT.read_bytes())
    (tmp_path / "one" / "back").symlink_to(tmp_path, target_is_directory=True)
    assert sent(tmp_path) == {"ct.dcm": ""}


def test_f9_a_link_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert sent(tmp_path) == {"self": "cannot be read: Too many levels of symbolic links"}


@pytest.mark.timeout(20)
def test_f9_a_fifo_is_named_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert sent(tmp_path) == {"fifo": "not a readable DICOM file: not a regular file"}


def test_f9_a_file_cut_before_sending_does_not_stop_the_others(tmp_path: Path) -> None:
    first, cut, last = (tmp_path / name for name in ("1.dcm", "2.dcm", "3.dcm"))
    for path in (first, cut, last):
        path.write_bytes(CT.read_bytes())

    def take_and_cut(_: StoreRequest) -> int:
        os.truncate(cut, 1000)
        return 0x0000

    with StorageSCP(take_and_cut, port=0).in_thread() as scp:
        report = blocking.send([tmp_path], "127.0.0.1", scp.port, associations=1, window=1)
    reasons = {result.path.name: result.reason for result in report.results if result.path is not None}
    assert reasons["1.dcm"] == reasons["3.dcm"] == ""
    assert "the file became shorter" in reasons["2.dcm"]


def test_f9_a_file_that_is_gone_when_its_turn_comes_is_named(tmp_path: Path) -> None:
    first, gone, last = (tmp_path / name for name in ("1.dcm", "2.dcm", "3.dcm"))
    for path in (first, gone, last):
        path.write_bytes(CT.read_bytes())

    def take_and_remove(_: StoreRequest) -> int:
        gone.unlink(missing_ok=True)
        return 0x0000

    with StorageSCP(take_and_remove, port=0).in_thread() as scp:
        report = blocking.send([tmp_path], "127.0.0.1", scp.port, associations=1, window=1)
    reasons = {result.path.name: result.reason for result in report.results if result.path is not None}
    assert reasons["1.dcm"] == reasons["3.dcm"] == ""
    assert "cannot be read" in reasons["2.dcm"]
    assert report.associations == 1


def test_f9_ten_thousand_files_that_are_no_instances_are_all_named(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / str(number)).touch()
    results = sent(tmp_path)
    assert len(results) == 10_000
    assert set(results.values()) == {"the file is empty"}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("depth", [99, 400, 20_000])
@pytest.mark.parametrize("first", [True, False], ids=["before the UIDs", "after the UIDs"])
def test_f9_deeply_nested_sequences_are_sent_or_named(tmp_path: Path, depth: int, *, first: bool) -> None:
    """And converted or edited or named, without exceeding the recursion limit."""
    uids = explicit(8, 0x16, b"UI", uid(CT_CLASS)) + explicit(8, 0x18, b"UI", uid("1.2.3.4"))
    tag = b"\x08\0\x06\0" if first else b"\x08\0\x40\x11"
    start, end = tag + b"SQ\0\0" + b"\xff" * 4 + ITEM, bytes.fromhex("feff0de000000000 feffdde000000000")
    nested = start * depth + end * depth
    path = part10(tmp_path / "1.dcm", syntax=EXPLICIT, data=nested + uids if first else uids + nested)

    assert sent(path) == {"1.dcm": ""}
    instance = instance_from_path(path)
    for change in (lambda one: convert(one, IMPLICIT), Editor({"PatientID": "TEST"}).edit):
        with contextlib.nullcontext() if depth < 100 else contextlib.suppress(NotSendableError):
            assert change(instance).read()


HOSTILE_UIDS = ("..", "../x", "/etc/x", "$(id)", "`id`", ";id", "|id", "-rf", "a\nb", "\x1b[2J", "%s%n", "x" * 65)


@pytest.mark.parametrize("name", HOSTILE_UIDS)
def test_f9_a_hostile_uid_is_sent_as_it_is_or_named(tmp_path: Path, name: str) -> None:
    """The sender makes no file name or command of it."""
    value = name.encode() + bytes(len(name) % 2)
    data = explicit(8, 0x16, b"UI", uid(CT_CLASS)) + explicit(8, 0x18, b"UI", value) + explicit(0x20, 0xD, b"UI", value)
    path = part10(tmp_path / "1.dcm", sop_instance=name, syntax=EXPLICIT, data=data)
    received: list[str] = []

    def accept(request: StoreRequest) -> int:
        received.append(request.sop_instance_uid)
        return 0x0000

    with StorageSCP(accept, port=0).in_thread() as scp:
        report = blocking.send([path], "127.0.0.1", scp.port)

    assert received == ([name] if len(name) <= 64 else [])
    assert [bool(result.reason) for result in report.results] == [len(name) > 64]
    assert list(tmp_path.iterdir()) == [path]

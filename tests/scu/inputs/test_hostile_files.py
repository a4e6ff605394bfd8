"""F9: files in a folder may be hostile; the sender names the unsendable ones, and ends."""

import os
from pathlib import Path

import pytest
from tests.scu.data import FILES

from dicomport import StorageSCP, StoreRequest, blocking

CT = FILES / "CT_small.dcm"


def take(_: StoreRequest) -> int:
    return 0x0000


def sent(*paths: Path) -> dict[str, str]:
    """Send, and return the reason for each file's name, "" for a success."""
    with StorageSCP(take, port=0).in_thread() as scp:
        report = blocking.send(paths, "127.0.0.1", scp.port)
    return {result.path.name: result.reason for result in report.results if result.path is not None}


def test_f9_a_dicomdir_in_a_folder_is_named_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "DICOMDIR").write_bytes(next(FILES.rglob("DICOMDIR")).read_bytes())
    assert sent(tmp_path) == {"DICOMDIR": "a DICOMDIR: it lists instances, but is not one"}


def test_f9_a_loop_of_links_between_folders_is_not_walked(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "ct.dcm").write_bytes(CT.read_bytes())
    (tmp_path / "one" / "back").symlink_to(tmp_path, target_is_directory=True)
    assert sent(tmp_path) == {"ct.dcm": ""}


def test_f9_a_link_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert sent(tmp_path) == {"self": "can't be read: Too many levels of symbolic links"}


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
    assert "can't be read" in reasons["2.dcm"]
    assert report.associations == 1


def test_f9_ten_thousand_files_that_are_no_instances_are_all_named(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / str(number)).touch()
    results = sent(tmp_path)
    assert len(results) == 10_000
    assert set(results.values()) == {"the file is empty"}

"""The inputs that a caller may name: discovered lazily, in order, each with a result."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.scu.data import CT_FILE, EXPLICIT, FILES, data_set_of, instance, part10

from dicomport.scu import Instance, InstanceResult, NotSendableError, instance_from_path
from dicomport.scu.inputs.discovery import find
from dicomport.scu.inputs.found import Found
from dicomport.scu.inputs.instance import read_instance
from dicomport.scu.inputs.locations import stamp_of
from dicomport.wire import FileMetaError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

NOT_DICOM: Final = "not a DICOM file, or a bare data set with unknown encoding or UIDs"
NO_FILE: Final = "cannot be read: No such file or directory"
NO_MATCH: Final = "no such file, and no file matches it as a glob"


def names(found: Iterator[Found] | list[Found], root: Path) -> list[str]:
    """Return the paths below `root`, with the reason for each refused one."""
    return [
        str(item.path or "").removeprefix(f"{root}/") + (f": {item.reason}" if isinstance(item, InstanceResult) else "")
        for item in found
    ]


def some(root: Path, *paths: str) -> Path:
    """Write an instance at each path."""
    for number, path in enumerate(paths, 1):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        part10(root / path, sop_instance=f"1.2.3.{number}")
    return root


def sent(item: Found) -> bytes:
    assert isinstance(item, Instance)
    return b"".join(bytes(chunk) for chunk in item.chunks(1000))


# Files and folders.


def test_inputs_keep_their_order_whatever_their_kind(tmp_path: Path) -> None:
    some(tmp_path, "folder/b", "folder/a", "file")
    made = instance()

    found = list(find([tmp_path / "file", made, tmp_path / "nothing", str(tmp_path / "folder"), CT_FILE]))

    assert names(found, tmp_path) == ["file", "", f"nothing: {NO_FILE}", "folder/a", "folder/b", str(CT_FILE)]
    assert found[1] is made


def test_the_order_is_that_of_names_however_many_are_read_ahead(tmp_path: Path) -> None:
    expected = [f"{folder:02}/{number:03}" for folder in range(12) for number in range(100)]
    some(tmp_path, *reversed(expected))

    assert names(find([tmp_path]), tmp_path) == expected


def test_unsendable_inputs_keep_their_place_in_the_order(tmp_path: Path) -> None:
    some(tmp_path, *(f"{number:03}" for number in range(0, 200, 2)))
    for number in range(1, 200, 2):
        (tmp_path / f"{number:03}").write_text("text")

    assert names(find([tmp_path]), tmp_path) == [
        f"{number:03}" + (f": {NOT_DICOM}" if number % 2 else "") for number in range(200)
    ]


def test_only_so_much_is_read_as_is_asked_for_and_a_little_ahead(tmp_path: Path) -> None:
    some(tmp_path, *(f"{number:04}" for number in range(2000)))
    found = find([tmp_path])
    next(found)
    (tmp_path / "1999").unlink()

    assert names(list(found)[-2:], tmp_path) == ["1998", f"1999: {NO_FILE}"]


def test_several_threads_read_from_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some(tmp_path, *(f"{number:03}" for number in range(200)))
    together = threading.Barrier(2)

    def meeting(path: str) -> Instance:
        if path.endswith(("/100", "/150")):  # further apart than one request to a thread
            together.wait(30)
        return read_instance(path)

    monkeypatch.setattr("dicomport.scu.inputs.discovery.read_instance", meeting)
    monkeypatch.setattr("dicomport.scu.inputs.discovery._SLOW_SECONDS", -1.0)

    assert len(list(find([tmp_path]))) == 200


def test_one_at_a_time_reads_from_a_fast_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some(tmp_path, *(f"{number:03}" for number in range(200)))
    reading = threading.Lock()

    def alone(path: str) -> Instance:
        assert reading.acquire(blocking=False)
        try:
            return read_instance(path)
        finally:
            reading.release()

    monkeypatch.setattr("dicomport.scu.inputs.discovery.read_instance", alone)
    monkeypatch.setattr("dicomport.scu.inputs.discovery._SLOW_SECONDS", 3600.0)

    assert len(list(find([tmp_path]))) == 200


def test_a_generator_is_asked_for_one_item_at_a_time(tmp_path: Path) -> None:
    some(tmp_path, "1", "2", "3")
    asked: list[str] = []

    def items() -> Iterator[Path]:
        for name in "123":
            asked.append(name)
            yield tmp_path / name

    found = find(items())
    assert asked == []
    for number in (1, 2, 3):
        next(found)
        assert len(asked) == number


def test_closed_early_it_leaves_no_thread(tmp_path: Path) -> None:
    some(tmp_path, *(f"{number:04}" for number in range(300)))
    found = find([tmp_path])
    for _ in range(100):
        next(found)
    assert any(thread.name.startswith("dicomport-find") for thread in threading.enumerate())

    found.close()  # type: ignore[attr-defined]  # it is a generator

    assert not any(thread.name.startswith("dicomport-find") for thread in threading.enumerate())


def test_an_instance_found_in_a_file_takes_a_few_hundred_bytes(tmp_path: Path) -> None:
    some(tmp_path, *(f"{number:04}" for number in range(1000)))
    list(find([tmp_path]))  # imports and caches of the first run are not counted
    tracemalloc.start()
    found = list(find([tmp_path]))
    taken = tracemalloc.get_traced_memory()[0] / len(found)
    tracemalloc.stop()

    assert taken < 700


def test_folders_thousands_of_levels_deep_are_walked(tmp_path: Path) -> None:
    # As deep as a path may be long; made from within, as no single path could name all of it at once.
    depth, root = 1500, os.open(tmp_path, os.O_RDONLY)
    at = root
    for _ in range(depth):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        if at != root:
            os.close(at)
        at = below
    os.close(at)
    some(tmp_path, "d/d/file")

    try:
        assert names(find([tmp_path]), tmp_path) == ["d/d/file"]
        assert names(find([str(tmp_path / "**/f*")]), tmp_path) == ["d/d/file"]
    finally:
        os.close(root)
        # pytest's removal of folders is recursive.
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)


@pytest.mark.timeout(20)
def test_special_files_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's path may not be long
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
    (tmp_path / "loop").symlink_to("loop")
    expected = [
        "fifo: not a readable DICOM file: not a regular file",
        "loop: cannot be read: Too many levels of symbolic links",
        "socket: cannot be read: No such device or address",
    ]

    assert names(find([tmp_path]), tmp_path) == expected
    assert names(find(sorted(tmp_path.iterdir())), tmp_path) == expected
    assert names(find(["/dev/zero"]), Path("/dev")) == ["zero: not a readable DICOM file: not a regular file"]


@pytest.mark.parametrize("path", ["", "a\0b", "x" * 300, "["])
def test_impossible_paths_are_refused(path: str) -> None:
    [found] = find([path])

    assert isinstance(found, InstanceResult)
    assert found.reason


def test_a_folder_named_by_a_link_is_walked_and_links_within_are_not(tmp_path: Path) -> None:
    some(tmp_path, "real/1")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real/back").symlink_to(tmp_path)

    assert names(find([tmp_path / "link"]), tmp_path) == ["link/1"]


# Fields of a file.


def test_the_stamp_is_the_file_s_size_and_time(tmp_path: Path) -> None:
    path = part10(tmp_path / "file")
    os.utime(path, ns=(0, 1_234_567_890_123_456_789))

    assert instance_from_path(path).stamp == (path.stat().st_size, 1_234_567_890_123_456_789)
    assert instance_from_path(FILES / "rtstruct.dcm").stamp == stamp_of((FILES / "rtstruct.dcm").stat())
    assert instance().stamp is None


def test_an_instance_may_be_read_again() -> None:
    for item in (instance_from_path(CT_FILE), instance(size=5000)):
        assert sent(item) == sent(item) != b""
    chunks = instance_from_path(CT_FILE).chunks(100)
    next(chunks)
    assert sent(instance_from_path(CT_FILE)) == data_set_of(CT_FILE)


def test_a_file_that_has_changed_since_is_not_read(tmp_path: Path) -> None:
    def reason(change: Callable[[Path], object]) -> str:
        path = part10(tmp_path / "file", size=1000)
        found = instance_from_path(path)
        change(path)
        with pytest.raises(FileMetaError) as error:
            next(found.chunks(100))
        return str(error.value)

    assert reason(lambda path: os.utime(path, ns=(0, 0))) == "the file has changed since it was found"
    assert reason(lambda path: path.write_bytes(path.read_bytes() + b"ab")) == "the file has changed since it was found"
    assert reason(lambda path: os.truncate(path, 500)) == "the file became shorter since it was found"


def test_a_file_that_changes_while_it_is_read_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = part10(tmp_path / "file", size=1000)
    chunks = instance_from_path(path).chunks(100)
    for _ in range(9):
        next(chunks)
    os.utime(path, ns=(0, 0))

    with pytest.raises(FileMetaError, match="has changed"):
        next(chunks)


def test_a_file_replaced_by_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    path = part10(tmp_path / "file")
    found = instance_from_path(path)
    path.unlink()
    os.mkfifo(path)

    with pytest.raises(FileMetaError, match="not a regular file"):
        next(found.chunks(100))


# Globs.


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.dcm", ["1.dcm", "2.dcm"]),
        ("?.dcm", ["1.dcm", "2.dcm"]),
        ("[2-9].dcm", ["2.dcm"]),
        ("[!2].dcm", ["1.dcm"]),
        ("a/*", ["a/1.dcm", "a/b/1.dcm", "a/b/x"]),
        ("*/*.dcm", ["a/1.dcm", "link/1.dcm"]),
        ("*/b", ["a/b/1.dcm", "a/b/x", "link/b/1.dcm", "link/b/x"]),
        ("**/*.dcm", ["1.dcm", "2.dcm", "a/1.dcm", "a/b/1.dcm"]),
        ("a/**/*.dcm", ["a/1.dcm", "a/b/1.dcm"]),
        ("**/b/*", ["a/b/1.dcm", "a/b/x"]),
        ("a/**", ["a/1.dcm", "a/b/1.dcm", "a/b/x"]),
        ("**/b", ["a/b/1.dcm", "a/b/x"]),
        (".*/*", [".hidden/1.dcm"]),
        ("a*/../1.*", ["a/../1.dcm"]),
    ],
)
def test_a_glob_is_expanded_in_the_order_of_names(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    some(tmp_path, "2.dcm", "1.dcm", "a/1.dcm", "a/b/x", "a/b/1.dcm", ".hidden/1.dcm", ".3.dcm")
    (tmp_path / "link").symlink_to("a")

    assert names(find([str(tmp_path / pattern)]), tmp_path) == expected
    assert names(find([tmp_path / pattern]), tmp_path) == expected


def test_a_relative_glob_is_one_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some(tmp_path, "2.dcm", "1.dcm", "a/1.dcm")
    monkeypatch.chdir(tmp_path)

    assert names(find(["*.dcm"]), tmp_path) == ["1.dcm", "2.dcm"]
    assert names(find(["**/1*"]), tmp_path) == ["1.dcm", "a/1.dcm"]
    assert names(find(["**"]), tmp_path) == ["1.dcm", "2.dcm", "a/1.dcm"]


def test_each_file_matches_once(tmp_path: Path) -> None:
    some(tmp_path, "a/b/c/1", "a/b/2", "3")

    assert names(find([str(tmp_path / "**/*")]), tmp_path) == ["3", "a/b/2", "a/b/c/1"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    some(tmp_path, "[1].dcm", "1.dcm")

    assert names(find([tmp_path / "[1].dcm"]), tmp_path) == ["[1].dcm"]


@pytest.mark.parametrize("pattern", ["*.dcm", "a/*/b", "**/x", "file/*"])
def test_a_glob_that_nothing_matches_is_named(tmp_path: Path, pattern: str) -> None:
    some(tmp_path, "file")

    assert names(find([str(tmp_path / pattern)]), tmp_path) == [f"{pattern}: {NO_MATCH}"]


# Lists.


@contextlib.contextmanager
def stdin(listing: bytes) -> Iterator[int]:
    """Replace the standard input with these bytes, and return its file descriptor."""
    with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        file.write(listing)
        file.seek(0)
        patch.setattr(sys, "stdin", file)
        yield file.fileno()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
@pytest.mark.parametrize("last", [True, False])
def test_a_list_has_a_path_a_line_or_nuls(tmp_path: Path, end: str, last: bool) -> None:
    some(tmp_path, "2", "1", "a b/3", "folder/5", "folder/4")
    paths = [str(tmp_path / name) for name in ("2", "1", "a b/3", "folder", "nothing")]
    expected = ["2", "1", "a b/3", "folder/4", "folder/5", f"nothing: {NO_FILE}", str(CT_FILE)]

    with stdin((end.join(paths) + end * last).encode()):
        assert names(find(["-", CT_FILE]), tmp_path) == expected
    with stdin((end.join(paths) + end * last).encode()):
        assert names(find([Path("-"), CT_FILE]), tmp_path) == expected


def test_separated_by_nuls_a_path_may_have_a_line_s_end_in_it(tmp_path: Path) -> None:
    some(tmp_path, "1", "a\nb")
    listing = b"\0".join(os.fsencode(tmp_path / name) for name in ("1", "a\nb"))

    with stdin(listing):
        assert names(find(["-"]), tmp_path) == ["1", "a\nb"]


def test_a_long_list_is_read_to_its_end(tmp_path: Path) -> None:
    some(tmp_path, "1")
    with stdin(f"{tmp_path}/1\n".encode() * 5000):
        assert names(find(["-"]), tmp_path) == ["1"] * 5000


def test_listed_files_are_sent_before_the_list_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some(tmp_path, "1", "2")
    read, write = os.pipe()
    with os.fdopen(read, "rb") as listing, os.fdopen(write, "wb", buffering=0) as writer:
        monkeypatch.setattr(sys, "stdin", listing)
        found = find(["-"])
        for name in ("1", "2"):
            writer.write(f"{tmp_path}/{name}\n".encode())
            assert names([next(found)], tmp_path) == [name]
        writer.close()
        assert list(found) == []


@pytest.mark.parametrize("listing", [b"", b"\n\n", b"\0\0"])
def test_an_empty_list_names_nothing(listing: bytes) -> None:
    with stdin(listing):
        assert list(find(["-"])) == []


@pytest.mark.timeout(20)
def test_an_invalid_list_is_read_up_to_a_limit() -> None:
    with stdin(b"x" * (1 << 20)) as endless:
        [found] = find(["-"])

        assert isinstance(found, InstanceResult)
        assert found.path == Path("-")
        assert found.reason.startswith("not a list of paths")
        assert os.lseek(endless, 0, os.SEEK_CUR) < 1 << 18


def test_a_hyphen_in_a_folder_or_in_a_list_is_a_file_s_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some(tmp_path, "-")
    monkeypatch.chdir(tmp_path)

    with stdin(b"-\n./-"):
        assert names(find(["-", "./-"]), tmp_path) == ["-", "-", "-"]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=300))
def test_each_line_of_a_list_has_a_result(tmp_path: Path, listing: bytes) -> None:
    # Not to find what happens to lie about: all paths lead to a folder that is not there.
    safe = listing.replace(b"/", b"_")
    where = os.fsencode(tmp_path / "nothing") + b"/"
    lines = b"\n".join(where + line for line in safe.split(b"\n"))
    with stdin(lines):
        assert all(isinstance(item, InstanceResult) and item.reason for item in find(["-"]))


# In memory.


def test_a_data_set_is_encoded_when_it_is_its_turn() -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID

    def dataset(number: int) -> Dataset:
        made = Dataset()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = UID(EXPLICIT)
        made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.{number}"
        return made

    first, second = dataset(1), dataset(2)
    found = find([first, second])
    assert isinstance(next(found), Instance)
    second.SOPInstanceUID = "1.2.22"
    last = next(found)
    assert isinstance(last, Instance)
    assert last.sop_instance_uid == "1.2.22"
    [refused] = find([Dataset()])
    assert refused.path is None


def test_one_file_at_a_time_is_as_before(tmp_path: Path) -> None:
    with pytest.raises(NotSendableError, match="No such file"):
        instance_from_path(tmp_path / "nothing")
    assert instance_from_path(CT_FILE).path == CT_FILE

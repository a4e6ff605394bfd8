"""Part 10 files appear complete or not at all, even if the disk fails (rows F4 to F10)."""

import errno
import os
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from tests.files.faults import Disk, Fault

from dicomport.files import TEMPORARY_SUFFIX, Durability, PartialFile, probe, system
from dicomport.wire import FileMeta, encode_file_meta

META: Final = FileMeta(
    media_storage_sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    media_storage_sop_instance_uid="1.2.3.4",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    source_ae_title="MODALITY",
)
HEADER: Final = encode_file_meta(META)
UID: Final = "1.2.3.4"
NAME: Final = "1.2.3.4.dcm"


def store(
    folder: Path,
    data: bytes = b"0123456789",
    uid: str = UID,
    *,
    meta: FileMeta = META,
    durability: Durability = Durability.FSYNC,
    step: int = 4,
) -> Path:
    partial = PartialFile(folder, encode_file_meta(meta), durability)
    try:
        for at in range(0, len(data), step):
            partial.write(data[at : at + step])
    except BaseException:
        partial.discard()
        raise
    return Path(partial.commit(uid))


def open_descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path, monkeypatch)


@pytest.mark.parametrize("durability", list(Durability))
def test_the_file_is_header_and_bytes_and_can_be_read_by_owner_and_group(
    tmp_path: Path, durability: Durability
) -> None:
    before = os.umask(0o077)
    try:
        path = store(tmp_path, durability=durability)
    finally:
        os.umask(before)
    assert path == tmp_path / NAME
    assert path.read_bytes() == HEADER + b"0123456789"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.stat().st_nlink == 1
    assert list(tmp_path.iterdir()) == [path]


def test_until_it_is_committed_there_is_only_a_hidden_temporary_file(tmp_path: Path) -> None:
    partial = PartialFile(tmp_path, HEADER, Durability.FSYNC)
    partial.write(b"0123")
    [temporary] = tmp_path.iterdir()
    assert temporary.name.startswith(".")
    assert temporary.suffix == TEMPORARY_SUFFIX
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o640
    partial.discard()
    assert list(tmp_path.iterdir()) == []


def test_missing_folders_are_made_and_synced_into_their_parents(disk: Disk, tmp_path: Path) -> None:
    store(tmp_path / "study" / "series")
    assert [name for call, name in disk.calls if call == "fsync" and not name.endswith(".part")] == [
        "study",
        ".",
        "study/series",
    ]


def test_the_order_is_bytes_then_file_then_name_then_folder(disk: Disk) -> None:
    store(disk.root)
    temporary = next(name for _, name in disk.calls if name.endswith(".part"))
    order = [(call, "the temporary file" if name == temporary else name) for call, name in disk.calls]
    assert [step for step in order if step[0] not in {"open", "mkdir"}] == [
        ("write", "the temporary file"),
        ("write", "the temporary file"),
        ("write", "the temporary file"),
        ("fsync", "the temporary file"),
        ("link", NAME),
        ("fsync", "."),
    ]


def test_a_name_of_a_temporary_file_that_exists_is_no_failure(tmp_path: Path) -> None:
    """Another user may guess the next name once one was visible; the names after that cannot be guessed."""
    partial = PartialFile(tmp_path, HEADER, Durability.FLUSH)
    [first] = tmp_path.iterdir()
    prefix, number = first.stem.split("-")
    guessed = [first.with_name(f"{prefix}-{int(number, 16) + more:x}{TEMPORARY_SUFFIX}") for more in (1, 2, 3)]
    for path in guessed:
        path.touch()
    partial.discard()
    assert store(tmp_path) == tmp_path / NAME
    another = PartialFile(tmp_path, HEADER, Durability.FLUSH)
    [name] = {path.name for path in tmp_path.iterdir()} - {NAME, *(path.name for path in guessed)}
    another.discard()
    assert not name.startswith(prefix)
    assert len(prefix) == 1 + 2 * 12
    assert [path.stat().st_size for path in guessed] == [0, 0, 0]


def test_a_forked_process_has_other_names(tmp_path: Path) -> None:
    PartialFile(tmp_path, HEADER, Durability.FLUSH).discard()
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        PartialFile(tmp_path, HEADER, Durability.FLUSH)
        os.write(theirs, next(tmp_path.iterdir()).name.encode())
        os._exit(0)
    os.waitpid(pid, 0)
    child = os.read(ours, 100).decode()
    os.close(ours)
    os.close(theirs)
    partial = PartialFile(tmp_path, HEADER, Durability.FLUSH)
    [parent] = {path.name for path in tmp_path.iterdir()} - {child}
    partial.discard()
    assert parent.partition("-")[0] != child.partition("-")[0]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o777, 0])
def test_a_probed_folder_knows_whether_files_need_permissions(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        file_system = probe(tmp_path, Durability.FLUSH)
        partial = PartialFile(tmp_path, HEADER, Durability.FLUSH, file_system)
    finally:
        os.umask(before)
    assert file_system.creates_modes == (umask in {0o022, 0})
    assert stat.S_IMODE(Path(partial.commit(UID)).stat().st_mode) == 0o640


def test_flushing_waits_for_no_disk(disk: Disk) -> None:
    store(disk.root, durability=Durability.FLUSH)
    assert "fsync" not in {call for call, _ in disk.calls}
    assert disk.visible() == [NAME]


def test_a_duplicate_is_synced_before_it_counts_as_stored(disk: Disk) -> None:
    """The process that wrote it may not have synced it."""
    store(disk.root, durability=Durability.FLUSH)
    disk.calls.clear()
    store(disk.root)
    assert [name for call, name in disk.calls if call == "fsync" and not name.endswith(".part")] == [NAME, "."]


SMALL_WRITE: Final = 3


def test_short_writes_are_carried_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def short(descriptor: int, data: memoryview) -> int:
        return real(descriptor, data[:SMALL_WRITE])

    for first in (0, 1, len(HEADER) - 1, len(HEADER), len(HEADER) + 1, len(HEADER) + 4):

        def short_list(descriptor: int, parts: Sequence[bytes], first: int = first) -> int:
            return real(descriptor, b"".join(parts)[:first])

        with monkeypatch.context() as patch:
            patch.setattr(system, "write", short)
            patch.setattr(system, "writev", short_list)
            path = store(tmp_path, uid=f"1.2.{first}")
        assert path.read_bytes() == HEADER + b"0123456789"


FAULTS: Final = {
    "no descriptor for the temporary file": Fault("open", errno.EMFILE, TEMPORARY_SUFFIX, 0),
    "read-only file system": Fault("open", errno.EROFS, TEMPORARY_SUFFIX, 0),
    "no room for the header": Fault("write", errno.ENOSPC, TEMPORARY_SUFFIX, 0),
    "no room for the data set": Fault("write", errno.ENOSPC, TEMPORARY_SUFFIX, 2),
    "quota exceeded": Fault("write", errno.EDQUOT, TEMPORARY_SUFFIX, 1),
    "I/O error while writing": Fault("write", errno.EIO, TEMPORARY_SUFFIX, 1),
    "I/O error while syncing": Fault("fsync", errno.EIO, TEMPORARY_SUFFIX, 0),
    "no room while syncing": Fault("fsync", errno.ENOSPC, TEMPORARY_SUFFIX, 0),
    "no room for the name": Fault("link", errno.ENOSPC, ".dcm", 0),
    "I/O error while naming": Fault("link", errno.EIO, ".dcm", 0),
    "read-only when naming": Fault("link", errno.EROFS, ".dcm", 0),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_of_a_file_that_fails_nothing_is_left_and_the_next_one_works(disk: Disk, fault: Fault) -> None:
    descriptors = open_descriptors()
    disk.fail(fault)
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        store(disk.root)
    assert caught.value.errno == fault.errno
    assert disk.visible() == []
    assert open_descriptors() == descriptors
    disk.recover()
    store(disk.root)
    assert disk.visible() == [NAME]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_made_leaves_nothing(disk: Disk, number: int) -> None:
    disk.fail(Fault("mkdir", number))
    with pytest.raises(OSError, match=r"\[Errno"):
        store(disk.root / "a" / "b")
    assert disk.visible() == []


def test_folders_of_a_failed_call_are_made_and_synced_by_the_next(disk: Disk) -> None:
    disk.fail(Fault("mkdir", errno.ENOSPC, "a/b"))
    with pytest.raises(OSError, match="No space"):
        store(disk.root / "a" / "b")
    assert disk.visible() == []
    disk.recover()
    disk.calls.clear()
    store(disk.root / "a" / "b")
    assert [name for call, name in disk.calls if call == "fsync" and not name.endswith(".part")] == ["a", ".", "a/b"]


def test_a_folder_that_cannot_be_synced_is_an_error_and_the_file_whole(disk: Disk) -> None:
    """It may stand for another sender's instance already, so it cannot be taken away again."""
    disk.fail(Fault("fsync", errno.EIO, "."))
    with pytest.raises(OSError, match="Input/output"):
        store(disk.root)
    assert disk.visible() == [NAME]
    assert (disk.root / NAME).read_bytes() == HEADER + b"0123456789"
    disk.recover()
    assert store(disk.root) == disk.root / NAME
    assert disk.visible() == [NAME]


NO_HARD_LINKS: Final = [errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EIO, errno.EACCES]


@pytest.mark.parametrize("number", NO_HARD_LINKS)
def test_a_file_system_without_hard_links_will_do(disk: Disk, number: int) -> None:
    disk.fail(Fault("link", number))
    first = store(disk.root)
    assert store(disk.root) == first
    assert store(disk.root, b"something else") == disk.root / "1.2.3.4~2.dcm"
    assert disk.visible() == [NAME, "1.2.3.4~2.dcm"]
    assert first.read_bytes() == HEADER + b"0123456789"
    assert stat.S_IMODE(first.stat().st_mode) == 0o640


def test_the_name_of_a_failed_write_is_free_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(number: int) -> OSError:
        return OSError(number, os.strerror(number))

    def link(*_arguments: object, **_options: object) -> None:
        raise fail(errno.EPERM)

    def replace(*_arguments: object, **_options: object) -> None:
        raise fail(errno.EIO)

    with monkeypatch.context() as patch:
        patch.setattr(system, "link", link)
        patch.setattr(system, "replace", replace)
        with pytest.raises(OSError, match="Input/output"):
            store(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_same_data_set_of_another_sender_is_one_file(tmp_path: Path) -> None:
    first = store(tmp_path)
    content, inode = first.read_bytes(), first.stat().st_ino
    other_sender = FileMeta(
        media_storage_sop_class_uid=META.media_storage_sop_class_uid,
        media_storage_sop_instance_uid=UID,
        transfer_syntax_uid=META.transfer_syntax_uid,
        source_ae_title="SOMEBODY_ELSE",
    )
    assert store(tmp_path, meta=other_sender) == first
    assert (first.read_bytes(), first.stat().st_ino) == (content, inode)
    assert list(tmp_path.iterdir()) == [first]


def test_other_data_sets_are_kept_beside_the_first(tmp_path: Path) -> None:
    contents = [b"0123456789", b"012345678", b"012345678x", b"01234567890"]
    paths = [store(tmp_path, content) for content in contents]
    assert [path.name for path in paths] == [NAME, "1.2.3.4~2.dcm", "1.2.3.4~3.dcm", "1.2.3.4~4.dcm"]
    # And each of them is found again.
    assert [store(tmp_path, content) for content in contents] == paths
    assert [path.read_bytes() for path in paths] == [HEADER + content for content in contents]
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_a_large_data_set_is_compared_to_its_end(tmp_path: Path) -> None:
    large = bytes(3 << 20)
    first = store(tmp_path, large, step=1 << 20)
    assert store(tmp_path, large, step=1 << 20) == first
    assert store(tmp_path, large[:-1] + b"x", step=1 << 20) == tmp_path / "1.2.3.4~2.dcm"


def test_a_link_planted_at_the_name_is_not_followed(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    folder.mkdir()
    target = store(outside)
    content = target.read_bytes()
    (folder / NAME).symlink_to(target)
    # Even if it leads to the same data set: the file may be removed at any time.
    assert store(folder) == folder / "1.2.3.4~2.dcm"
    assert store(folder, b"something else") == folder / "1.2.3.4~3.dcm"
    assert target.read_bytes() == content
    assert (folder / NAME).is_symlink()
    assert list(outside.iterdir()) == [target]


@pytest.mark.parametrize("kind", ["dangling link", "folder", "FIFO", "empty file", "another file"])
def test_an_existing_file_is_unchanged(tmp_path: Path, kind: str) -> None:
    path = tmp_path / NAME
    match kind:
        case "dangling link":
            path.symlink_to(tmp_path / "nowhere")
        case "folder":
            path.mkdir()
        case "FIFO":
            os.mkfifo(path)
        case "empty file":
            path.touch()
        case _:
            path.write_bytes(b"something that is no DICOM file")
    before = path.lstat()
    assert store(tmp_path) == tmp_path / "1.2.3.4~2.dcm"
    after = path.lstat()
    assert (after.st_ino, after.st_mode, after.st_size) == (before.st_ino, before.st_mode, before.st_size)
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / "1.2.3.4~2.dcm"]


@pytest.mark.parametrize("hard_links", [True, False])
def test_many_at_once_never_share_or_tear_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    contents = [bytes([number]) * 5000 for number in range(8)]
    barrier = threading.Barrier(len(contents))
    paths: list[Path] = []

    def run(content: bytes) -> None:
        partial = PartialFile(tmp_path, HEADER, Durability.FLUSH)
        partial.write(content)
        barrier.wait()
        paths.append(Path(partial.commit(UID)))

    with monkeypatch.context() as patch:
        if not hard_links:

            def link(*_arguments: object, **_options: object) -> None:
                raise OSError(errno.EPERM, "Operation not permitted")

            patch.setattr(system, "link", link)
        threads = [threading.Thread(target=run, args=(content,)) for content in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert sorted(path.read_bytes() for path in paths) == [HEADER + content for content in contents]


LIMITED: Final = """
    import errno, os, resource, sys
    from pathlib import Path
    from dicomport.files import Durability, PartialFile
    from dicomport.wire import FileMeta, encode_file_meta

    folder = Path(sys.argv[1])
    header = encode_file_meta(FileMeta(transfer_syntax_uid="1.2.840.10008.1.2.1"))

    def store(data):
        try:
            partial = PartialFile(folder, header, Durability.FSYNC)
        except OSError as error:
            return errno.errorcode[error.errno]
        try:
            partial.write(data)
        except OSError as error:
            partial.discard()
            return errno.errorcode[error.errno]
        return os.path.basename(partial.commit("1.2.3"))

    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    print(store(bytes(200_000)), sorted(os.listdir(folder)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    highest = os.open("/dev/null", os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, 1000))
    print(store(b"1234"), sorted(os.listdir(folder)) if os.close(highest) is None else None)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))
    print(store(b"1234"), sorted(os.listdir(folder)))
"""


def test_limits_of_the_system_itself(tmp_path: Path) -> None:
    """With no wrapper in between: a file size limit and the descriptors used up."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["EFBIG []", "EMFILE []", "1.2.3.dcm ['1.2.3.dcm']"]

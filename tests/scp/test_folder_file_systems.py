"""Folders of Part 10 files on file systems that lack calls: tolerated if the call keeps no promise, otherwise named."""

import errno
import logging
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from tests.files.mounts import mounted
from tests.scp.messages import DATA_SET, request

from dicomport import Durability, FolderStorage, StorageSCP, StoreRequest
from dicomport.files import MAX_COPIES, read_part10
from dicomport.scp import Storage
from dicomport.scp.handlers import Handler
from dicomport.testing import ScriptedSCU

NAME: Final = "1.2.3.4.dcm"
OTHER: Final = "1.2.3.4~2.dcm"
CHANGED: Final = DATA_SET[:-1] + b"2"

TOLERATED: Final = [
    *("plain", "hard", "nolink", "linkEPERM", "linkEIO", "linkEINVAL"),
    *("noutime", "utimeEIO", "nochmod", "chmodEIO", "seconds", "newinodes"),
    "plain,linkEIO,utimeEIO,chmodEIO,newinodes",
]


def statuses(handler: Storage | Handler, *data_sets: bytes) -> list[int]:
    """Send data sets with one SOP Instance UID, and return their statuses."""
    with StorageSCP(handler, port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate(request=request())
        found = [peer.store("1.2.3.4", data, message_id=number).status for number, data in enumerate(data_sets, 1)]
        peer.release()
    return found


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("durability", list(Durability))
@pytest.mark.parametrize("kinds", TOLERATED)
def test_a_folder_works_without_optional_calls(tmp_path: Path, kinds: str, durability: Durability) -> None:
    with mounted(tmp_path / "disk", *kinds.split(",")) as disk:
        for _ in range(2):
            storage = FolderStorage(disk / "received", durability)
            assert statuses(storage, DATA_SET, DATA_SET, CHANGED) == [0, 0, 0]
            assert listing(disk / "received") == [NAME, OTHER]
        for name, sent in ((NAME, DATA_SET), (OTHER, CHANGED)):
            content = (disk / "received" / name).read_bytes()
            assert content[read_part10(disk / "received" / name).offset :] == sent


@pytest.mark.parametrize("kinds", ["linkEIO", "nolink", "utimeEIO", "chmodEIO"])
def test_a_request_is_saved_without_optional_calls(tmp_path: Path, kinds: str) -> None:
    with mounted(tmp_path / "disk", kinds) as disk:

        def save(received: StoreRequest) -> int:
            received.save_blocking(disk / "saved")
            return 0

        assert statuses(save, DATA_SET, DATA_SET, CHANGED) == [0, 0, 0]
        assert listing(disk / "saved") == [NAME, OTHER]


def test_missing_calls_are_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "dicomport")
    with mounted(tmp_path / "disk", "linkEIO", "noutime") as disk:
        statuses(FolderStorage(disk / "received"), DATA_SET, CHANGED)
    [fields] = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
    assert fields == {
        "event": "file_system_limited",
        "path": str(disk / "received"),
        "calls": ["link", "utime"],
    }


@pytest.mark.parametrize(
    ("kind", "call"), [("nodirsync", "fsync of a folder"), ("nofsync", "fsync of a file")], ids=["folder", "file"]
)
def test_a_file_system_that_cannot_sync_is_named_at_the_start(tmp_path: Path, kind: str, call: str) -> None:
    with mounted(tmp_path / "disk", kind) as disk:
        with pytest.raises(OSError, match=rf"{call} fails .*Invalid argument.*Durability\.FLUSH") as caught:
            FolderStorage(disk / "new" / "received")
        assert caught.value.filename == str(disk / "new" / "received")
        assert list(disk.iterdir()) == []
        assert statuses(FolderStorage(disk / "received", Durability.FLUSH), DATA_SET) == [0]


def test_a_folder_that_cannot_be_created_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="Not a directory") as caught:
        FolderStorage(tmp_path / "file" / "received")
    assert caught.value.errno == errno.ENOTDIR


def test_a_folder_that_is_removed_is_created_again(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path / "received")
    (tmp_path / "received").rmdir()
    assert statuses(storage, DATA_SET) == [0]
    assert listing(tmp_path / "received") == [NAME]


KILLED: Final = """
import os, signal, sys
from pathlib import Path
from dicomport.files import Durability, PartialFile, system
from dicomport.wire import FileMeta, encode_file_meta

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

meta = FileMeta(
    media_storage_sop_class_uid="1.2.3", media_storage_sop_instance_uid="1.2.3.4", transfer_syntax_uid="1.2"
)
partial = PartialFile(Path(sys.argv[1]), encode_file_meta(meta), Durability.FLUSH)
system.replace = kill
partial.commit("1.2.3.4")
"""


def test_the_placeholder_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "linkEIO") as disk:
        folder = disk / "received"
        assert subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False).returncode == -9
        assert (folder / NAME).stat().st_size == 0
        assert statuses(FolderStorage(folder), DATA_SET) == [0]
        assert [name for name in listing(folder) if not name.endswith(".part")] == [NAME]
        assert (folder / NAME).stat().st_size > 0


def test_the_copies_of_one_uid_are_limited(tmp_path: Path) -> None:
    """The next one is refused, and an instance that is stored already is accepted."""
    data_sets = [DATA_SET[:-2] + f"{number:02x}".encode() for number in range(MAX_COPIES + 1)]
    assert MAX_COPIES == 100
    with (
        StorageSCP(FolderStorage(tmp_path, Durability.FLUSH), port=0).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as peer,
    ):
        peer.associate(request=request())
        answers = [peer.store("1.2.3.4", data, message_id=number) for number, data in enumerate(data_sets, 1)]
        assert [answer.status for answer in answers] == [0] * MAX_COPIES + [0x0111]
        assert answers[-1].error_comment == "too many instances with this UID are already stored"
        assert peer.store("1.2.3.4", data_sets[-2], message_id=200).status == 0
        assert peer.store("1.2.3.5", DATA_SET, message_id=201).status == 0
    assert len(listing(tmp_path)) == MAX_COPIES + 1
    assert "1.2.3.4~100.dcm" in listing(tmp_path)


def test_a_request_is_not_saved_beyond_the_copies_of_its_uid(tmp_path: Path) -> None:
    errors: list[OSError] = []

    def save(received: StoreRequest) -> int:
        try:
            received.save_blocking(tmp_path / "saved", Durability.FLUSH)
        except OSError as error:
            errors.append(error)
        return 0

    data_sets = [DATA_SET[:-2] + f"{number:02x}".encode() for number in range(MAX_COPIES + 1)]
    assert set(statuses(save, *data_sets)) == {0}
    [error] = errors
    assert isinstance(error, FileExistsError)
    assert error.filename == str(tmp_path / "saved" / "1.2.3.4~100.dcm")
    assert len(listing(tmp_path / "saved")) == MAX_COPIES

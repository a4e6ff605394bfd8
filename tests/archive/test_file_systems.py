"""Archives on file systems that lack calls: tolerated if the call keeps no promise, otherwise named at the start."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from tests.archive.sending import CT, bytes_of, files, findings, instance, receiver, rows, stored_bytes
from tests.encoding.encode import EXPLICIT
from tests.files.mounts import mounted

from dicomport import Durability, blocking
from dicomport.archive import Archive, ArchiveOptions, quarantined
from dicomport.commitment.transactions import Transaction, Transactions
from dicomport.scu import Instance

NAME: Final = "1.2.3/1.2.3.1/1.2.3.4.dcm"
OTHER: Final = "1.2.3/1.2.3.1/1.2.3.4~2.dcm"

TOLERATED: Final = [
    *("plain", "hard", "nolink", "linkEPERM", "linkEIO", "linkEINVAL", "seconds", "newinodes"),
    *("noutime", "utimeEIO", "nochmod", "chmodEIO"),
    "plain,nolink,noutime,nochmod,newinodes",
]


def send(port: int, *what: Instance) -> None:
    with blocking.associate("127.0.0.1", port, contexts=[(CT, EXPLICIT)]) as association:
        assert [association.c_store(one).status.code for one in what] == [0] * len(what)


@pytest.mark.parametrize("durability", list(Durability))
@pytest.mark.parametrize("kinds", TOLERATED)
def test_an_archive_works_without_optional_calls(tmp_path: Path, kinds: str, durability: Durability) -> None:
    """Every operation works, and after each clean stop nothing is left and the archive can be opened again."""
    sent = [instance(), instance(), instance(pixels=b"else"), instance(said="1.2.3.99")]
    with mounted(tmp_path / "disk", *kinds.split(",")) as disk:
        root = disk / "archive"
        for _ in range(3):
            with receiver(root, ArchiveOptions(durability=durability)) as received:
                assert received.send(*sent) == [0, 0, 0, 0xA900]
            assert [path.name for path in (root / ".dicomport" / "sessions").iterdir()] == ["lock"]
        assert files(root) == [NAME, OTHER]
        assert [row["path"] for row in rows(root)] == [NAME, OTHER]
        assert findings(root) == []
        assert [stored_bytes(root / name) for name in (NAME, OTHER)] == [bytes_of(sent[1]), bytes_of(sent[2])]
        assert len(list(quarantined(root / ".dicomport" / "quarantine"))) == 3


@pytest.mark.parametrize(
    ("kind", "call"), [("nodirsync", "fsync of a folder"), ("nofsync", "fsync of a file")], ids=["folder", "file"]
)
def test_a_file_system_that_cannot_sync_is_named_at_the_start(tmp_path: Path, kind: str, call: str) -> None:
    with mounted(tmp_path / "disk", kind) as disk:
        with pytest.raises(OSError, match=f"{call} fails .*Invalid argument.*durability flush") as caught:
            Archive(disk / "archive")
        assert str(disk / "archive") in str(caught.value.filename)
        assert list(disk.rglob("*.part")) == []


@pytest.mark.parametrize("kind", ["nodirsync", "nofsync"])
def test_flush_syncs_nothing(tmp_path: Path, kind: str) -> None:
    with mounted(tmp_path / "disk", kind) as disk:
        for _ in range(2):
            with receiver(disk / "archive", ArchiveOptions(durability=Durability.FLUSH)) as received:
                assert received.send(instance(), instance(said="1.2.3.99")) == [0, 0xA900]
        assert findings(disk / "archive") == []
        kept = Transactions(disk / "commitments", Durability.FLUSH)
        kept.add(
            Transaction(
                uid="1.2.3", ae_title="A", host="", tls_fingerprint="", references=(), requested=1.0, duplicate=False
            )
        )
        kept.close()


@pytest.mark.parametrize("kinds", TOLERATED)
def test_acknowledged_instances_survive_a_kill(tmp_path: Path, kinds: str) -> None:
    """The next receiver recovers them after the file system was mounted again."""
    program = [sys.executable, str(Path(__file__).with_name("receiver.py"))]
    for number in range(2):
        with (
            mounted(tmp_path / "disk", *kinds.split(",")) as disk,
            subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{disk / 'archive'}\n")
            process.stdin.flush()
            port = int(process.stdout.readline())
            if number:
                assert [row["path"] for row in rows(disk / "archive")] == [NAME, "1.2.3/1.2.3.1/1.2.3.5.dcm"]
                assert findings(disk / "archive") == []
            else:
                send(port, instance(), instance("1.2.3.5"))
            process.kill()


KILLED: Final = """
import os, signal, sys
from pathlib import Path
from dicomport.files import FileSystem, TemporaryFile, system
from dicomport.wire import FileMeta, encode_file_meta

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

meta = FileMeta(
    media_storage_sop_class_uid="1.2.3", media_storage_sop_instance_uid="1.2.3.4", transfer_syntax_uid="1.2"
)
folder = Path(sys.argv[1])
folder.mkdir(parents=True)
file = TemporaryFile(folder, encode_file_meta(meta), FileSystem(hard_links=False))
file.write(b"")
system.replace = kill
file.link(folder / "1.2.3.4.dcm")
"""


def test_the_placeholder_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "nolink") as disk:
        root = disk / "archive"
        Archive(root).close()
        assert subprocess.run([sys.executable, "-c", KILLED, str((root / NAME).parent)], check=False).returncode == -9
        assert (root / NAME).stat().st_size == 0
        with receiver(root) as received:
            assert received.send(instance(), instance(), instance(pixels=b"else")) == [0, 0, 0]
        assert [name for name in files(root) if not name.endswith(".part")] == [NAME, OTHER]
        assert stored_bytes(root / NAME) == bytes_of(instance())


def test_an_empty_file_with_hard_links_is_no_placeholder(tmp_path: Path) -> None:
    Archive(tmp_path).close()
    (tmp_path / NAME).parent.mkdir(parents=True)
    (tmp_path / NAME).touch()
    with receiver(tmp_path) as received:
        assert received.send(instance()) == [0]
    assert files(tmp_path) == [NAME, OTHER]
    assert (tmp_path / NAME).read_bytes() == b""


def test_an_archive_works_without_fdatasync(tmp_path: Path) -> None:
    """The function is missing on macOS; the module is loaded without it, in a new process."""
    program = (
        "import os, sys, runpy; del os.fdatasync\n"
        "sys.argv = [sys.argv[1]]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).with_name("receiver.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{tmp_path}\n")
        process.stdin.flush()
        port = int(process.stdout.readline())
        send(port, instance())
        process.communicate()
    assert files(tmp_path) == [NAME]
    assert findings(tmp_path) == []

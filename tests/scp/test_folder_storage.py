"""A folder of Part 10 files: bytes received are bytes stored, and success is said only when they are safe."""

import asyncio
import errno
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.core.messages import CT, EXPLICIT, LAST_COMMAND, command_set, p_data, pdv
from tests.files.faults import Disk, Fault
from tests.files.test_names import HOSTILE
from tests.scp.messages import DATA_SET, STORE, in_fragments, request, store, store_command, store_elements

from dicomport import Durability, FolderStorage, StorageSCP, blocking, files
from dicomport.core import IMPLEMENTATION
from dicomport.files import TEMPORARY_SUFFIX, read_part10, system
from dicomport.testing import ScriptedSCU
from dicomport.wire import CStoreRSP, FileMeta, encode_file_meta

NAME: Final = "1.2.3.4.dcm"

META: Final = FileMeta(
    media_storage_sop_class_uid=CT,
    media_storage_sop_instance_uid="1.2.3.4",
    transfer_syntax_uid=EXPLICIT,
    implementation_class_uid=IMPLEMENTATION.class_uid,
    implementation_version_name=IMPLEMENTATION.version_name,
    source_ae_title="MODALITY",
    sending_ae_title="MODALITY",
    receiving_ae_title="DICOMPORT",
    source_presentation_address="dicom:127.0.0.1",
)

LONG: Final = bytes(range(256)) * 10_000
"""More than is collected in memory before a thread writes it."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "received"


@pytest.fixture
def peer(folder: Path) -> Iterator[ScriptedSCU]:
    """Yield a peer with an association to a server that fills the folder."""
    with StorageSCP(FolderStorage(folder), port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as connected:
        connected.associate(request=request())
        yield connected


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("data", [DATA_SET, LONG, b"", b"MZ" + bytes(62) + b"PE\0\0", b"\x7fELF" + bytes(60)])
def test_a_file_is_a_zeroed_preamble_our_file_meta_and_the_received_bytes(
    peer: ScriptedSCU, folder: Path, data: bytes
) -> None:
    peer.send(store_command(), in_fragments(STORE, data, 16_000) if data else store(data=b"")[len(store_command()) :])
    assert peer.expect(CStoreRSP).command.status == 0x0000
    content = (folder / NAME).read_bytes()
    assert content[:132] == bytes(128) + b"DICM"
    assert content == encode_file_meta(META) + data
    assert stat.S_IMODE((folder / NAME).stat().st_mode) == 0o640
    assert listing(folder) == [NAME]


def test_pydicom_reads_our_file_meta(peer: ScriptedSCU, folder: Path) -> None:
    assert peer.store("1.2.3.4", DATA_SET).status == 0x0000
    dataset = pydicom.dcmread(folder / NAME)
    meta = dataset.file_meta
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.MediaStorageSOPInstanceUID == "1.2.3.4"
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.ImplementationClassUID == IMPLEMENTATION.class_uid
    assert meta.ImplementationVersionName == IMPLEMENTATION.version_name
    assert meta[0x0002, 0x0016].value == "MODALITY"
    assert meta[0x0002, 0x0017].value == "MODALITY"
    assert meta[0x0002, 0x0018].value == "DICOMPORT"
    assert dataset.PatientID == "P-01"


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_RLE.dcm", "ExplVR_BigEnd.dcm", "JPEG2000.dcm", "rtplan.dcm"]
)
def test_a_file_sent_is_the_file_stored_but_for_its_header(folder: Path, name: str) -> None:
    path = Path(pydicom.__file__).parent / "data" / "test_files" / name
    sent = read_part10(path)
    with StorageSCP(FolderStorage(str(folder)), port=0).in_thread() as scp:
        report = blocking.send(path, "127.0.0.1", scp.port, ae_title="SENDER")
    assert not report.failed
    [stored] = folder.iterdir()
    found = read_part10(stored)
    assert stored.read_bytes()[found.offset :] == path.read_bytes()[sent.offset :]
    assert found.meta.transfer_syntax_uid == sent.meta.transfer_syntax_uid
    assert found.meta.sending_ae_title == "SENDER"


# Text that a peer can send as a UID: a NUL or space at an end is padding.
ON_THE_WIRE: Final = [
    text for text in HOSTILE if text.strip("\0 ") == text and text and all(ord(char) < 256 for char in text)
]


@pytest.mark.parametrize("text", ON_THE_WIRE, ids=ascii)
def test_no_sop_instance_uid_leads_out_of_the_folder(
    peer: ScriptedSCU, folder: Path, tmp_path: Path, text: str
) -> None:
    elements = store_elements() | {0x1000: text.encode("latin-1")}
    peer.send(p_data(pdv(STORE, LAST_COMMAND, command_set(elements))), in_fragments(STORE, DATA_SET, 100))
    status = peer.expect(CStoreRSP).command.status
    assert status == (0x0000 if len(text) <= 64 else 0x0117)
    assert listing(tmp_path) == ["received"]
    assert len(listing(folder)) == (1 if status == 0 else 0)
    if status == 0:
        [path] = folder.iterdir()
        assert path.is_file()
        assert read_part10(path).meta.media_storage_sop_instance_uid == text


def test_names_that_differ_anyhow_are_files_of_their_own(peer: ScriptedSCU, folder: Path) -> None:
    texts = [text for text in ON_THE_WIRE if len(text) <= 64]
    for text in texts:
        elements = store_elements() | {0x1000: text.encode("latin-1")}
        peer.send(p_data(pdv(STORE, LAST_COMMAND, command_set(elements))), in_fragments(STORE, DATA_SET, 100))
        assert peer.expect(CStoreRSP).command.status == 0x0000
    assert sorted(read_part10(path).meta.media_storage_sop_instance_uid for path in folder.iterdir()) == sorted(texts)


@given(uid=st.binary(min_size=1, max_size=64), calling=st.text(st.characters(min_codepoint=33, max_codepoint=126)))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_for_a_uid(peer: ScriptedSCU, folder: Path, tmp_path: Path, uid: bytes, calling: str) -> None:
    peer.send(
        p_data(pdv(STORE, LAST_COMMAND, command_set(store_elements() | {0x1000: uid}))),
        in_fragments(STORE, DATA_SET + calling.encode(), 100),
    )
    assert peer.expect(CStoreRSP).command.status == (0x0000 if uid.strip(b"\0 ") else 0x0117)
    assert set(listing(tmp_path)) <= {"received"}
    assert all(name.endswith(".dcm") and (folder / name).is_file() for name in listing(folder))


def test_a_duplicate_is_one_file_and_different_content_is_kept_beside(peer: ScriptedSCU, folder: Path) -> None:
    for data in (DATA_SET, DATA_SET, DATA_SET[:-1] + b"2", DATA_SET, DATA_SET[:-1] + b"2"):
        assert peer.store("1.2.3.4", data).status == 0x0000
    assert listing(folder) == [NAME, "1.2.3.4~2.dcm"]
    assert (folder / NAME).read_bytes() == encode_file_meta(META) + DATA_SET
    assert (folder / "1.2.3.4~2.dcm").read_bytes() == encode_file_meta(META) + DATA_SET[:-1] + b"2"


@pytest.mark.parametrize("different", [False, True])
def test_many_senders_of_one_instance_at_once(folder: Path, different: bool) -> None:
    senders = 8
    contents = [LONG + bytes([number if different else 0]) for number in range(senders)]
    statuses: list[int] = []
    with StorageSCP(FolderStorage(folder, Durability.FLUSH), port=0).in_thread() as scp:
        barrier = threading.Barrier(senders)

        def run(content: bytes) -> None:
            with ScriptedSCU("127.0.0.1", scp.port) as peer:
                peer.associate(request=request())
                whole = store_command() + in_fragments(STORE, content, 100_000)
                peer.send(whole[:-1])
                barrier.wait()
                peer.send(whole[-1:])
                statuses.append(peer.expect(CStoreRSP).command.status)
                peer.release()

        threads = [threading.Thread(target=run, args=(content,)) for content in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert statuses == [0x0000] * senders
    header = encode_file_meta(META)
    assert sorted(path.read_bytes() for path in folder.iterdir()) == sorted(
        header + content for content in set(contents)
    )


@pytest.mark.parametrize("where", ["file", "nothing"])
def test_a_link_planted_at_the_name_is_not_followed(
    peer: ScriptedSCU, folder: Path, tmp_path: Path, where: str
) -> None:
    outside = tmp_path / "outside"
    if where == "file":
        outside.write_bytes(b"precious")
    (folder / NAME).symlink_to(outside)
    assert peer.store("1.2.3.4", DATA_SET).status == 0x0000
    assert (folder / NAME).is_symlink()
    assert (folder / "1.2.3.4~2.dcm").read_bytes() == encode_file_meta(META) + DATA_SET
    assert outside.exists() == (where == "file")
    if where == "file":
        assert outside.read_bytes() == b"precious"


NO_SPACE: Final = (0xA700, "no space left to store the instance")
NOT_WRITTEN: Final = (0x0110, "the instance could not be written")

FAULTS: Final = {
    "EMFILE at the temporary file": (Fault("open", errno.EMFILE, TEMPORARY_SUFFIX, 0), NOT_WRITTEN),
    "EROFS at the temporary file": (Fault("open", errno.EROFS, TEMPORARY_SUFFIX, 0), NOT_WRITTEN),
    "EACCES at the folder": (Fault("mkdir", errno.EACCES, "", 0), NOT_WRITTEN),
    "ENOSPC at the header": (Fault("write", errno.ENOSPC, TEMPORARY_SUFFIX, 0), NO_SPACE),
    "ENOSPC at the first block": (Fault("write", errno.ENOSPC, TEMPORARY_SUFFIX, 1), NO_SPACE),
    "ENOSPC at the last block": (Fault("write", errno.ENOSPC, TEMPORARY_SUFFIX, 3), NO_SPACE),
    "EDQUOT at a block": (Fault("write", errno.EDQUOT, TEMPORARY_SUFFIX, 2), NO_SPACE),
    "EIO at a block": (Fault("write", errno.EIO, TEMPORARY_SUFFIX, 2), NOT_WRITTEN),
    "EIO at fsync": (Fault("fsync", errno.EIO, TEMPORARY_SUFFIX, 0), NOT_WRITTEN),
    "ENOSPC at fsync": (Fault("fsync", errno.ENOSPC, TEMPORARY_SUFFIX, 0), NO_SPACE),
    "ENOSPC at the name": (Fault("link", errno.ENOSPC, ".dcm", 0), NO_SPACE),
    "EROFS at the name": (Fault("link", errno.EROFS, ".dcm", 0), NOT_WRITTEN),
}


@pytest.mark.parametrize(("fault", "answered"), FAULTS.values(), ids=FAULTS)
def test_a_disk_error_is_answered_leaves_no_file_and_the_next_works(
    peer: ScriptedSCU,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    answered: tuple[int, str],
) -> None:
    if fault.call == "mkdir":
        folder.rmdir()  # It exists since the start.
    disk = Disk(folder, monkeypatch)
    disk.fail(fault)
    peer.send(store_command(), in_fragments(STORE, LONG, 16_000))
    answer = peer.expect(CStoreRSP).command
    assert (answer.status, answer.error_comment) == answered
    assert listing(folder) == []
    disk.recover()
    peer.send(store_command(), in_fragments(STORE, LONG, 16_000))
    assert peer.expect(CStoreRSP).command.status == 0x0000
    assert listing(folder) == [NAME]
    peer.release()


def test_success_is_answered_only_after_file_name_and_folder_are_synced(
    peer: ScriptedSCU, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(folder, monkeypatch)
    answered_before: list[tuple[str, str]] = []

    def look(call: str, name: str) -> None:
        if not peer.silent:
            answered_before.append((call, name))

    disk.before = look
    assert peer.store("1.2.3.4", DATA_SET).status == 0x0000
    steps = [(call, "temporary" if name.endswith(".part") else name) for call, name in disk.calls if call != "open"]
    assert [step for step in steps if step[0] != "mkdir"] == [
        ("write", "temporary"),
        ("fsync", "temporary"),
        ("link", NAME),
        ("fsync", "."),
    ]
    assert answered_before == []


def test_a_small_instance_takes_five_system_calls_on_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    with (
        StorageSCP(FolderStorage(folder, Durability.FLUSH), port=0).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as peer,
    ):
        peer.associate(request=request())
        assert peer.store("1.2.3.1", DATA_SET).status == 0x0000
        for name in sorted(set(system.__all__) | {"open_descriptor"}):
            real = getattr(system, name)
            if callable(real):

                def record(*arguments: Any, name: str = name, real: Any = real, **options: Any) -> Any:
                    calls.append(name)
                    return real(*arguments, **options)

                monkeypatch.setattr(system, name, record)
        for uid in ("1.2.3.2", "1.2.3.3"):
            assert peer.store(uid, DATA_SET).status == 0x0000
    assert calls == 2 * ["open_descriptor", "writev", "link", "close", "unlink"]


def test_success_waits_for_the_sync_of_the_folder(
    peer: ScriptedSCU, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(folder, monkeypatch)
    entered, go = threading.Event(), threading.Event()

    def hold(call: str, name: str) -> None:
        if (call, name) == ("fsync", "."):
            entered.set()
            assert go.wait(60)

    disk.before = hold
    peer.send(store())
    assert entered.wait(60)
    assert (folder / NAME).exists()
    assert peer.silent
    go.set()
    assert peer.expect(CStoreRSP).command.status == 0x0000
    disk.fail(Fault("fsync", errno.EIO, "."))
    assert peer.store("1.2.3.5", DATA_SET, message_id=2).status == 0x0110


ASSOCIATIONS: Final = 16


def at_once(folder: Path, disk: Disk) -> dict[str, int]:
    """Send an instance over each of 16 associations, and hold the first fsync of the folder; return the statuses."""
    entered, go = threading.Event(), threading.Event()
    linked = threading.Semaphore(0)

    def hold(call: str, name: str) -> None:
        if call == "link":
            linked.release()
        elif (call, name) == ("fsync", ".") and not entered.is_set():
            entered.set()
            assert go.wait(60)

    storage = FolderStorage(folder)
    disk.calls.clear()
    disk.before = hold
    statuses: dict[str, int] = {}
    with StorageSCP(storage, port=0).in_thread() as scp:

        def send(uid: str) -> None:
            with ScriptedSCU("127.0.0.1", scp.port) as peer:
                peer.associate(request=request())
                statuses[uid] = peer.store(uid, DATA_SET).status
                peer.release()

        threads = [threading.Thread(target=send, args=(f"1.2.3.{number}",)) for number in range(ASSOCIATIONS)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert linked.acquire(timeout=60)
        assert entered.wait(60)
        assert statuses == {}
        go.set()
        for thread in threads:
            thread.join(60)
    return statuses


def test_sixteen_associations_share_the_syncs_of_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(folder, monkeypatch)
    statuses = at_once(folder, disk)
    assert sorted(statuses.values()) == [0x0000] * ASSOCIATIONS
    # The second fsync is that of all instances but the first one. One thread may be too late for it.
    assert 2 <= disk.calls.count(("fsync", ".")) <= 3
    assert sum(call == "fsync" and name.endswith(".part") for call, name in disk.calls) == ASSOCIATIONS


def test_an_error_of_the_folder_refuses_the_instances_that_share_its_sync(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(folder, monkeypatch)
    folder.mkdir()
    disk.fail(Fault("fsync", errno.EIO, ".", 2))
    statuses = at_once(folder, disk)
    assert list(statuses.values()).count(0x0110) >= ASSOCIATIONS - 1
    assert len(listing(folder)) == ASSOCIATIONS


@pytest.mark.parametrize("durability", list(Durability))
def test_a_slow_disk_does_not_hold_up_another_association(
    folder: Path, monkeypatch: pytest.MonkeyPatch, durability: Durability
) -> None:
    disk = Disk(folder, monkeypatch)
    monkeypatch.setattr(files.Disk, "is_fast", False)
    entered, go = threading.Event(), threading.Event()

    def hold(call: str, name: str) -> None:
        if call == "link" and name == NAME:
            entered.set()
            assert go.wait(60)

    disk.before = hold
    with (
        StorageSCP(FolderStorage(folder, durability), port=0).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as slow,
        ScriptedSCU("127.0.0.1", scp.port) as other,
    ):
        slow.associate(request=request())
        other.associate(request=request())
        slow.send(store())
        assert entered.wait(60)
        assert other.store("1.2.3.5", DATA_SET).status == 0x0000
        assert slow.silent
        go.set()
        assert slow.expect(CStoreRSP).command.status == 0x0000


@pytest.mark.parametrize("end", [ScriptedSCU.abort, ScriptedSCU.reset, lambda peer: peer.socket.close()])
@pytest.mark.parametrize("size", [1000, len(LONG)])
def test_of_an_instance_that_breaks_off_nothing_is_left(folder: Path, end: object, size: int) -> None:
    assert callable(end)
    with StorageSCP(FolderStorage(folder), port=0).in_thread() as scp:
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.associate(request=request())
            peer.send(store_command(), in_fragments(STORE, LONG[:size], 1000)[: -1012 if size > 1000 else -500])
            end(peer)
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.associate(request=request())
            assert peer.store("1.2.3.5", DATA_SET).status == 0x0000
    assert listing(folder) == ["1.2.3.5.dcm"]


def test_a_server_that_is_cut_off_while_it_writes_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that writes cannot be cancelled: its file is removed once it is done, and not before."""
    storage = FolderStorage(folder)
    disk = Disk(folder, monkeypatch)
    entered, go = threading.Event(), threading.Event()

    def hold(call: str, _name: str) -> None:
        if call == "write" and not entered.is_set():
            entered.set()
            assert go.wait(60)

    disk.before = hold
    monkeypatch.setattr(files.Disk, "is_fast", False)

    async def scenario() -> None:
        async with StorageSCP(storage, port=0) as scp:
            with await asyncio.to_thread(ScriptedSCU, "127.0.0.1", scp.port) as peer:
                await asyncio.to_thread(peer.associate, request=request())
                await asyncio.to_thread(peer.send, store_command(), in_fragments(STORE, LONG, 16_000)[:-10_000])
                await asyncio.to_thread(entered.wait, 60)
                stopping = asyncio.create_task(scp.stop(within=0))
                for _ in range(20):
                    await asyncio.sleep(0)
                go.set()
                await stopping

    asyncio.run(scenario())
    assert listing(folder) == []


def test_file_meta_follows_the_association(folder: Path) -> None:
    with StorageSCP(FolderStorage(folder), port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate(request=request(calling="A" * 16, called="../../etc"))
        assert peer.store("1.2.3.4", DATA_SET).status == 0x0000
    meta = read_part10(folder / NAME).meta
    assert (meta.source_ae_title, meta.sending_ae_title, meta.receiving_ae_title) == ("A" * 16, "A" * 16, "../../etc")
    assert listing(folder) == [NAME]

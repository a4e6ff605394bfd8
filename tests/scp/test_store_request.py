"""The request for a handler: sender, instance, and the data set's bytes, from memory or a temporary file."""

import asyncio
import os
import struct
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar

import pydicom
import pytest
from tests.core.messages import LAST_COMMAND, command_set, p_data, pdv
from tests.scp.messages import DATA_SET, STORE, in_fragments, request, store_command, store_elements

from dicomport import AssociationInfo, Durability, StorageSCP, StoreOperation, StoreRequest
from dicomport.core import IMPLEMENTATION, AcceptedContext, ImplementationInfo
from dicomport.files import MemoryBudget, read_part10
from dicomport.scp import HandlerStorage
from dicomport.testing import ScriptedSCU
from dicomport.wire import CStoreRQ, CStoreRSP, FileMeta, UserInformation, encode_file_meta

T = TypeVar("T")

CT: Final = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"

PEER: Final = UserInformation(
    maximum_length=0, implementation_class_uid="1.2.3.5", implementation_version_name="PEER_1"
)

MEMORY: Final = 1 << 20
TINY: Final = 1000
"""Bytes that are spooled in memory: with the first number all tests here fit, with the second one hardly any."""


def ask(
    about: Callable[[StoreRequest], T],
    *,
    data: bytes = DATA_SET,
    spool_bytes: int = MEMORY,
    spool_folder: Path | None = None,
    elements: dict[int, bytes] | None = None,
) -> T:
    """Store an instance, in fragments of 500 bytes, and ask about the request from inside its handler."""
    said: list[T] = []

    def handler(request_: StoreRequest) -> int:
        said.append(about(request_))
        return 0

    storage = HandlerStorage(handler, spool_bytes=spool_bytes, spool_folder=spool_folder)
    with StorageSCP(storage, port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate(request=request(items=PEER))
        command = p_data(pdv(STORE, LAST_COMMAND, command_set(elements or store_elements())))
        peer.send(command, in_fragments(STORE, data, 500))
        assert peer.expect(CStoreRSP).command.status == 0x0000
        peer.release()
    return said[0]


def spool_files(folder: Path) -> list[str]:
    """List the temporary files in a folder that this process has open, all of them without a name."""
    found: list[str] = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            name = str(descriptor.readlink())
        except FileNotFoundError:
            continue  # The descriptor of this listing itself.
        if name.startswith(f"{folder}/"):
            found.append(name)
    return found


def test_the_request_describes_the_association() -> None:
    said: list[StoreRequest] = []

    def handler(request_: StoreRequest) -> int:
        said.append(request_)
        return 0

    with StorageSCP(handler, port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate(request=request(calling=" MODALITY_1", called="ANYBODY", items=PEER))
        peer.store("1.2.3.4", DATA_SET)
        own_port = peer.socket.getsockname()[1]
    [asked] = said
    association = asked.association
    assert association.calling_ae_title == "MODALITY_1"
    assert association.called_ae_title == "ANYBODY"
    assert association.address == f"127.0.0.1:{own_port}"
    assert association.tls_certificate is None
    assert association.implementation == ImplementationInfo("1.2.3.5", "PEER_1")


def test_the_request_describes_the_instance() -> None:
    elements = store_elements(41, "1.2.3.4") | {
        0x0700: struct.pack("<H", 1),
        0x1030: b"MOVER ",
        0x1031: struct.pack("<H", 42),
    }
    asked = ask(lambda request_: request_, elements=elements)
    assert asked.context == AcceptedContext(STORE, CT, EXPLICIT)
    assert asked.command == CStoreRQ(
        message_id=41,
        affected_sop_class_uid=CT,
        affected_sop_instance_uid="1.2.3.4",
        priority=1,
        move_originator_ae_title="MOVER",
        move_originator_message_id=42,
    )
    assert (asked.sop_class_uid, asked.sop_instance_uid, asked.transfer_syntax_uid) == (CT, "1.2.3.4", EXPLICIT)


@pytest.mark.parametrize("uid", ["1", "1.2.3.4", "1.2.3.44", "9" * 64, "not a UID"])
def test_the_header_of_a_file_is_its_file_meta(uid: str) -> None:
    association = AssociationInfo(
        calling_ae_title="CALLING",
        called_ae_title="CALLED",
        address="[2001:db8::7]:49152",
        tls_certificate=None,
        implementation=ImplementationInfo("1.2.3", "V"),
    )
    command = CStoreRQ(message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid=uid)
    operation = StoreOperation(association, AcceptedContext(1, CT, EXPLICIT), command, MemoryBudget())
    assert operation.file_meta.media_storage_sop_instance_uid == uid
    assert operation.file_meta.source_presentation_address == "dicom:[2001:db8::7]"
    assert operation.file_header == encode_file_meta(operation.file_meta)


def test_the_file_meta_says_what_it_is_and_who_brought_it() -> None:
    assert ask(lambda request_: request_.file_meta) == FileMeta(
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


PATTERN: Final = bytes(range(251)) * 60

SIZES: Final = (1, 2, 499, 500, 999, 1000, 1001, 1500, 2000, 15060)


@pytest.mark.parametrize("spool_bytes", [MEMORY, TINY, 1])
@pytest.mark.parametrize("size", SIZES)
def test_the_bytes_are_those_received(size: int, spool_bytes: int) -> None:
    data = PATTERN[:size]

    def about(request_: StoreRequest) -> tuple[int, bytes, bytes, bytes]:
        return (
            request_.size,
            request_.encoded(),
            b"".join(bytes(chunk) for chunk in request_.chunks()),
            request_.encoded(),
        )

    assert ask(about, data=data, spool_bytes=spool_bytes) == (size, data, data, data)


@pytest.mark.parametrize(("spool_bytes", "files"), [(MEMORY, 0), (TINY, 1)])
def test_a_large_data_set_is_held_in_a_nameless_file_until_the_response(
    spool_bytes: int, files: int, tmp_path: Path
) -> None:
    folder = tmp_path / "spool"
    assert (
        ask(lambda _request: len(spool_files(folder)), data=PATTERN, spool_bytes=spool_bytes, spool_folder=folder)
        == files
    )
    assert spool_files(folder) == []
    # Nameless: even while the handler runs nothing is to be seen.
    assert list(tmp_path.rglob("*")) == ([folder] if files else [])


def test_no_file_is_left_of_a_data_set_that_breaks_off(tmp_path: Path) -> None:
    storage = HandlerStorage(lambda _request: 0, spool_bytes=10, spool_folder=tmp_path)
    with (
        StorageSCP(storage, port=0).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as peer,
        ScriptedSCU("127.0.0.1", scp.port) as other,
    ):
        peer.associate()
        peer.send(store_command(), in_fragments(STORE, PATTERN, 500)[:-100])
        peer.abort()
        other.associate()
        assert other.store("1.2.3.4", DATA_SET).status == 0x0000
    assert spool_files(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("spool_bytes", [MEMORY, TINY])
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_RLE.dcm"])
def test_the_data_set_decoded_is_that_of_the_file(name: str, spool_bytes: int) -> None:
    path = Path(pydicom.__file__).parent / "data" / "test_files" / name
    found = read_part10(path)
    data = path.read_bytes()[found.offset :]
    expected = pydicom.dcmread(path)
    if found.meta.transfer_syntax_uid == EXPLICIT:
        decoded = ask(lambda request_: request_.dataset(), data=data, spool_bytes=spool_bytes)
        assert decoded == expected
        assert decoded.file_meta.MediaStorageSOPInstanceUID == "1.2.3.4"
        assert decoded.file_meta.TransferSyntaxUID == EXPLICIT
        assert decoded.file_meta.SourceApplicationEntityTitle == "MODALITY"
        assert decoded.PixelData == expected.PixelData
    else:
        # The context names the encoding, and the data set is not checked against it: only the bytes count.
        assert ask(lambda request_: request_.encoded(), data=data, spool_bytes=spool_bytes) == data


@pytest.mark.parametrize("spool_bytes", [MEMORY, TINY])
@pytest.mark.parametrize("durability", list(Durability))
def test_it_is_saved_as_a_file_from_a_function(durability: Durability, spool_bytes: int, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    path = ask(
        lambda request_: request_.save_blocking(folder, durability), data=PATTERN[:3000], spool_bytes=spool_bytes
    )
    assert path == folder / "1.2.3.4.dcm"
    found = read_part10(path)
    assert found.meta.sending_ae_title == "MODALITY"
    assert path.read_bytes()[found.offset :] == PATTERN[:3000]
    assert list(folder.iterdir()) == [path]


def test_it_is_saved_as_a_file_from_a_coroutine_function(tmp_path: Path) -> None:
    paths: list[Path] = []

    async def handler(request_: StoreRequest) -> int:
        paths.append(await request_.save(str(tmp_path)))
        assert paths[-1].exists()
        return 0

    with StorageSCP(handler, port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate()
        assert peer.store("1.2.3.4", DATA_SET).status == 0x0000
        assert peer.store("1.2.3.4", DATA_SET + DATA_SET, message_id=2).status == 0x0000
    assert paths == [tmp_path / "1.2.3.4.dcm", tmp_path / "1.2.3.4~2.dcm"]


def test_a_save_that_fails_leaves_nothing_and_is_the_handlers_to_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chunks(_self: StoreRequest) -> Iterable[memoryview]:
        yield memoryview(b"1234")
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(StoreRequest, "chunks", chunks)

    def about(request_: StoreRequest) -> int | None:
        with pytest.raises(OSError, match="Input/output") as caught:
            request_.save_blocking(tmp_path)
        return caught.value.errno

    assert ask(about) == 5
    assert list(tmp_path.iterdir()) == []


def test_reading_a_request_after_its_handler_has_returned_raises(tmp_path: Path) -> None:
    for spool_bytes in (MEMORY, 1):
        asked = ask(lambda request_: request_, spool_bytes=spool_bytes)
        with pytest.raises(ValueError, match="handler"):
            asked.encoded()
        with pytest.raises(ValueError, match="handler"):
            asked.save_blocking(tmp_path)
        with pytest.raises(ValueError, match="handler"):
            asyncio.run(asked.save(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_handler_that_a_shutdown_interrupts_saves_no_empty_file(tmp_path: Path) -> None:
    """A thread cannot be stopped: its request raises after the end."""
    entered, over = threading.Event(), threading.Event()
    raised: list[BaseException] = []
    done = threading.Event()

    def handler(request_: StoreRequest) -> int:
        entered.set()
        over.wait(60)
        try:
            request_.save_blocking(tmp_path)
        except ValueError as error:
            raised.append(error)
        done.set()
        return 0

    async def scenario() -> None:
        async with StorageSCP(handler, port=0) as scp:
            with await asyncio.to_thread(ScriptedSCU, "127.0.0.1", scp.port) as peer:
                await asyncio.to_thread(peer.associate)
                peer.send(store_command(), in_fragments(STORE, DATA_SET, 500))
                await asyncio.to_thread(entered.wait, 60)
                await scp.stop(within=0)
                over.set()
                assert await asyncio.to_thread(peer.receive) is None
                await asyncio.to_thread(done.wait, 60)

    asyncio.run(scenario())
    assert len(raised) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_large_instance_is_not_held_in_memory(tmp_path: Path) -> None:
    """The pieces read from the spool are bounded for an instance of any length."""
    size = 5 << 20
    data = os.urandom(1 << 10) * (size >> 10)
    storage_sizes: list[int] = []

    def handler(request_: StoreRequest) -> int:
        storage_sizes.extend(len(chunk) for chunk in request_.chunks())
        return 0 if request_.encoded() == data else 0xA900

    storage = HandlerStorage(handler, spool_folder=tmp_path)
    with StorageSCP(storage, port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate()
        peer.send(store_command(), in_fragments(STORE, data, 1 << 17))
        assert peer.expect(CStoreRSP).command.status == 0x0000
    assert sum(storage_sizes) == size
    assert max(storage_sizes) <= 1 << 20

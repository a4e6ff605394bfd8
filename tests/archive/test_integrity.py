"""Storage commitment from the archive: the instance exists, is intact, has its SOP Class, and is on stable storage."""

import asyncio
import contextlib
import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from blake3 import blake3
from tests.archive.sending import CT, LONG, Receiver, index_locked, instance, receiver
from tests.files.faults import Disk, Fault

from dicomport import SOPReference
from dicomport.archive import Archive, ArchiveOptions, Check, Checks, Duplicates, Policy
from dicomport.files import Durability
from dicomport.standard._tables import MISPRINTED_UIDS

MR: Final = "1.2.840.10008.5.1.4.1.1.4"
NAME: Final = "1.2.3/1.2.3.1/1.2.3.4.dcm"
FLUSH: Final = Durability.FLUSH


def reference(uid: str = "1.2.3.4", sop_class: str = CT) -> SOPReference:
    return SOPReference(sop_class, uid)


def look_up(archive: Archive, *references: SOPReference) -> list[int]:
    return [status.code for status in asyncio.run(archive.look_up(references))]


@pytest.fixture
def received(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path / "archive", ArchiveOptions(durability=FLUSH)) as opened:
        yield opened


def until_indexed(archive: Archive, uid: str = "1.2.3.4") -> None:
    """Wait until the index knows an instance."""
    while not archive.index.find(uid):
        pass


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.ERROR]


def test_a_stored_instance_is_found_at_once(received: Receiver) -> None:
    with received.association() as association:
        for number in range(30):
            assert association.c_store(instance(f"1.2.{number}")).status.code == 0x0000
            assert look_up(received.archive, reference(f"1.2.{number}")) == [0x0000]


def test_it_is_there_while_the_index_does_not_know_it(received: Receiver) -> None:
    with index_locked(received.archive):
        received.send(instance())
        assert received.archive.index.find("1.2.3.4") == []
        assert look_up(received.archive, reference(), reference(sop_class=MR)) == [0x0000, 0x0119]


def test_an_unreadable_file_of_a_journal_is_no_missing_instance(received: Receiver) -> None:
    """The folder leads to itself: root cannot examine the file either."""
    with index_locked(received.archive):
        received.send(instance())
        study = received.root / "1.2.3"
        study.rename(received.root / ".elsewhere")
        study.symlink_to(study)
        assert look_up(received.archive, reference()) == [0x0110]
        study.unlink()
        assert look_up(received.archive, reference()) == [0x0112]
        (received.root / ".elsewhere").rename(study)
        assert look_up(received.archive, reference()) == [0x0000]


def test_an_instance_stored_by_another_process_is_found(received: Receiver) -> None:
    other = Archive(received.archive.paths.root)
    with contextlib.closing(other), index_locked(other):
        received.send(instance())
        assert look_up(other, reference()) == [0x0000]


def test_results_have_the_order_of_the_references(received: Receiver) -> None:
    received.send(instance("1.2.1"))
    received.send(instance("1.2.2", sop_class=MR))
    wanted = [reference("1.2.2", MR), reference("1.2.9"), reference("1.2.1"), reference("1.2.2"), reference("1.2.1")]
    assert look_up(received.archive, *wanted) == [0x0000, 0x0112, 0x0000, 0x0119, 0x0000]
    assert look_up(received.archive) == []


def test_any_number_of_references_is_checked(received: Receiver) -> None:
    received.send(instance("1.2.700"))
    wanted = [reference(f"1.2.{number}") for number in range(1201)]
    assert look_up(received.archive, *wanted) == [0x0112] * 700 + [0x0000] + [0x0112] * 500


def test_a_misprinted_class_is_the_one_that_is_meant(received: Receiver) -> None:
    wrong, right = next(iter(MISPRINTED_UIDS.items()))
    received.send(instance("1.2.1", sop_class=right))
    assert look_up(received.archive, reference("1.2.1", wrong), reference("1.2.1", right)) == [0x0000, 0x0000]


SPOILED: Final[dict[str, Callable[[bytes], bytes]]] = {
    "another byte": lambda data: data[:-1] + b"\7",
    "shorter": lambda data: data[:-2],
    "longer": lambda data: data + b"\0\0",
    "empty": lambda _data: b"",
    "no DICOM": lambda _data: b"something else",
}


@pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "in the journal"])
@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_damaged_file_is_not_answered_for(
    received: Receiver, spoil: Callable[[bytes], bytes], *, indexed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.nullcontext() if indexed else index_locked(received.archive):
        received.send(instance())
        if indexed:
            until_indexed(received.archive)
        path = received.root / NAME
        path.write_bytes(spoil(path.read_bytes()))
        assert look_up(received.archive, reference()) == [0x0110]
    assert errors(caplog) == [
        'instance_lost sop_instance_uid=1.2.3.4 reason="the data set differs from the received data set"'
    ]


def test_a_missing_file_is_not_answered_for(received: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    received.send(instance())
    until_indexed(received.archive)
    (received.root / NAME).unlink()
    assert look_up(received.archive, reference()) == [0x0112]
    assert errors(caplog) == ['instance_lost sop_instance_uid=1.2.3.4 reason="No such file or directory"']


def test_a_file_in_trouble_is_not_answered_for(
    received: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    received.send(instance("1.2.1"))
    received.send(instance())
    disk = Disk(received.root, monkeypatch)
    disk.fail(Fault("open", errno.EIO, "1.2.3.4.dcm"))
    assert look_up(received.archive, reference(), reference("1.2.1")) == [0x0110, 0x0000]
    assert errors(caplog) == ['instance_lost sop_instance_uid=1.2.3.4 reason="Input/output error"']
    disk.recover()
    assert look_up(received.archive, reference()) == [0x0000]


def test_it_is_on_the_disk_before_it_is_answered_for(received: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    received.send(instance(), instance("1.2.3.5"))
    disk = Disk(received.root, monkeypatch)
    assert look_up(received.archive, reference(), reference("1.2.3.5")) == [0x0000, 0x0000]
    synced = [name for call, name in disk.calls if call == "fsync"]
    # The folders once, up to that of the archive: the names of new folders are not on the disk either.
    assert synced == [NAME, "1.2.3/1.2.3.1", "1.2.3", ".", "1.2.3/1.2.3.1/1.2.3.5.dcm"]
    disk.fail(Fault("fsync", errno.EIO, "1.2.3.1"))
    assert look_up(received.archive, reference()) == [0x0110]


def test_an_instance_of_another_receiver_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive that answers was open, with `fsync`, when a `flush` receiver stored the instance."""
    with contextlib.closing(Archive(tmp_path)) as archive:
        with receiver(tmp_path, ArchiveOptions(durability=FLUSH)) as received:
            received.send(instance())
        disk = Disk(tmp_path, monkeypatch)
        assert look_up(archive, reference()) == [0x0000]
        assert [name for call, name in disk.calls if call == "fsync"] == [NAME, "1.2.3/1.2.3.1", "1.2.3", "."]


def test_each_file_is_read_once_per_request(received: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong, right = next(iter(MISPRINTED_UIDS.items()))
    received.send(instance(sop_class=right))
    disk = Disk(received.root, monkeypatch)
    wanted = [reference(sop_class=right), reference(sop_class=wrong), reference(sop_class=MR)] * 1000
    assert look_up(received.archive, *wanted) == [0x0000, 0x0000, 0x0119] * 1000
    # Its header, its data set, and to sync it.
    assert sum(call[0] == "open" and call[1].endswith(".dcm") for call in disk.calls) == 3


def test_a_damaged_file_is_read_and_reported_once_per_request(
    received: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    received.send(instance())
    path = received.root / NAME
    path.write_bytes(path.read_bytes()[:-2])
    assert look_up(received.archive, *[reference()] * 1000) == [0x0110] * 1000
    assert len(errors(caplog)) == 1


def test_lookups_take_turns_file_by_file(received: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [f"1.2.1.{number}" for number in range(20)]
    received.send(*map(instance, [*many, "1.2.2"]))
    opened: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def hold(call: str, name: str) -> None:
        if call == "open" and name.endswith(".dcm"):
            opened.append(Path(name).stem)
            begun.set()
            go_on.wait(60)

    async def ask_both(archive: Archive) -> None:
        first = asyncio.ensure_future(archive.look_up([*map(reference, many)]))
        assert await asyncio.to_thread(begun.wait, 60)
        second = asyncio.ensure_future(archive.look_up([reference("1.2.2")]))
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(first, second)

    Disk(received.root, monkeypatch, before=hold)
    asyncio.run(ask_both(received.archive))
    order = [*dict.fromkeys(opened)]
    assert len(order) == 21
    assert order.index("1.2.2") <= 3


def test_of_two_in_conflict_both_have_to_be_whole(received: Receiver) -> None:
    received.send(instance(), instance(pixels=b"\7\7\7\7"))
    assert look_up(received.archive, reference()) == [0x0000]
    second = (received.root / NAME).with_name("1.2.3.4~2.dcm")
    second.write_bytes(second.read_bytes()[:-2])
    assert look_up(received.archive, reference()) == [0x0110]


def test_of_two_classes_the_one_that_is_asked_for_counts(received: Receiver) -> None:
    received.send(instance(), instance(sop_class=MR))
    second = (received.root / NAME).with_name("1.2.3.4~2.dcm")
    second.write_bytes(second.read_bytes()[:-2])
    assert look_up(received.archive, reference(), reference(sop_class=MR)) == [0x0000, 0x0110]


@pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "in the journal"])
def test_one_that_took_the_place_of_another_is_answered_for(tmp_path: Path, *, indexed: bool) -> None:
    with receiver(tmp_path, ArchiveOptions(duplicates=Duplicates.REPLACE)) as received:
        received.send(instance())
        until_indexed(received.archive)
        with contextlib.nullcontext() if indexed else index_locked(received.archive):
            received.send(instance(pixels=b"\7\7\7\7"))
            assert look_up(received.archive, reference()) == [0x0000]


def test_accepted_suspects_are_committed_and_refused_instances_are_not(tmp_path: Path) -> None:
    odd = instance("1.2.1", said_class=MR)
    with receiver(tmp_path / "strict") as received:
        assert received.send(odd) == [0xA900]
        assert look_up(received.archive, reference("1.2.1")) == [0x0112]
    accepting = ArchiveOptions(checks=Checks(dict.fromkeys(Check, Policy.ACCEPT)))
    with receiver(tmp_path / "lenient", accepting) as received:
        assert received.send(odd) == [0xB007]
        assert look_up(received.archive, reference("1.2.1")) == [0x0000]


def test_closing_the_archive_breaks_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold(call: str, name: str) -> None:
        if call == "open" and name.endswith(".dcm"):
            begun.set()
            go_on.wait(60)

    async def close_meanwhile(archive: Archive) -> None:
        looking_up = asyncio.ensure_future(archive.look_up([reference(f"1.2.{number}") for number in range(100)]))
        await asyncio.to_thread(begun.wait, 60)
        closing = asyncio.ensure_future(asyncio.to_thread(archive.close))
        await asyncio.to_thread(archive._integrity._closing.wait, 60)
        go_on.set()
        with pytest.raises(RuntimeError, match="the archive is closing"):
            await looking_up
        await closing

    with receiver(tmp_path, ArchiveOptions(durability=FLUSH)) as received:
        received.send(*(instance(f"1.2.{number}") for number in range(100)))
    archive = Archive(tmp_path, ArchiveOptions(durability=FLUSH))
    Disk(tmp_path, monkeypatch, before=hold)
    asyncio.run(close_meanwhile(archive))


def test_closing_the_archive_ends_the_reading_of_a_long_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver(tmp_path, ArchiveOptions(durability=FLUSH)) as received:
        received.send(instance())
    os.truncate(tmp_path / NAME, 1 << 42)
    reading = threading.Event()

    def digest() -> blake3:
        reading.set()
        return blake3()

    monkeypatch.setattr("dicomport.archive.digests.blake3", digest)

    async def close_meanwhile(archive: Archive) -> None:
        looking_up = asyncio.ensure_future(archive.look_up([reference()]))
        assert await asyncio.to_thread(reading.wait, 60)
        await asyncio.wait_for(asyncio.to_thread(archive.close), 60)
        with pytest.raises(RuntimeError, match="the archive is closing"):
            await looking_up

    asyncio.run(close_meanwhile(Archive(tmp_path)))


def test_a_large_instance_is_read_to_its_end(received: Receiver) -> None:
    received.send(instance(pixels=LONG))
    assert look_up(received.archive, reference()) == [0x0000]
    path = received.root / NAME
    data = bytearray(path.read_bytes())
    data[2_000_000] ^= 1
    path.write_bytes(data)
    assert look_up(received.archive, reference()) == [0x0110]

"""The straight path of a receiver: any bytes of a peer have the same results as on the general path."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.archive.sending import bytes_of, instance, rows
from tests.scp.both_ways import WINDOW, Behaviour, Recorder, both
from tests.scp.messages import DATA_SET, request
from tests.scp.streams import CT, RELEASE, STORE, UNCOMMON, cut, store

from dicomport import Durability, FolderStorage, Limits, StorageSCP, StoreOperation
from dicomport.archive import Archive, ArchiveOptions
from dicomport.files import Disk
from dicomport.scp.folder import FolderSink
from dicomport.testing import ScriptedSCU, encode_message
from dicomport.wire import CStoreRQ


def recorded(pieces: Sequence[bytes], behaviour: Behaviour | None = None, **options: Any) -> tuple[int, int]:
    """Compare both ways; return the numbers of instances on the straight path, and of all responses of success."""
    one, _ = both(lambda: Recorder(behaviour or Behaviour()), lambda recorder: recorder.calls, pieces, **options)
    return one.straight, len(one.played.reports)


# Common messages.


@pytest.mark.parametrize("window", [None, WINDOW])
@pytest.mark.parametrize("maximum", [4096, 16384, 131072])
@pytest.mark.parametrize("size", [2, 3000, 70_000])
def test_all_but_the_first_of_equal_messages_take_the_straight_path(
    size: int, maximum: int, window: int | None
) -> None:
    messages = [store(number, size, maximum) for number in range(10, 40)]
    assert recorded([*messages, RELEASE], window=window) == (29, 30)


def test_another_length_of_the_uid_and_another_priority_are_learned() -> None:
    messages = [store(number, priority=number // 20 % 2) for number in range(90, 130)]
    straight, stored = recorded([*messages, RELEASE])
    assert stored == 40
    assert straight >= 35


def test_a_header_cut_anywhere_takes_the_straight_path() -> None:
    message = store(12)
    for place in (*range(1, 14), 100, 130, *range(len(message) - 3012, len(message) - 2990)):
        assert recorded([store(11), message[:place], message[place:], RELEASE]) == (1, 2)


def test_very_many_messages_arrive_in_one_piece() -> None:
    """The straight path ends a read of 128 messages, so that other tasks have their turn."""
    messages = [store(number, 100) for number in range(1000, 1400)]
    straight, stored = recorded([messages[0], b"".join(messages[1:]), RELEASE])
    assert stored == 400
    assert straight >= 390


# Messages for the general path, between common ones.


@pytest.mark.parametrize("window", [None, WINDOW])
@pytest.mark.parametrize("what", UNCOMMON)
def test_uncommon_messages_have_the_result_of_the_general_path(what: str, window: int | None) -> None:
    before, after = [store(number) for number in range(11, 14)], [store(number) for number in range(14, 17)]
    limits = Limits(instance_bytes=5000) if what == "data set too long" else None
    straight, _ = recorded([*before, UNCOMMON[what], *after, RELEASE], window=window, limits=limits)
    assert straight >= 2
    recorded([b"".join((*before, UNCOMMON[what], *after, RELEASE))], window=window, limits=limits)


@pytest.mark.parametrize("what", ["", *UNCOMMON])
def test_a_stream_that_ends_anywhere_has_the_result_of_the_general_path(what: str) -> None:
    stream = store(12, 2000) + UNCOMMON.get(what, b"")
    for end in sorted({*range(0, 170, 9), *range(len(stream) - 200, len(stream), 23)}):
        recorded([store(11), store(10), stream[:end]])


# The storage.

_SOME: Final = frozenset((1, 2, 5))


@pytest.mark.parametrize("size", [2000, 40_000])
@pytest.mark.parametrize("window", [None, WINDOW])
@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Behaviour) if field.name != "error"])
@pytest.mark.parametrize("error", [OSError(28, "full"), ValueError("text"), SystemExit(3), KeyboardInterrupt()])
def test_a_storage_that_waits_refuses_or_fails_has_the_same_result(
    name: str, error: BaseException, window: int | None, size: int
) -> None:
    messages = [store(number, size) for number in range(10, 20)]
    straight, reported = recorded([*messages, RELEASE], Behaviour(**{name: _SOME}, error=error), window=window)
    assert reported == 10
    assert straight >= 3


def test_folder_and_archive_get_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Disk, "is_fast", True)  # A busy disk would take instances off the straight path.
    messages = []
    for number in range(30):
        uid = f"1.2.3.{number % 7}"
        command = CStoreRQ(message_id=number, affected_sop_class_uid=CT, affected_sop_instance_uid=uid)
        data = bytes_of(instance(uid, pixels=bytes((number % 2, 0)) * 2000))
        messages.append(encode_message(STORE, command, data))
    folders = iter(range(100))

    def folder() -> FolderStorage:
        return FolderStorage(tmp_path / f"folder{next(folders)}", Durability.FLUSH)

    one, _ = both(folder, lambda storage: _files(Path(storage._target.folder)), [*messages, RELEASE])
    assert one.straight >= 25

    def archive() -> Archive:
        options = ArchiveOptions(durability=Durability.FLUSH, min_free_bytes=0)
        return Archive(tmp_path / f"archive{next(folders)}", options)

    def content(archive: Archive) -> tuple[list[dict[str, object]], dict[str, bytes]]:
        archive.close()
        index = [
            {name: row[name] for name in ("path", "sop_instance_uid", "digest", "size")}
            for row in rows(archive.paths.root)
        ]
        return sorted(index, key=str), _files(archive.paths.root)

    one, _ = both(archive, content, [*messages, RELEASE])
    assert one.straight >= 6  # Threads compare duplicates.


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".dicomport" not in path.parts
    }


# Any bytes, in any pieces.

_numbers = st.integers(10, 99)
_valid = st.builds(store, _numbers, st.sampled_from([2, 200, 1200, 5000]), st.sampled_from([2048, 4096, 16384]))
_messages = st.lists(st.one_of(_valid, _valid, _valid, st.sampled_from(sorted(UNCOMMON.values()))), max_size=8)
_places = st.lists(st.integers(0, 50_000), max_size=12)
_few = st.frozensets(st.integers(0, 8), max_size=2)
_behaviours = st.builds(
    Behaviour,
    **{
        field.name: st.one_of(st.just(frozenset()), _few)
        for field in dataclasses.fields(Behaviour)
        if field.name != "error"
    },
)

COMMON: Final = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@COMMON
@given(_messages, _places, _behaviours, st.sampled_from([None, WINDOW]))
def test_any_messages_in_any_pieces(
    messages: list[bytes], places: list[int], behaviour: Behaviour, window: int | None
) -> None:
    recorded(cut(b"".join((*messages, RELEASE)), places), behaviour, window=window)


@COMMON
@given(_messages, _places, st.lists(st.tuples(st.integers(0, 50_000), st.integers(0, 255)), max_size=3), st.data())
def test_any_bytes_in_any_pieces(
    messages: list[bytes], places: list[int], changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    stream = bytearray(b"".join((store(10), *messages)))
    for place, value in changes:
        stream[place % len(stream)] = value
    end = data.draw(st.integers(0, len(stream)))
    recorded(cut(bytes(stream[:end]), places))


@COMMON
@given(st.lists(_valid, min_size=20, max_size=40), _places)
def test_nine_of_ten_valid_instances_take_the_straight_path(messages: list[bytes], places: list[int]) -> None:
    straight, stored = recorded([store(10, 2), *(cut(b"".join(messages), places)), RELEASE])
    assert stored == len(messages) + 1
    assert straight >= 0.9 * len(messages)


class _Counting(FolderStorage):
    """A folder that counts the instances that the general path begins."""

    begun = 0

    async def begin(self, operation: StoreOperation) -> FolderSink:
        self.begun += 1
        return await super().begin(operation)


def test_the_straight_path_continues_after_a_wait_for_the_disk(tmp_path: Path) -> None:
    storage = _Counting(tmp_path / "folder")
    with StorageSCP(storage, port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate(request=request())
        for number in range(20):
            assert peer.store(f"1.2.3.{number + 10}", DATA_SET).status == 0x0000
        peer.release()
    # The first ones teach the straight path their shape.
    assert storage.begun <= 3

"""Reindexing: with receivers running, and with a damaged index."""

import contextlib
import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.archive.sending import Receiver, findings, instance, receiver, rows
from tests.files.faults import Disk, Fault

from dicomport.archive import (
    DamagedIndexError,
    DiscrepancyKind,
    Filters,
    Paths,
    open_archive,
    reindex,
)
from dicomport.archive.commit import indexer
from dicomport.archive.database.generations import Generations
from dicomport.files import sync

AT_MOST: Final = 60.0


def uids(root: Path) -> list[str]:
    return sorted(str(row["sop_instance_uid"]) for row in rows(root))


def current(root: Path) -> Path:
    found = Generations(Paths(root.resolve()).index).current()
    assert found is not None
    return found


def remade(root: Path) -> None:
    assert list(reindex(Paths(root.resolve()), lambda _: None)) == []


@pytest.fixture
def received(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path / "archive") as opened:
        yield opened


def send(received: Receiver, *numbers: int) -> None:
    assert received.send(*(instance(f"1.2.3.{number}") for number in numbers)) == [0] * len(numbers)


def indexed(received: Receiver, *numbers: int) -> None:
    """Wait until instances are in the index that the receiver uses."""
    end = threading.Event()
    for _ in range(int(AT_MOST / 0.01)):
        if {f"1.2.3.{number}" for number in numbers} <= set(uids(received.root)):
            return
        end.wait(0.01)
    raise AssertionError(f"{numbers} are not in the index")


def test_a_running_receiver_uses_the_new_index(received: Receiver) -> None:
    send(received, 1)
    indexed(received, 1)
    first = current(received.root)
    remade(received.root)
    assert current(received.root) != first
    assert not list(first.parent.glob("index.sqlite*"))
    send(received, 2)
    indexed(received, 1, 2)
    assert len(received.archive.index.instances(Filters())) == 2
    received.close()
    assert findings(received.root) == []
    assert [path.name for path in first.parent.glob("index*")] == ["index-1.sqlite"]


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_that_is_committed_while_the_files_are_read_is_lost(tmp_path: Path, workers: int) -> None:
    """The instances arrive, and leave the journal, after the folder was listed and before the new index is current."""
    with contextlib.ExitStack() as stack:
        receivers = [stack.enter_context(receiver(tmp_path)) for _ in range(workers)]
        numbers = iter(range(100, 200))
        sent: list[int] = [1, 2, 3]
        send(receivers[0], *sent)
        indexed(receivers[0], *sent)

        def meanwhile(_size: int) -> None:
            for one in receivers:
                sent.append(next(numbers))
                send(one, sent[-1])
            indexed(receivers[0], *sent)

        assert list(reindex(Paths(tmp_path.resolve()), meanwhile)) == []
        assert len(sent) == 3 + 3 * workers
        assert set(uids(tmp_path)) >= {f"1.2.3.{number}" for number in sent}
    assert findings(tmp_path) == []


def test_an_instance_is_committed_between_the_last_round_and_the_lock(
    received: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(received, 1)
    indexed(received, 1)

    def send_and_sync(path: Path) -> None:
        send(received, 2)
        indexed(received, 1, 2)
        sync(path)

    monkeypatch.setattr("dicomport.archive.reindexing.sync", send_and_sync)
    remade(received.root)
    assert uids(received.root) == ["1.2.3.1", "1.2.3.2"]


def without_tables(path: Path) -> None:
    path.unlink()
    sqlite3.connect(path).close()


DAMAGE: Final[dict[str, Callable[[Path], object]]] = {
    "garbage": lambda path: path.write_bytes(b"garbage " * 1000),
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "header alone": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "pages of zeros": lambda path: path.write_bytes(path.read_bytes()[:4096] + bytes(path.stat().st_size - 4096)),
    "without tables": without_tables,
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("harm", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_index_is_reported_with_the_command_and_repaired_by_it(
    tmp_path: Path, harm: Callable[[Path], object]
) -> None:
    with receiver(tmp_path) as received:
        send(received, *range(40))
    before = rows(tmp_path)
    harm(current(tmp_path))
    with (
        pytest.raises(DamagedIndexError, match=f'run dicomport archive reindex "{tmp_path}"'),
        open_archive(tmp_path) as (_, index),
    ):
        index.instances(Filters())
    remade(tmp_path)
    assert rows(tmp_path) == before
    assert findings(tmp_path) == []


@pytest.mark.parametrize("harm", DAMAGE.values(), ids=DAMAGE)
def test_a_running_receiver_uses_the_repaired_index(
    tmp_path: Path, harm: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer, "_RETRY_SECONDS", 0.01)
    with receiver(tmp_path) as received:
        send(received, *range(40))
        indexed(received, *range(40))
        harm(current(tmp_path))
        send(received, 50, 51)
        remade(tmp_path)
        indexed(received, 50, 51)
        assert len(uids(tmp_path)) == 42
    assert findings(tmp_path) == []


def test_reindex_reports_a_file_that_cannot_be_read_and_adds_the_others(
    received: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(received, 1, 2)
    received.close()
    disk = Disk(received.root, monkeypatch)
    disk.fail(Fault("open", errno.EIO, "1.2.3.1.dcm"))
    (discrepancy,) = reindex(Paths(received.root), lambda _: None)
    assert (discrepancy.path, discrepancy.kind, discrepancy.detail) == (
        "1.2.3/1.2.3.1/1.2.3.1.dcm",
        DiscrepancyKind.FILE_UNREADABLE,
        os.strerror(errno.EIO),
    )
    assert uids(received.root) == ["1.2.3.2"]


def test_reindex_ignores_a_file_that_is_removed_after_it_was_listed(
    received: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(received, 1, 2)
    received.close()
    disk, name = Disk(received.root, monkeypatch), "1.2.3/1.2.3.1/1.2.3.1.dcm"
    disk.before = lambda _, opened: (received.root / name).unlink() if opened == name else None
    assert list(reindex(Paths(received.root), lambda _: None)) == []
    assert uids(received.root) == ["1.2.3.2"]


def test_an_archive_of_which_no_file_can_be_read_gets_an_empty_index(
    received: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(received, 1, 2)
    received.close()
    disk = Disk(received.root, monkeypatch)
    disk.fail(Fault("open", errno.EIO, ".dcm"))
    assert [one.kind for one in reindex(Paths(received.root), lambda _: None)] == [DiscrepancyKind.FILE_UNREADABLE] * 2
    assert uids(received.root) == []
    disk.recover()
    remade(received.root)
    assert uids(received.root) == ["1.2.3.1", "1.2.3.2"]


def test_a_record_of_a_running_receiver_whose_file_is_gone_is_not_added(received: Receiver) -> None:
    send(received, 1)
    indexed(received, 1)
    [path] = received.root.glob("1.2.3/*/*.dcm")
    path.unlink()
    remade(received.root)
    assert rows(received.root) == []

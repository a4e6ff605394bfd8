"""Nothing acknowledged is missing from index or commitment after a power loss that drops all that was never synced."""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest
from tests.archive.power_loss import Disk, Names, library
from tests.archive.sending import CT, findings, instance, rows
from tests.encoding.encode import EXPLICIT

from dicomport import blocking
from dicomport.archive import Archive, ArchiveOptions
from dicomport.commitment.data_sets import SOPReference
from dicomport.standard import SUCCESS

RECEIVER: Final = Path(__file__).with_name("receiver.py")
INSTANCES: Final = 20
ASSOCIATIONS: Final = 8
SEEDS: Final = 3

LOSSES: Final = [(Names.SYNCED, 0), (Names.REMOVED, 0), *((Names.ANY, seed) for seed in range(SEEDS))]
every_loss = pytest.mark.parametrize(("names", "seed"), LOSSES, ids=[f"{names.name} {seed}" for names, seed in LOSSES])


@pytest.fixture(scope="session")
def preload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("library"))


@pytest.fixture
def disk(tmp_path: Path, preload: Path) -> Disk:
    return Disk(tmp_path / "archive", tmp_path / "stable", preload)


class Process:
    """A receiver in a separate process."""

    def __init__(self, disk: Disk, segment: int | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(RECEIVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=disk.environment,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{disk.root}\t{segment or ''}\n")
        self._process.stdin.flush()
        self._port = int(self._process.stdout.readline())

    def send(self, numbers: Sequence[int]) -> list[str]:
        """Store instances; return their UIDs."""
        with blocking.associate("127.0.0.1", self._port, contexts=[(CT, EXPLICIT)]) as association:
            sent = [instance(f"1.2.3.{number}", series=f"1.2.3.{number % 2}") for number in numbers]
            assert [association.c_store(one).status.code for one in sent] == [0] * len(sent)
        return [one.sop_instance_uid for one in sent]

    def end(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0

    def kill(self) -> None:
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()


def check(root: Path, acknowledged: Sequence[str]) -> None:
    """Open the archive after the power loss, as docs/archive.md says, and look for the instances."""
    with contextlib.closing(Archive(root, ArchiveOptions(min_free_bytes=0))) as archive:
        statuses = asyncio.run(archive.look_up([SOPReference(CT, uid) for uid in acknowledged]))
    assert statuses == [SUCCESS] * len(acknowledged)
    assert {str(row["sop_instance_uid"]) for row in rows(root)} >= set(acknowledged)
    assert findings(root) == []


def killed_at_once(disk: Disk) -> list[str]:
    one = Process(disk)
    sent = one.send(range(INSTANCES))
    one.kill()
    return sent


def killed_with_many_associations(disk: Disk) -> list[str]:
    """Instances of one moment are synced together, in two series and by several threads."""
    one = Process(disk)
    with ThreadPoolExecutor(ASSOCIATIONS) as senders:
        numbers = [range(start * 100, start * 100 + 4) for start in range(ASSOCIATIONS)]
        sent = [uid for some in senders.map(one.send, numbers) for uid in some]
    one.kill()
    return sent


def ended(disk: Disk) -> list[str]:
    one = Process(disk)
    sent = one.send(range(INSTANCES))
    one.end()
    return sent


def one_of_two_ended(disk: Disk) -> list[str]:
    one, other = Process(disk), Process(disk)
    sent = one.send(range(INSTANCES))
    one.end()
    other.kill()
    return sent


def recovered_by_another(disk: Disk) -> list[str]:
    # The index stays open in one process, so that the end of another does not copy the log into the database.
    one, other = Process(disk), Process(disk)
    sent = one.send(range(INSTANCES))
    one.kill()
    third = Process(disk)
    other.kill()
    third.kill()
    return sent


def segments_removed(disk: Disk) -> list[str]:
    one, other = Process(disk, segment=2000), Process(disk, segment=2000)
    sent = [*one.send(range(3 * INSTANCES)), *other.send(range(1000, 1000 + INSTANCES))]
    sent += one.send(range(2000, 2000 + INSTANCES))
    one.kill()
    other.kill()
    return sent


def reindexed(disk: Disk) -> list[str]:
    one, other = Process(disk), Process(disk)
    sent = one.send(range(INSTANCES))
    command = [sys.executable, "-m", "dicomport", "archive", "reindex", "--archive", str(disk.root)]
    subprocess.run(command, check=True, env=disk.environment, stderr=subprocess.DEVNULL)
    sent += other.send(range(100, 100 + INSTANCES))
    one.end()
    other.kill()
    return sent


EVENTS: Final[list[Callable[[Disk], list[str]]]] = [
    killed_at_once,
    killed_with_many_associations,
    ended,
    one_of_two_ended,
    recovered_by_another,
    segments_removed,
    reindexed,
]


@every_loss
@pytest.mark.parametrize("events", EVENTS, ids=lambda events: events.__name__)
def test_b12_acknowledged_instances_survive_a_power_loss(
    disk: Disk, events: Callable[[Disk], list[str]], names: Names, seed: int
) -> None:
    acknowledged = events(disk)
    check(disk.lose_power(names, seed), acknowledged)


def test_b12_a_listing_removes_no_journal_before_a_sync(disk: Disk) -> None:
    one, other = Process(disk), Process(disk)
    acknowledged = one.send(range(INSTANCES))
    one.kill()
    command = [sys.executable, "-m", "dicomport", "archive", "ls", "--archive", str(disk.root)]
    subprocess.run(command, check=True, env=disk.environment, stdout=subprocess.DEVNULL)
    other.kill()
    check(disk.lose_power(Names.REMOVED), acknowledged)


@pytest.mark.parametrize("synced", [False, True])
def test_the_library_sees_the_syncs_of_python_and_of_sqlite(disk: Disk, synced: bool) -> None:
    program = f"""
        import os, sqlite3
        os.chdir({str(disk.root)!r})
        folder = os.open(".", os.O_RDONLY)
        file = os.open("file", os.O_RDWR | os.O_CREAT)
        database = sqlite3.connect("database")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE one (n)")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        os.write(file, b"first")
        for one in (file, folder): os.fsync(one)
        os.write(file, b" second")
        if {synced}: os.fdatasync(file)
        database.execute("PRAGMA synchronous = {"FULL" if synced else "OFF"}")
        database.execute("INSERT INTO one VALUES (1)")
        database.commit()
        os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False, env=disk.environment)
    assert (disk.root / "file").read_bytes() == b"first second"
    after = disk.lose_power(Names.SYNCED)
    assert (after / "file").read_bytes() == (b"first second" if synced else b"first")
    with contextlib.closing(sqlite3.connect(after / "database")) as database:
        assert database.execute("SELECT count(*) FROM one").fetchone() == (int(synced),)

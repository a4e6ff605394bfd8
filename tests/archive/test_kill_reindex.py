"""A `reindex` that is killed leaves the earlier index or the new one, complete, with receivers running (row B11).

A quarter of DICOMPORT_KILLS is how often; `make kill` asks for 50.
"""

import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

import pytest
from tests.archive.reindexer import DOT
from tests.archive.sending import CT, findings, instance, rows
from tests.archive.test_kill import Process
from tests.encoding.encode import EXPLICIT

from dicomport import blocking
from dicomport.archive import Archive, Paths
from dicomport.archive.database.generations import Generations

KILLS: Final = max(int(os.environ.get("DICOMPORT_KILLS", "8")) // 4, 1)
KILLS_OF_ONE_ARCHIVE: Final = 10
FIRST: Final = 150
"""Instances before the first `reindex`."""
TIMEOUT: Final = 60.0


class Reindexer:
    """A process that reindexes an archive."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("reindexer.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def go(self, root: Path) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{root}\n")
        self._process.stdin.flush()

    def end(self) -> tuple[int, int]:
        """Wait for its end; return its exit code and the number of files that it opened since `go`."""
        output, _ = self._process.communicate()
        return self._process.returncode, output.count(DOT)

    def kill(self, opened: int) -> bool:
        """Kill it after it has opened some files; return whether it was running."""
        assert self._process.stdout is not None
        while opened and (read := self._process.stdout.read(1)):
            opened -= read == DOT
        self._process.kill()
        return self.end()[0] != 0


class Load:
    """Instances that are sent to each receiver until the end is set."""

    def __init__(self, ports: list[int], first: int) -> None:
        self.acknowledged: set[str] = set()
        self.errors: list[int] = []
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(port, first + 100_000 * number))
            for number, port in enumerate(ports)
        ]
        for thread in self._threads:
            thread.start()

    def _send(self, port: int, number: int) -> None:
        with blocking.associate("127.0.0.1", port, contexts=[(CT, EXPLICIT)]) as association:
            while not self._end.is_set():
                status = association.c_store(instance(f"1.2.3.{number}")).status.code
                self.acknowledged.add(f"1.2.3.{number}")
                self.errors += [status] if status else []
                number += 1

    def end(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
        assert self.errors == []


def store(port: int, number: int) -> set[str]:
    with blocking.associate("127.0.0.1", port, contexts=[(CT, EXPLICIT)]) as association:
        sent = [instance(f"1.2.3.{one}") for one in range(number)]
        assert {association.c_store(one).status.code for one in sent} == {0}
    return {one.sop_instance_uid for one in sent}


def missing(root: Path, acknowledged: set[str]) -> set[str]:
    """Return the instances that are not in the index after some time, in which the receivers add them."""
    wait = threading.Event()
    for _ in range(int(TIMEOUT / 0.1)):
        left = acknowledged - {str(row["sop_instance_uid"]) for row in rows(root)}
        if not left:
            break
        wait.wait(0.1)
    return left


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("first", range(0, KILLS, KILLS_OF_ONE_ARCHIVE))
def test_b11_a_killed_reindex_leaves_a_complete_index(tmp_path: Path, first: int, workers: int) -> None:
    rng = random.Random(f"kills from {first} with {workers}")
    receivers = [Process() for _ in range(workers)]
    killed = 0
    try:
        for one in receivers:
            one.go(tmp_path)
        ports = [one.port() for one in receivers]
        acknowledged = store(ports[0], FIRST)
        whole = Reindexer()
        whole.go(tmp_path)
        code, opened = whole.end()
        assert (code, opened >= FIRST) == (0, True)
        for number in range(first, min(first + KILLS_OF_ONE_ARCHIVE, KILLS)):
            reindexer = Reindexer()
            load = Load(ports, 1_000_000 * (number + 1))
            reindexer.go(tmp_path)
            killed += reindexer.kill(rng.randint(0, opened))
            load.end()
            acknowledged |= load.acknowledged
            assert missing(tmp_path, acknowledged) == set()
            opened += len(load.acknowledged)
        for process in receivers:
            assert process.end() == 0
    finally:
        for process in receivers:
            process.kill()
    assert findings(tmp_path) == []
    Archive(tmp_path).close()
    folder = tmp_path / ".dicomport"
    assert list(folder.glob("reindex-*")) == []
    assert [path.name for path in folder.glob("index*")] == [
        Path(str(Generations(Paths(tmp_path.resolve()).index).current())).name
    ]
    # Only one that had opened its last file may have ended before.
    assert killed >= (min(first + KILLS_OF_ONE_ARCHIVE, KILLS) - first) // 2

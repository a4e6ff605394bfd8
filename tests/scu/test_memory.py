"""However long an instance is, neither side holds it in memory."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.scu.data import data_set_of, part10

import dicomport
from dicomport.testing import Peer, ScriptedSCP

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of memory")

MAX_GROWTH: Final = 64 << 20
"""Limit for the growth of each side's memory, bytes."""
LONG: Final = 300 << 20

PEAK: Final = """
def peak():
    # Not ru_maxrss: what a process is started by counts there too.
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) << 10
"""

SENDER: Final = (
    PEAK
    + """
import json, sys
import dicomport
before = peak()
report = dicomport.blocking.send(sys.argv[2], "127.0.0.1", int(sys.argv[1]))
print(json.dumps([before, peak(), [result.reason for result in report.results]]))
"""
)

BLOCKING_SENDER: Final = (
    PEAK
    + """
import json, sys
import dicomport
before = peak()
context = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2")
with dicomport.blocking.associate("127.0.0.1", int(sys.argv[1]), contexts=[context]) as one:
    response = one.c_store(sys.argv[2])
print(json.dumps([before, peak(), [str(response.status) if response.status.code else ""]]))
"""
)

RECEIVER: Final = (
    PEAK
    + """
import json, sys
import dicomport
storage = dicomport.FolderStorage(sys.argv[1], dicomport.Durability.FLUSH)
with dicomport.StorageSCP(storage, port=0).in_thread() as scp:
    before = peak()
    print(scp.port, flush=True)
    sys.stdin.read()
    print(json.dumps([before, peak()]))
"""
)


def taking(maximum_length: int) -> ScriptedSCP:
    """Make a peer that keeps nothing."""

    def script(peer: Peer) -> None:
        peer.accept(maximum_length=maximum_length)
        peer.serve()

    return ScriptedSCP(script, keep_data=False)


@pytest.fixture
def long_file(tmp_path: Path) -> Path:
    return part10(tmp_path / "long.dcm", size=LONG)


@pytest.mark.parametrize("program", [SENDER, BLOCKING_SENDER], ids=["asyncio", "blocking"])
def test_a_sender_holds_a_piece_of_a_file_and_not_all_of_it(long_file: Path, program: str) -> None:
    with taking(0) as scp:
        before, after, reasons = measured(program, str(scp.port), str(long_file))

    assert (reasons, [sum(store.fragments) for store in scp.stores]) == ([""], [LONG])
    assert after - before < MAX_GROWTH


def test_tiny_pdus_do_not_increase_the_memory(tmp_path: Path) -> None:
    """Robustness P13: two bytes of data to a PDU, so that the headers alone are six times as long."""
    path = part10(tmp_path / "file.dcm", size=1 << 18)
    with taking(8) as scp:
        before, after, reasons = measured(SENDER, str(scp.port), str(path))

    assert (reasons, [sum(store.fragments) for store in scp.stores]) == ([""], [1 << 18])
    assert after - before < MAX_GROWTH


def measured(program: str, *arguments: str) -> tuple[int, int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True, timeout=100
    )
    before, after, reasons = json.loads(done.stdout)
    return before, after, reasons


@contextlib.contextmanager
def receiver(folder: Path) -> Iterator[tuple[int, list[int]]]:
    """Run a receiver in a separate process; afterwards the list has its initial and its peak memory."""
    memory: list[int] = []
    with subprocess.Popen(
        [sys.executable, "-c", RECEIVER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield int(process.stdout.readline()), memory
        process.stdin.close()
        memory += json.loads(process.stdout.readline())
    assert process.returncode == 0


def test_a_receiver_holds_a_piece_of_an_instance_and_not_all_of_it(long_file: Path, tmp_path: Path) -> None:
    with receiver(tmp_path / "in") as (port, memory):
        report = dicomport.blocking.send(long_file, "127.0.0.1", port)

    assert (len(report.accepted), report.failed) == (1, ())
    [path] = (tmp_path / "in").iterdir()
    assert path.stat().st_size > LONG
    assert data_set_of(path)[:1000] == data_set_of(long_file)[:1000]
    path.unlink()
    before, after = memory
    assert after - before < MAX_GROWTH

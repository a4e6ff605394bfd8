"""Fill an archive with many small instances, and print the receiver's memory and the time to list a study.

    python -m bench.large_archive [--instances 100000] [--folder /dev/shm]

`storescp` runs as a command; it receives the instances over four parallel associations, in studies of 100. Exits with 1
if the receiver grows by more than 32 MiB after the first tenth, or if listing one study's instances takes 0.2 s.
"""

from __future__ import annotations

import argparse
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench.receiver import COMMAND, memory_mib, receiver

from dicomport import blocking
from dicomport.archive import Filters, open_archive
from dicomport.scu import Instance

_CT = "1.2.840.10008.5.1.4.1.1.2"
_EXPLICIT = "1.2.840.10008.1.2.1"
_SENDERS = 4
_IN_A_STUDY = 100
_MAX_GROWTH_MIB = 32
_MAX_SECONDS = 0.2


def instance(number: int) -> Instance:
    """Build a small instance, one of a hundred in its study."""
    study = f"1.2.3.{number // _IN_A_STUDY + 1}"
    uid = f"{study}.1.{number % _IN_A_STUDY + 1}"
    elements = (
        (0x0008, 0x0016, b"UI", _CT),
        (0x0008, 0x0018, b"UI", uid),
        (0x0008, 0x0020, b"DA", "20260101"),
        (0x0008, 0x0060, b"CS", "CT"),
        (0x0010, 0x0010, b"PN", f"Patient^{number // _IN_A_STUDY}"),
        (0x0010, 0x0020, b"LO", f"P{number // _IN_A_STUDY}"),
        (0x0020, 0x000D, b"UI", study),
        (0x0020, 0x000E, b"UI", f"{study}.1"),
        (0x0020, 0x0013, b"IS", str(number % _IN_A_STUDY + 1)),
    )
    data = b"".join(_element(*element) for element in elements)
    pixels = struct.pack("<HH2s2xL", 0x7FE0, 0x0010, b"OW", 1024) + bytes(1024)
    return Instance(_CT, uid, _EXPLICIT, data + pixels)


def _element(group: int, number: int, vr: bytes, text: str) -> bytes:
    value = text.encode() + (b"\0" if vr == b"UI" else b" ") * (len(text) % 2)
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def fill(port: int, numbers: range) -> None:
    """Send instances over several associations at once."""

    def send(part: range) -> None:
        with blocking.associate("127.0.0.1", port, contexts=[(_CT, _EXPLICIT)]) as association:
            for number in part:
                if not association.c_store(instance(number)).accepted:
                    raise SystemExit(f"instance {number} was not accepted")

    threads = [threading.Thread(target=send, args=(numbers[start::_SENDERS],)) for start in range(_SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="folder of the archive (default: the system's temporary folder)")
    options = parser.parse_args()
    memory: list[float] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        root = Path(scratch) / "archive"
        with receiver(root, "--durability", "flush", "--min-free", "0") as (pid, port):
            started = time.perf_counter()
            for tenth in range(10):
                fill(port, range(tenth * options.instances // 10, (tenth + 1) * options.instances // 10))
                memory.append(memory_mib(pid, "VmRSS"))
                rate = (tenth + 1) * options.instances / 10 / (time.perf_counter() - started)
                print(
                    f"{(tenth + 1) * options.instances // 10} instances: {memory[-1]:.1f} MiB, {rate:.0f} instances/s"
                )
        with open_archive(root) as (_, index):
            started = time.perf_counter()
            rows = index.instances(Filters(study_instance_uid="1.2.3.7"))
            listed = time.perf_counter() - started
        started = time.perf_counter()
        command = (*COMMAND, "archive", "ls", "--archive", str(root), "--study", "1.2.3.7", "--level", "instances")
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        whole = time.perf_counter() - started
    growth = memory[-1] - memory[0]
    print(f"growth of the receiver after the first tenth: {growth:.1f} MiB (at most {_MAX_GROWTH_MIB})")
    print(f"listing the {len(rows)} instances of a study: {listed:.3f} s (at most {_MAX_SECONDS})")
    print(f"the whole `archive ls` command: {whole:.2f} s")
    return 0 if growth <= _MAX_GROWTH_MIB and listed < _MAX_SECONDS and len(rows) == _IN_A_STUDY else 1


if __name__ == "__main__":
    sys.exit(main())

"""Send one large instance with `storescu` to `storescp`, and print by how much each process grows.

    python -m bench.large_instance [--gib 2] [--folder /dev/shm]

Each command runs as a user runs it. The growth is the peak memory with the large instance less the peak with a small
one. Exits with 1 when either grows by more than 64 MiB, or when what arrived is not what was sent.
"""

from __future__ import annotations

import argparse
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.receiver import COMMAND, memory_mib, receiver

from dicomport.files import read_part10
from dicomport.wire import FileMeta, encode_file_meta

_MOST_GROWTH_MIB = 64
_CT = "1.2.840.10008.5.1.4.1.1.2"
_EXPLICIT = "1.2.840.10008.1.2.1"
_STUDY, _SERIES = "1.2.3.100", "1.2.3.200"


def write_instance(path: Path, pixel_bytes: int, uid: str) -> None:
    """Write a Part 10 file whose pixel data is a hole of so many bytes."""
    meta = FileMeta(media_storage_sop_class_uid=_CT, media_storage_sop_instance_uid=uid, transfer_syntax_uid=_EXPLICIT)
    with path.open("wb") as file:
        file.write(encode_file_meta(meta))
        file.write(_element(0x0008, 0x0016, _CT) + _element(0x0008, 0x0018, uid))
        file.write(_element(0x0020, 0x000D, _STUDY) + _element(0x0020, 0x000E, _SERIES))
        file.write(struct.pack("<HH2s2xL", 0x7FE0, 0x0010, b"OW", pixel_bytes))
        file.truncate(file.tell() + pixel_bytes)


def _element(group: int, element: int, uid: str) -> bytes:
    value = uid.encode() + b"\0" * (len(uid) % 2)
    return struct.pack("<HH2sH", group, element, b"UI", len(value)) + value


def send(port: int, path: Path) -> float:
    """Run storescu and give its peak memory, MiB."""
    process = subprocess.Popen((*COMMAND, "storescu", "-q", "127.0.0.1", str(port), str(path)))
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"storescu failed with {process.returncode}")
    return usage.ru_maxrss / 1024


def same(sent: Path, received: Path) -> bool:
    """Compare two files' data sets."""
    first, second = read_part10(sent), read_part10(received)
    chunks = zip(first.chunks(1 << 20), second.chunks(1 << 20), strict=True)
    return first.size == second.size and all(a == b for a, b in chunks)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=2.0, help="length of the pixel data, GiB")
    parser.add_argument("--folder", type=Path, help="where the files go, by default the system's temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = Path(scratch)
        small, large = folder / "small.dcm", folder / "large.dcm"
        write_instance(small, 1 << 20, "1.2.3.1")
        write_instance(large, int(options.gib * (1 << 30)) & ~1, "1.2.3.2")
        with receiver(folder / "archive") as (pid, port):
            small_sender = send(port, small)
            small_receiver = memory_mib(pid, "VmHWM")
            started = time.perf_counter()
            large_sender = send(port, large)
            seconds = time.perf_counter() - started
            large_receiver = memory_mib(pid, "VmHWM")
        equal = same(large, folder / "archive" / _STUDY / _SERIES / "1.2.3.2.dcm")
    rate = options.gib * 1024 / seconds
    verdict = "the same" if equal else "DIFFERENT"
    print(f"{options.gib:g} GiB in {seconds:.1f} s, {rate:.0f} MiB/s, {verdict} at the other end")
    growths = {"storescu": large_sender - small_sender, "storescp": large_receiver - small_receiver}
    for name, peak in (("storescu", large_sender), ("storescp", large_receiver)):
        print(f"{name}: peak {peak:.1f} MiB, {growths[name]:.1f} MiB more than with 1 MiB (at most {_MOST_GROWTH_MIB})")
    return 0 if equal and max(growths.values()) <= _MOST_GROWTH_MIB else 1


if __name__ == "__main__":
    sys.exit(main())

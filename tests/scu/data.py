"""Instances for the sender: pydicom's files, and small ones made byte by byte."""

import struct
from pathlib import Path
from typing import Final

import pydicom

from dicomport.files import read_part10
from dicomport.scu import Instance
from dicomport.wire import FileMeta, encode_file_meta

FILES: Final = Path(pydicom.__file__).parent / "data" / "test_files"
CT_FILE: Final = FILES / "CT_small.dcm"
"""Explicit VR Little Endian."""

DEVIATING: Final = Path(__file__).parent / "inputs" / "deviating"
"""Files that deviate from the standard in one point each, and that other senders send."""

VERIFICATION: Final = "1.2.840.10008.1.1"
CT: Final = "1.2.840.10008.5.1.4.1.1.2"
MR: Final = "1.2.840.10008.5.1.4.1.1.4"
CR: Final = "1.2.840.10008.5.1.4.1.1.1"
IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
JPEG: Final = "1.2.840.10008.1.2.4.50"
JPEG_2000: Final = "1.2.840.10008.1.2.4.90"


def element(group: int, number: int, value: bytes) -> bytes:
    """Write an element in Implicit VR Little Endian (PS3.5 7.1.3)."""
    return struct.pack("<HHL", group, number, len(value)) + value


def explicit(group: int, number: int, vr: bytes, value: bytes, *, order: str = "<") -> bytes:
    """Write an element of a short VR in Explicit VR (PS3.5 7.1.2)."""
    return struct.pack(f"{order}HH2sH", group, number, vr, len(value)) + value


def uid(text: str) -> bytes:
    """Write a value of VR UI (PS3.5 9.1)."""
    return text.encode("ascii") + bytes(len(text) % 2)


def bare(sop_class: str = CT, sop_instance: str = "1.2.3.4", *, size: int = 0) -> bytes:
    """Encode a data set in Implicit VR Little Endian with the two UIDs, and pixels up to `size` bytes in all."""
    data = element(8, 0x16, uid(sop_class)) + element(8, 0x18, uid(sop_instance)) + element(0x10, 0x20, b"PATIENT ")
    return data + element(0x7FE0, 0x10, bytes(size - len(data) - 8)) if size else data


def image(pixels: bytes, sop_class: str = CT, sop_instance: str = "1.2.3.4") -> bytes:
    """Encode a data set in Explicit VR Little Endian with the two UIDs and these pixels."""
    data = explicit(8, 0x16, b"UI", uid(sop_class)) + explicit(8, 0x18, b"UI", uid(sop_instance))
    return data + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, len(pixels)) + pixels


def part10(
    path: Path,
    *,
    sop_class: str = CT,
    sop_instance: str = "1.2.3.4",
    syntax: str = IMPLICIT,
    data: bytes | None = None,
    size: int = 0,
) -> Path:
    """Write a Part 10 file; with `size` its data set is so long, and its end takes no room on the disk."""
    meta = FileMeta(
        media_storage_sop_class_uid=sop_class, media_storage_sop_instance_uid=sop_instance, transfer_syntax_uid=syntax
    )
    header = encode_file_meta(meta)
    start = bare(sop_class, sop_instance) if data is None else data
    with path.open("wb") as file:
        file.write(header + start)
        if size:
            start += struct.pack("<HHL", 0x7FE0, 0x10, size - len(start) - 8)
            file.seek(0)
            file.write(header + start)
            file.truncate(len(header) + size)
    return path


def instance(
    number: int = 1, *, sop_class: str = CT, syntax: str = EXPLICIT, size: int = 100, data: bytes | None = None
) -> Instance:
    """Build an instance in memory; its bytes are a pattern that shows their offset, not a real data set."""
    return Instance(sop_class, f"1.2.3.{number}", syntax, pattern(size) if data is None else data)


def pattern(size: int) -> bytes:
    """Return bytes without repeated ranges over a long distance."""
    return b"".join(struct.pack("<L", number) for number in range(size // 4 + 1))[:size]


def data_set_of(path: Path) -> bytes:
    """Return the bytes of a Part 10 file's data set."""
    return path.read_bytes()[read_part10(path).offset :]

"""The instances to send: derived from images of pydicom's, once, in files on tmpfs."""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydicom
from pydicom.uid import UID

__all__ = [
    "CT",
    "CT_TENTH",
    "FAR",
    "FIVES",
    "LARGE",
    "MR",
    "ONE",
    "SINGLES",
    "SMALL",
    "SMALL_TENTH",
    "STREAM",
    "Data",
    "Stock",
]

_UID: Final = "2.25.1{:019}"
_PLACE_OF_UID: Final = _UID.format(0).encode()
_MAX_WRITTEN: Final = 1 << 24
"""Longer pixel data, bytes, are a hole in the file: they are read as zeros and use no space."""


@dataclass(frozen=True, slots=True)
class Data:
    """Instances that differ only in their UIDs."""

    name: str
    instances: int
    rows: int
    columns: int
    number: int
    """Makes its UIDs different from those of the others."""
    image: str = "CT_small.dcm"
    """The image of pydicom's, whose pixels are repeated or cut to the size."""


CT: Final = Data("CT", 600, 512, 512, 1)
SMALL: Final = Data("small", 2000, 32, 64, 2)
LARGE: Final = Data("large", 1, 32768, 32768, 3)
STREAM: Final = Data("stream", 1300, 512, 512, 4)
FIVES: Final = Data("fives", 500, 32, 64, 5)
"""Sent by senders with five files each."""
SINGLES: Final = Data("singles", 1000, 32, 64, 6)
"""Sent over associations with one instance each."""
FAR: Final = Data("far", 300, 224, 224, 7)
"""Sent over a link with a delay."""
MR: Final = Data("MR", 2000, 64, 64, 8, "MR_small.dcm")
"""The image unchanged: 10 KB too, but with fewer elements for a sender that parses."""
ONE: Final = Data("one", 1, 512, 512, 11)
"""Sent to measure the start of a sender."""
CT_TENTH: Final = Data("CT, a tenth", 60, 512, 512, 9)
SMALL_TENTH: Final = Data("small, a tenth", 200, 32, 64, 10)
"""For a sender that takes minutes."""


class Stock:
    """Folders of instances; each is created on first use."""

    def __init__(self, root: Path, divisor: int) -> None:
        """Create the folders under `root`, with numbers and the longest size divided by `divisor`."""
        self.root = root
        self._divisor = divisor

    def scaled(self, number: int) -> int:
        """Return a number divided by the divisor."""
        return -(-number // self._divisor)

    def folder(self, data: Data) -> Path:
        """Return the folder of all instances."""
        folder = self.root / data.name
        if not folder.exists():
            folder.mkdir()
            rows = self.scaled(data.rows) if data is LARGE else data.rows
            header, pixels = _template(data.image, rows, data.columns)
            for index in range(self.scaled(data.instances)):
                uid = _UID.format(data.number * 10**9 + index).encode()
                with (folder / f"{index:05}.dcm").open("wb") as file:
                    file.write(header.replace(_PLACE_OF_UID, uid))
                    file.write(pixels)
                    file.truncate(file.tell() - len(pixels) + 2 * rows * data.columns)
        return folder

    def parts(self, data: Data, number: int) -> list[Path]:
        """Return the same instances distributed over this number of folders."""
        folder = self.folder(data)
        if number == 1:
            return [folder]
        parts = [self.root / f"{data.name} {part} of {number}" for part in range(number)]
        if not parts[0].exists():
            for part in parts:
                part.mkdir()
            for index, file in enumerate(sorted(folder.iterdir())):
                os.link(file, parts[index % number] / file.name)
        return parts

    def size(self, data: Data) -> tuple[int, int]:
        """Count the instances and the bytes of their files."""
        files = list(self.folder(data).iterdir())
        return len(files), sum(file.stat().st_size for file in files)


def _template(image: str, rows: int, columns: int) -> tuple[bytes, bytes]:
    """Encode an image of that size: the bytes before its pixels, and the pixels unless they become a hole."""
    dataset = pydicom.dcmread(Path(pydicom.__file__).parent / "data" / "test_files" / image)
    picture = bytes(dataset.PixelData)
    dataset.Rows, dataset.Columns = rows, columns
    dataset.PixelData = b"\0\0"
    dataset.pop((0xFFFC, 0xFFFC), None)  # Data Set Trailing Padding: without it the pixels are last.
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(_UID.format(0))
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    length = 2 * rows * columns
    header = buffer.getvalue()[:-6] + struct.pack("<L", length)
    return header, b"" if length > _MAX_WRITTEN else (picture * (length // len(picture) + 1))[:length]

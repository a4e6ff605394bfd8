"""Instances made by hand, and a receiver with an archive to send them to."""

import contextlib
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.encoding.encode import EXPLICIT, element

from dicomport import StorageSCP, StoreResponse, blocking
from dicomport.archive import Archive, ArchiveOptions, Discrepancy, Filters, Index, Paths, verify
from dicomport.files import read_part10
from dicomport.scu import Instance

__all__ = [
    "CT",
    "LONG",
    "Receiver",
    "bytes_of",
    "files",
    "findings",
    "index_locked",
    "instance",
    "left_over",
    "receiver",
    "rows",
    "stored_bytes",
]

CT: Final = "1.2.840.10008.5.1.4.1.1.2"
LONG: Final = random.Random(7).randbytes(2_500_000)
"""Pixels of an instance that is longer than the blocks that are collected in memory."""


def instance(
    uid: str = "1.2.3.4",
    pixels: bytes = b"\1\2\3\4",
    *,
    study: str = "1.2.3",
    series: str = "1.2.3.1",
    sop_class: str = CT,
    said: str | None = None,
    said_class: str | None = None,
    patient: str = "P-1",
    modality: str = "CT",
    date: str = "20260102",
) -> Instance:
    """Make one in Explicit VR Little Endian; `said` and `said_class` are the request's UIDs where they differ."""
    values = (
        (0x00080016, "UI", sop_class),
        (0x00080018, "UI", uid),
        (0x00080020, "DA", date),
        (0x00080060, "CS", modality),
        (0x00100010, "PN", f"Name^{patient}"),
        (0x00100020, "LO", patient),
        (0x0020000D, "UI", study),
        (0x0020000E, "UI", series),
    )
    data = b"".join(
        element(EXPLICIT, tag, vr, raw + (b"\0" if vr == "UI" else b" ") * (len(raw) % 2))
        for tag, vr, raw in ((tag, vr, text.encode("latin-1")) for tag, vr, text in values)
        if raw
    )
    return Instance(
        sop_class if said_class is None else said_class,
        uid if said is None else said,
        EXPLICIT,
        data + element(EXPLICIT, 0x7FE00010, "OB", pixels + bytes(len(pixels) % 2)),
    )


@dataclass
class Receiver:
    """An archive, and a server that fills it."""

    archive: Archive
    port: int
    _closed: bool = False

    def close(self) -> None:
        """Close the archive, once: everything is in the index then."""
        if not self._closed:
            self._closed = True
            self.archive.close()

    @property
    def root(self) -> Path:
        return self.archive.paths.root

    @contextlib.contextmanager
    def association(self, *more: str, calling: str = "MODALITY") -> Iterator[blocking.BlockingAssociation]:
        """Open an association for CT images and other classes."""
        contexts = [(uid, EXPLICIT) for uid in (CT, *more)]
        with blocking.associate("127.0.0.1", self.port, contexts=contexts, ae_title=calling) as association:
            yield association

    def send(self, *what: Instance, calling: str = "MODALITY") -> list[int]:
        """Send instances over one association; return their statuses."""
        with self.association(*{one.sop_class_uid for one in what} - {CT}, calling=calling) as association:
            return [association.c_store(one).status.code for one in what]

    def answer(self, what: Instance) -> StoreResponse:
        """Send one instance; return the response."""
        with self.association(*{what.sop_class_uid} - {CT}) as association:
            return association.c_store(what)


@contextlib.contextmanager
def receiver(root: Path, options: ArchiveOptions | None = None) -> Iterator[Receiver]:
    """Serve an archive from a thread, and close it."""
    opened = Receiver(Archive(root, options), 0)
    try:
        with StorageSCP(opened.archive, port=0).in_thread() as scp:
            opened.port = scp.port
            yield opened
    finally:
        opened.close()


@contextlib.contextmanager
def index_locked(archive: Archive) -> Iterator[None]:
    """Lock the index, so that the records of stored instances are in the journals only."""
    connection = sqlite3.connect(archive.paths.index, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def files(root: Path) -> list[str]:
    """List what is visible in an archive, its own folder aside."""
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if not path.is_dir() and path.relative_to(root).parts[0] != ".dicomport"
    )


def left_over(root: Path) -> list[str]:
    """List temporary files anywhere in an archive."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.part"))


def rows(root: Path, filters: Filters | None = None) -> list[dict[str, object]]:
    """Read the index's instances."""
    index = Index(Paths(root.resolve()).index)
    try:
        return [dict(row) for row in index.instances(filters or Filters())]
    finally:
        index.close()


def findings(root: Path) -> list[Discrepancy]:
    """Verify an archive."""
    paths = Paths(root.resolve())
    index = Index(paths.index)
    try:
        return list(verify(paths, index, lambda _: None))
    finally:
        index.close()


def stored_bytes(path: Path) -> bytes:
    """Read the data set of a stored file."""
    return path.read_bytes()[read_part10(path).offset :]


def bytes_of(what: Instance) -> bytes:
    """Return an instance's data set as it is sent."""
    return b"".join(bytes(chunk) for chunk in what.chunks(1 << 20))

"""The repair of an archive's index from damaged files: the database, its log, the journal of a process that died."""

from __future__ import annotations

import atexit
import contextlib
import functools
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.archive.sending import bytes_of, instance

from dicomport.archive import Filters, Index, IndexDatabaseError, Paths, open_archive, reindex
from dicomport.archive.file_record import record_of
from dicomport.wire import FileMeta, encode_file_meta

__all__ = ["DAMAGES", "index"]

_SHARED_MEMORY: Final = Path("/dev/shm")
_SESSION: Final = "sessions/session-dead/journal-00000000.jsonl"


@dataclass(frozen=True, slots=True)
class _Archive:
    root: Path
    files: Mapping[str, bytes]
    """Names and content of the index's files, while a process has it open."""
    journal: bytes
    rows: list[dict[str, Any]]


@functools.cache
def _archive() -> _Archive:
    """Create an archive of three instances, two of them in conflict; return it with its index."""
    folder = tempfile.mkdtemp(dir=_SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None, prefix="dicomport-fuzz-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    paths = Paths(Path(folder).resolve())
    for name, one in {
        "1/1.1/1.1.1.dcm": instance("1.1.1"),
        "1/1.1/1.1.1~2.dcm": instance("1.1.1", b"\2\1"),
        "1/1.1/1.1.2.dcm": instance("1.1.2", patient="P-2"),
    }.items():
        meta = FileMeta(
            media_storage_sop_class_uid=one.sop_class_uid,
            media_storage_sop_instance_uid=one.sop_instance_uid,
            transfer_syntax_uid=one.transfer_syntax_uid,
        )
        (paths.root / name).parent.mkdir(parents=True, exist_ok=True)
        (paths.root / name).write_bytes(encode_file_meta(meta) + bytes_of(one))
    paths.sessions.mkdir(parents=True)
    records = [record_of(paths, path) for path in sorted(paths.root.glob("1/1.1/*.dcm"))]
    with contextlib.closing(Index(paths.index)) as opened:
        opened.add(records)
        files = {path.name: path.read_bytes() for path in paths.index.parent.glob("index*")}
        rows = [dict(row) for row in opened.instances(Filters())]
    return _Archive(paths.root, files, "".join(f"{record.to_json()}\n" for record in records).encode(), rows)


def _replaced(_content: bytes, data: bytes) -> bytes:
    return data


def _truncated(content: bytes, data: bytes) -> bytes:
    return content[: int.from_bytes(data[:3], "big") % (len(content) + 1)]


def _zeroed(content: bytes, data: bytes) -> bytes:
    start = int.from_bytes(data[:3], "big") % (len(content) + 1)
    size = int.from_bytes(data[3:6], "big") % (len(content) - start + 1)
    return content[:start] + bytes(size) + content[start + size :]


def _patched(content: bytes, data: bytes) -> bytes:
    """Write bytes into the content, each with three bytes for its place before it."""
    changed = bytearray(content)
    for at in range(0, len(data) - 3, 4):
        changed[int.from_bytes(data[at : at + 3], "big") % len(content)] = data[at + 3]
    return bytes(changed)


DAMAGES: Final[tuple[tuple[str, Callable[[bytes, bytes], bytes]], ...]] = tuple(
    (name, damage)
    for name in ("index.sqlite", "index.sqlite-wal", _SESSION)
    for damage in (_replaced, _truncated, _zeroed, _patched)
)
"""Files, and the ways to damage them; the first byte of the target's data selects one."""


def index(data: bytes) -> None:
    """Damage a file of an index or a journal; the first byte is the file and the way, the others are its arguments.

    Opening the archive and listing its instances succeeds or raises `IndexDatabaseError`. Reindexing succeeds, and then
    the index is that of the files, with one generation and no session.
    """
    archive = _archive()
    own, paths = archive.root / ".dicomport", Paths(archive.root)
    shutil.rmtree(own)
    paths.sessions.mkdir(parents=True)
    name, damage = DAMAGES[(data[0] if data else 0) % len(DAMAGES)]
    for other, content in archive.files.items():
        if not other.endswith("-shm"):
            (own / other).write_bytes(damage(content, data[1:]) if other == name else content)
    if name == _SESSION:
        (own / name).parent.mkdir()
        (own / name).write_bytes(damage(archive.journal, data[1:]))
    with contextlib.suppress(IndexDatabaseError), open_archive(archive.root) as (_, opened):
        opened.instances(Filters())
    assert list(reindex(paths, lambda _: None)) == []
    with open_archive(archive.root) as (_, opened):
        assert [dict(row) for row in opened.instances(Filters())] == archive.rows
    assert len({path.name.partition("sqlite")[0] for path in own.glob("index*")}) == 1
    assert list(paths.sessions.glob("session-*")) == []

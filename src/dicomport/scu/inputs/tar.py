"""The instances in a tar archive: read in place, or from a temporary copy where the archive is compressed."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterator
from typing import Final

from dicomport.files import open_regular, system
from dicomport.files.spool import Spool
from dicomport.scu.inputs.containers import ArchiveKind, max_unpacked, member_instance, member_name
from dicomport.scu.inputs.decompressing import (
    DecompressingReader,
    Decompressor,
    RangeReader,
    begin_bzip2,
    begin_gzip,
    begin_xz,
)
from dicomport.scu.inputs.found import Found, refused
from dicomport.scu.inputs.instance import Instance, NotSendableError
from dicomport.scu.inputs.locations import FileRegion, FileStamp, stamp_of
from dicomport.scu.inputs.temporary import SpooledRegion
from dicomport.wire import FileMetaError

__all__ = ["tar_members"]

_BEGIN: Final[dict[ArchiveKind, Callable[[], Decompressor]]] = {
    ArchiveKind.GZIP: begin_gzip,
    ArchiveKind.BZIP2: begin_bzip2,
    ArchiveKind.XZ: begin_xz,
}
_BLOCK: Final = tarfile.BLOCKSIZE
_MAX_EXTENSION: Final = 1 << 20
"""Of the names and other attributes that precede a member, bytes."""
_SPOOL_BYTES: Final = 256 << 20
"""When the next temporary file is begun: the room of one is free again as soon as all that lies in it was sent."""
_COPIED_AT_ONCE: Final = 1 << 20

_NAMES: Final = ("utf-8", "surrogateescape")
"""How names are decoded: as those of files are."""

# The types of members that say something of the one that follows, or of all: pax (POSIX.1-2008) and GNU's.
_OF_THE_NEXT: Final = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENSIONS: Final = (*_OF_THE_NEXT, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_RECORD: Final = re.compile(rb"([0-9]{1,20}) ([^=]+)=")
_DIGITS: Final = re.compile("[0-9]{1,20}")

# Where a flag says that there is more of a sparse file's map: in its header and in each block that follows.
_SPARSE_GOES_ON: Final = 482
_SPARSE_BLOCK_GOES_ON: Final = 504


def tar_members(path: str, kind: ArchiveKind) -> Iterator[Found]:
    """Give the instances in a tar archive in the order in which they lie there, and what can't go.

    A compressed archive can only be read from its start to its end, so its instances are copied into temporary files
    (in the folder of TMPDIR). These have no names, and the room of each is free again once none of the instances in
    it is held by anyone any more.
    """
    try:
        descriptor, status = open_regular(path)
        try:
            if kind is ArchiveKind.TAR:
                archive = _Tar(path, descriptor, stamp_of(status), RangeReader(descriptor, 0, status.st_size))
            else:
                most = max_unpacked(status.st_size)
                unpacker = DecompressingReader(descriptor, 0, status.st_size, _BEGIN[kind], most)
                archive = _CompressedTar(path, descriptor, stamp_of(status), unpacker)
            yield from archive.members()
        finally:
            system.close(descriptor)
    except (FileMetaError, OSError) as error:
        yield refused(path, f"not a readable tar archive: {error}")


class _Tar:
    """An archive that is being read: each member may be read until the next one is asked for."""

    def __init__(self, path: str, descriptor: int, stamp: FileStamp, reader: RangeReader) -> None:
        self._path = path
        self._descriptor = descriptor
        self._stamp = stamp
        self._reader = reader

    def members(self) -> Iterator[Found]:
        """Give the members. Raises `OSError`, and `FileMetaError` where the archive is damaged."""
        for info, sparse in _members(self._reader):
            if info.isdir():
                continue
            name = self._path
            try:
                name = member_name(self._path, info.name)
                if info.islnk() or info.issym():
                    raise NotSendableError("a link: it is not followed")
                if sparse or info.ischr() or info.isblk() or info.isfifo():
                    raise NotSendableError("not a regular file")
                yield self._instance(name, info.size)
            except NotSendableError as error:
                yield refused(name, str(error))

    def _instance(self, name: str, size: int) -> Instance:
        start = self._reader.position
        if start + size > self._stamp[0]:
            raise FileMetaError("it ends within a member")
        return member_instance(
            name,
            lambda wanted: system.pread(self._descriptor, min(wanted, size), start),
            lambda offset: FileRegion(self._path, start + offset, size - offset, self._stamp),
        )


class _CompressedTar(_Tar):
    """One whose members have to be copied."""

    _spool: Spool | None = None

    def _instance(self, name: str, size: int) -> Instance:
        head = b""

        def first(wanted: int) -> bytes:
            nonlocal head
            head += self._reader.read(min(wanted, size) - len(head))
            return head[:wanted]

        def copied(offset: int) -> SpooledRegion:
            return self._copied(head[offset:], size - offset)

        return member_instance(name, first, copied)

    def _copied(self, head: bytes, size: int) -> SpooledRegion:
        if self._spool is None or self._spool.size > _SPOOL_BYTES:
            self._spool = Spool()
        start = self._spool.size
        self._spool.append(head)
        left = size - len(head)
        while left:
            piece = self._reader.read(min(left, _COPIED_AT_ONCE))
            if not piece:
                raise FileMetaError("it ends within a member")
            self._spool.append(piece)
            left -= len(piece)
        return SpooledRegion(self._spool, start, size, self._stamp)


def _members(reader: RangeReader) -> Iterator[tuple[tarfile.TarInfo, bool]]:
    """Read the headers, each before its member's content, and whether that is a sparse file's.

    `tarfile.TarFile` would keep them all, take names of any length into memory, and call itself for each extension.
    """
    said: dict[str, str] = {}
    while header := reader.read(_BLOCK):
        if not any(header):
            return
        try:
            info = tarfile.TarInfo.frombuf(header, *_NAMES)
        except tarfile.HeaderError as error:
            raise FileMetaError(str(error)) from None
        if info.type in _EXTENSIONS:
            said |= _extension(info, reader)
            continue
        info.name = said.get("path", info.name)
        info.size = _number(said.get("size", str(info.size)))
        sparse = info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse.") for key in said)
        said = {}
        # Links and folders may tell a size, but nothing comes of it.
        size = info.size if info.isreg() or info.type not in tarfile.SUPPORTED_TYPES else 0
        if info.type == tarfile.GNUTYPE_SPARSE:
            _skip_sparse_map(header, reader)
        end = reader.position + _padded(size)
        yield info, sparse
        if not reader.skip(end - reader.position):
            raise FileMetaError("it ends within a member")


def _extension(info: tarfile.TarInfo, reader: RangeReader) -> dict[str, str]:
    """Read what a member says of the next one: its name, its size."""
    if info.size > _MAX_EXTENSION:
        raise FileMetaError("the name of a member is too long")
    data = reader.read(_padded(info.size))[: info.size]
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.partition(b"\0")[0].decode(*_NAMES)}
    said: dict[str, str] = {}
    if info.type in _OF_THE_NEXT:
        at = 0
        while (record := _RECORD.match(data, at)) and (length := int(record[1])) > record.end() - at:
            said[record[2].decode(*_NAMES)] = data[record.end() : at + length - 1].decode(*_NAMES)
            at += length
    return said


def _skip_sparse_map(header: bytes, reader: RangeReader) -> None:
    """Pass over the blocks that go on where the header had no room for all stretches of a sparse file."""
    more = header[_SPARSE_GOES_ON]
    while more and (block := reader.read(_BLOCK)):
        more = block[_SPARSE_BLOCK_GOES_ON]


def _number(text: str) -> int:
    if not _DIGITS.fullmatch(text):
        raise FileMetaError("the size of a member is no number")
    return int(text)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK

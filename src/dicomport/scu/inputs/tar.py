"""Instances in a tar archive: read in place, or from a temporary copy if the archive is compressed.

`tarfile.TarInfo` parses the headers. `tarfile.TarFile` is not used: it would keep all headers in memory, read names of
any length, and recurse for each extension header.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterator
from typing import Final

from dicomport.files import open_regular, system
from dicomport.files.spool import Spool
from dicomport.scu.inputs.containers import ArchiveKind, max_decompressed, member_instance, member_name
from dicomport.scu.inputs.decompressing import (
    DecompressingReader,
    Decompressor,
    RangeReader,
    begin_bzip2,
    begin_gzip,
    begin_xz,
)
from dicomport.scu.inputs.found import Found, unsendable
from dicomport.scu.inputs.instance import Instance, NotAnInstanceError, NotSendableError
from dicomport.scu.inputs.locations import FileRegion, FileStamp, stamp_of
from dicomport.scu.inputs.temporary import SpooledRegion
from dicomport.wire import FileMetaError

_BEGIN: Final[dict[ArchiveKind, Callable[[], Decompressor]]] = {
    ArchiveKind.GZIP: begin_gzip,
    ArchiveKind.BZIP2: begin_bzip2,
    ArchiveKind.XZ: begin_xz,
}
_BLOCK: Final = tarfile.BLOCKSIZE
_MAX_EXTENSION: Final = 1 << 20
"""Maximum length of all names and other attributes that precede a member, bytes."""
_MAX_EXTENSIONS: Final = 32
"""Maximum number of headers with these before a member: writers need three at most."""
_MAX_RECORDS: Final = 1000
"""Maximum number of attributes in such a header."""
_MAX_SPOOL_BYTES: Final = 256 << 20
"""Size at which the next temporary file is begun: the space of one is free as soon as all its instances are sent."""
_COPY_BYTES: Final = 1 << 20

_NAMES: Final = ("utf-8", "surrogateescape")
"""Encoding and error handler of names: those of file names."""

# Types of extension headers, for the next member or for all: pax (POSIX.1-2008) and GNU.
_FOR_NEXT: Final = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENSIONS: Final = (*_FOR_NEXT, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_MORE_IN_HEADER: Final = 482
_MORE_IN_BLOCK: Final = 504
"""Offsets of the flag that a further block of a sparse map follows, in GNU's old format."""
_RECORD: Final = re.compile(rb"([0-9]{1,20}) ([^=]+)=")
_DIGITS: Final = re.compile("[0-9]{1,20}")


def tar_members(path: str, kind: ArchiveKind) -> Iterator[Found]:
    """Yield the instances in a tar archive, and the members that cannot be sent, in their order.

    A compressed archive can only be read from start to end, so its instances are copied to temporary files in TMPDIR.
    These have no name, and the space of each is free again when none of its instances is referenced.
    """
    try:
        descriptor, status = open_regular(path)
        try:
            if kind is ArchiveKind.TAR:
                archive = _Tar(path, descriptor, stamp_of(status), RangeReader(descriptor, 0, status.st_size))
            else:
                limit = max_decompressed(status.st_size)
                reader = DecompressingReader(descriptor, 0, status.st_size, _BEGIN[kind], limit)
                archive = _CompressedTar(path, descriptor, stamp_of(status), reader)
            yield from archive.members()
        finally:
            system.close(descriptor)
    except (FileMetaError, OSError) as error:
        yield unsendable(path, f"not a readable tar archive: {error}")


class _Tar:
    """An open archive. Each member may be read until the next one is requested."""

    def __init__(self, path: str, descriptor: int, stamp: FileStamp, reader: RangeReader) -> None:
        self._path = path
        self._descriptor = descriptor
        self._stamp = stamp
        self._reader = reader

    def members(self) -> Iterator[Found]:
        """Yield the members. Raises `OSError`, and `FileMetaError` if the archive is damaged."""
        for info, is_sparse in _members(self._reader):
            if info.isdir():
                continue
            name = self._path
            try:
                name = member_name(self._path, info.name)
                if info.islnk() or info.issym():
                    raise NotSendableError("a link: not followed")
                if is_sparse or info.ischr() or info.isblk() or info.isfifo():
                    raise NotSendableError("not a regular file")
                yield self._instance(name, info.size)
            except NotSendableError as error:
                yield unsendable(name, str(error), skipped=isinstance(error, NotAnInstanceError))

    def _instance(self, name: str, size: int) -> Instance:
        start = self._reader.position
        if start + size > self._stamp[0]:
            raise FileMetaError("the archive ends within a member")
        return member_instance(
            name,
            lambda wanted: system.pread(self._descriptor, min(wanted, size), start),
            lambda offset: FileRegion(self._path, start + offset, size - offset, self._stamp),
        )


class _CompressedTar(_Tar):
    """A compressed archive, whose members are copied."""

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
        if self._spool is None or self._spool.size > _MAX_SPOOL_BYTES:
            self._spool = Spool()
        start = self._spool.size
        self._spool.append(head)
        left = size - len(head)
        while left:
            piece = self._reader.read(min(left, _COPY_BYTES))
            if not piece:
                raise FileMetaError("the archive ends within a member")
            self._spool.append(piece)
            left -= len(piece)
        return SpooledRegion(self._spool, start, size, self._stamp)


def _members(reader: RangeReader) -> Iterator[tuple[tarfile.TarInfo, bool]]:
    """Yield each header before its member's content is read, and whether the member is a sparse file."""
    attributes: dict[str, str] = {}
    extensions = extension_bytes = 0
    while header := reader.read(_BLOCK):
        if not any(header):
            return
        try:
            info = tarfile.TarInfo.frombuf(header, *_NAMES)
        except tarfile.HeaderError as error:
            raise FileMetaError(str(error)) from None
        if info.type in _EXTENSIONS:
            extensions, extension_bytes = extensions + 1, extension_bytes + info.size
            if extensions > _MAX_EXTENSIONS or extension_bytes > _MAX_EXTENSION:
                raise FileMetaError("the name and other attributes of a member are too long")
            attributes |= _extension(info, reader)
            continue
        extensions = extension_bytes = 0
        # The map of GNU's old sparse format continues in blocks before the content.
        more = info.type == tarfile.GNUTYPE_SPARSE and bool(header[_MORE_IN_HEADER])
        while more and len(block := reader.read(_BLOCK)) == _BLOCK:
            more = bool(block[_MORE_IN_BLOCK])
        info.name = attributes.get("path", info.name)
        info.size = _number(attributes.get("size", str(info.size)))
        is_sparse = info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse.") for key in attributes)
        attributes = {}
        # Links and folders may have a size, but no content.
        size = info.size if info.isreg() or info.type not in tarfile.SUPPORTED_TYPES else 0
        end = reader.position + _padded(size)
        yield info, is_sparse
        if not reader.skip(end - reader.position):
            raise FileMetaError("the archive ends within a member")


def _extension(info: tarfile.TarInfo, reader: RangeReader) -> dict[str, str]:
    """Read an extension header, and return the attributes of the next member."""
    data = reader.read(_padded(info.size))[: info.size]
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.partition(b"\0")[0].decode(*_NAMES)}
    attributes: dict[str, str] = {}
    if info.type in _FOR_NEXT:
        at = 0
        while (record := _RECORD.match(data, at)) and (length := int(record[1])) > record.end() - at:
            attributes[record[2].decode(*_NAMES)] = data[record.end() : at + length - 1].decode(*_NAMES)
            if len(attributes) > _MAX_RECORDS:
                raise FileMetaError("a member has too many attributes")
            at += length
    return attributes


def _number(text: str) -> int:
    if not _DIGITS.fullmatch(text):
        raise FileMetaError("the size of a member is not a number")
    return int(text)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK

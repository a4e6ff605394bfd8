"""Instances in a zip archive, read in place, and decompressed each time that they are read.

`zipfile` reads the directory. It does not read the members: it would keep the whole directory in memory for as long as
one of the instances is queued.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from dicomport.files import BoundedReader, open_regular, system
from dicomport.scu.inputs.containers import max_decompressed, member_instance, member_name
from dicomport.scu.inputs.decompressing import TOO_LONG, DecompressingReader, RangeReader, begin_raw
from dicomport.scu.inputs.found import Found, unsendable
from dicomport.scu.inputs.instance import NotAnInstanceError, NotSendableError
from dicomport.scu.inputs.locations import FileStamp, UnchangedFile, stamp_of
from dicomport.values import frozen
from dicomport.wire import FileMetaError

_LOCAL_HEADER: Final = struct.Struct("<26x2H")
"""A member's header; its last two fields are the lengths of the name and of the extra fields."""
_SIGNATURE: Final = b"PK\3\4"
_ENCRYPTED: Final = 0x0001


@frozen
class ZipMember:
    """A data set in a zip archive, stored or deflated. Its CRC is checked before the last chunk is yielded."""

    path: str
    start: int
    """Offset of the member's bytes in the archive."""
    stored_size: int
    member_size: int
    """Length of the decompressed member, File Meta Information and data set, bytes."""
    offset: int
    """Offset of the data set in the decompressed member, bytes."""
    crc: int
    deflated: bool
    stamp: FileStamp

    @property
    def size(self) -> int:
        """Length of the data set, bytes."""
        return self.member_size - self.offset

    @property
    def held_bytes(self) -> int:
        """0: the data set stays in the archive."""
        return 0

    def chunks(self, chunk_bytes: int) -> Iterator[memoryview]:
        """Yield the data set in chunks. Raises `FileMetaError` if the archive is damaged, or has changed."""
        with UnchangedFile(self.path, self.stamp) as file:
            reader = self.reader(file.descriptor)
            crc = zlib.crc32(reader.read(self.offset))
            buffer = memoryview(bytearray(min(chunk_bytes, self.size)))
            left = self.size
            while left:
                chunk = buffer[: min(len(buffer), left)]
                filled = reader.readinto(chunk)
                crc = zlib.crc32(chunk[:filled], crc)
                left -= len(chunk)
                if filled < len(chunk) or (not left and crc != self.crc):
                    raise FileMetaError("the archive is damaged: the member's checksum is wrong")
                if not left:
                    file.check()
                yield chunk

    def reader(self, descriptor: int) -> RangeReader:
        """Return a reader from the start of the member, in the archive's open file."""
        end = self.start + self.stored_size
        if self.deflated:
            return DecompressingReader(descriptor, self.start, end, begin_raw, self.member_size)
        return RangeReader(descriptor, self.start, end)


def zip_members(path: str) -> Iterator[Found]:
    """Yield the instances in a zip archive, and the members that cannot be sent, in the order of its directory.

    The directory is held in memory; one of more than 32 MiB (some 300,000 members) is rejected.
    """
    try:
        descriptor, status = open_regular(path)
        with BoundedReader(descriptor) as file, zipfile.ZipFile(file) as archive:
            left = max_decompressed(status.st_size)
            for info in archive.infolist():
                if info.is_dir():
                    continue
                left -= info.file_size
                if left < 0:
                    yield unsendable(path, TOO_LONG)
                    return
                yield _found(path, descriptor, stamp_of(status), info)
    except Exception as error:  # noqa: BLE001  # zipfile raises exceptions of any type
        yield unsendable(path, f"not a readable zip archive: {error}")


def _found(path: str, descriptor: int, stamp: FileStamp, info: zipfile.ZipInfo) -> Found:
    name = path
    try:
        name = member_name(path, info.filename)
        member = _member(path, descriptor, stamp, info)
        return member_instance(
            name,
            lambda size: member.reader(descriptor).read(min(size, member.member_size)),
            lambda offset: replace(member, offset=offset),
        )
    except NotSendableError as error:
        return unsendable(name, str(error), skipped=isinstance(error, NotAnInstanceError))


def _member(path: str, descriptor: int, stamp: FileStamp, info: zipfile.ZipInfo) -> ZipMember:
    """Return the source of a member. Raises `NotSendableError`."""
    if info.flag_bits & _ENCRYPTED:
        raise NotSendableError("encrypted members are not supported")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NotSendableError(f"its compression method is not supported ({info.compress_type})")
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    header = system.pread(descriptor, _LOCAL_HEADER.size, info.header_offset)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(_SIGNATURE):
        raise NotSendableError("the archive is damaged: there is no member at the offset in its directory")
    name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    start = info.header_offset + len(header) + name_bytes + extra_bytes
    if start + info.compress_size > stamp[0] or not (deflated or info.compress_size == info.file_size):
        raise NotSendableError("the archive is damaged: the member exceeds the archive")
    return ZipMember(path, start, info.compress_size, info.file_size, 0, info.CRC, deflated, stamp)

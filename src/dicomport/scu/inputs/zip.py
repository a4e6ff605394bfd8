"""The instances in a zip archive, read in place or inflated each time that they are read."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from dicomport.files import BoundedReader, open_regular, system
from dicomport.scu.inputs.containers import max_unpacked, member_instance, member_name
from dicomport.scu.inputs.decompressing import TOO_MUCH, DecompressingReader, RangeReader, begin_raw
from dicomport.scu.inputs.found import Found, refused
from dicomport.scu.inputs.instance import NotSendableError
from dicomport.scu.inputs.locations import FileStamp, UnchangedFile, stamp_of
from dicomport.wire import FileMetaError

__all__ = ["ZipMember", "zip_members"]

_LOCAL_HEADER: Final = struct.Struct("<26x2H")
"""A member's header: the lengths of its name and of its extra fields end it."""
_SIGNATURE: Final = b"PK\3\4"
_ENCRYPTED: Final = 0x0001


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A data set in a zip archive: as it is or deflated, and checked by its CRC before its last chunk is given."""

    path: str
    start: int
    """Where the member's bytes begin in the archive."""
    packed_size: int
    member_size: int
    """Length of the member as it once was, File Meta Information and data set, bytes."""
    offset: int
    """Where the data set begins within the member, bytes."""
    crc: int
    deflated: bool
    stamp: FileStamp

    @property
    def size(self) -> int:
        """Length of the data set, bytes."""
        return self.member_size - self.offset

    @property
    def held_bytes(self) -> int:
        """Nothing: it is where it was."""
        return 0

    def chunks(self, chunk_bytes: int) -> Iterator[memoryview]:
        """Read and inflate the data set, unless the archive has changed since it was found, or does so meanwhile."""
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
                    raise FileMetaError("the archive is damaged: the member's checksum is another one")
                if not left:
                    file.check()
                yield chunk

    def reader(self, descriptor: int) -> RangeReader:
        """Read the member from its start, in the archive's open file."""
        end = self.start + self.packed_size
        if self.deflated:
            return DecompressingReader(descriptor, self.start, end, begin_raw, self.member_size)
        return RangeReader(descriptor, self.start, end)


def zip_members(path: str) -> Iterator[Found]:
    """Give the instances in a zip archive in the order of its directory, and what can't go.

    The directory is held in memory; one of more than 32 MiB (some 300,000 members) is refused.
    """
    try:
        descriptor, status = open_regular(path)
        with BoundedReader(descriptor) as file, zipfile.ZipFile(file) as archive:
            left = max_unpacked(status.st_size)
            for info in archive.infolist():
                if info.is_dir():
                    continue
                left -= info.file_size
                if left < 0:
                    yield refused(path, TOO_MUCH)
                    return
                yield _found(path, descriptor, stamp_of(status), info)
    except Exception as error:  # noqa: BLE001  # zipfile raises whatever its parsing ran into
        yield refused(path, f"not a readable zip archive: {error}")


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
        return refused(name, str(error))


def _member(path: str, descriptor: int, stamp: FileStamp, info: zipfile.ZipInfo) -> ZipMember:
    """Find where a member's bytes are. Raises `NotSendableError`."""
    if info.flag_bits & _ENCRYPTED:
        raise NotSendableError("it is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NotSendableError(f"it is compressed by a method that is not read here ({info.compress_type})")
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    header = system.pread(descriptor, _LOCAL_HEADER.size, info.header_offset)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(_SIGNATURE):
        raise NotSendableError("the archive is damaged: the member is not where its directory says")
    name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    start = info.header_offset + len(header) + name_bytes + extra_bytes
    if start + info.compress_size > stamp[0] or not (deflated or info.compress_size == info.file_size):
        raise NotSendableError("the archive is damaged: the member does not fit into it")
    return ZipMember(path, start, info.compress_size, info.file_size, 0, info.CRC, deflated, stamp)

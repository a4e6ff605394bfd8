"""Zip and tar archives: their kinds, their limits, and the instances in their members."""

from __future__ import annotations

import enum
import posixpath
import re
from collections.abc import Callable
from typing import Final

from dicomport.files import find_file_meta
from dicomport.scu.inputs.identity import Head, may_be_bare
from dicomport.scu.inputs.instance import Instance, NotAnInstanceError, NotSendableError, check_instance
from dicomport.scu.inputs.locations import DataSetLocation
from dicomport.wire import Deviation, EmptyFileError, FileMetaError, NotPart10Error

SNIFFED_BYTES: Final = 512
"""Bytes at the start of a file that identify its kind."""

_SEPARATORS: Final = re.compile(r"[\\/]")
_ALWAYS_DECOMPRESSED: Final = 1 << 30
_MAX_RATIO: Final = 100
"""Images compress to a half or a third, empty segmentations to a hundredth; bombs to a thousandth and less."""


class ArchiveKind(enum.Enum):
    """Kinds of archives. Files of the last three kinds are read as compressed tar archives."""

    ZIP = "zip"
    TAR = "tar"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"


_MAGIC: Final = {
    b"PK\3\4": ArchiveKind.ZIP,
    b"PK\5\6": ArchiveKind.ZIP,  # an empty archive
    b"\x1f\x8b": ArchiveKind.GZIP,
    b"BZh": ArchiveKind.BZIP2,
    b"\xfd7zXZ\0": ArchiveKind.XZ,
}


def archive_kind(start: bytes) -> ArchiveKind | None:
    """Return the kind of a file that begins with these bytes; None if it is not an archive."""
    if start[257:262] == b"ustar":
        return ArchiveKind.TAR
    return next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)


def max_decompressed(size: int) -> int:
    """Return the limit for the decompressed size of an archive of this size, bytes."""
    return max(_ALWAYS_DECOMPRESSED, _MAX_RATIO * size)


def member_name(archive: str, name: str) -> str:
    """Return the `Instance.name` of a member. Raises `NotSendableError` if it leads outside the archive."""
    if ".." in _SEPARATORS.split(name):
        raise NotSendableError(f"its member {name!r} leads outside the archive")
    return f"{archive}/{posixpath.normpath(name).lstrip('/')}"


def member_instance(name: str, first: Callable[[int], bytes], source: Callable[[int], DataSetLocation]) -> Instance:
    """Return the instance in a member.

    `first` returns up to the given number of its first bytes, `source` the data set that begins at an offset. Data sets
    without File Meta Information are not supported: to identify them, they would have to be decompressed. Raises
    `NotSendableError`, and the exceptions of both functions except `FileMetaError`.
    """
    head = Head(first)
    notes: list[Deviation] = []
    try:
        meta, offset = find_file_meta(head, notes)
    except EmptyFileError as error:
        raise NotSendableError(str(error)) from None
    except NotPart10Error:
        if archive_kind(head(SNIFFED_BYTES)):
            raise NotSendableError("an archive in an archive, or a compressed file: not opened") from None
        refusal = NotSendableError if may_be_bare(head.data) else NotAnInstanceError
        raise refusal("not a DICOM file, or one without the File Meta Information required in an archive") from None
    except FileMetaError as error:
        raise NotSendableError(f"not a readable DICOM file: {error}") from None
    return check_instance(meta, source(offset), name, data=head.data, offset=offset, notes=notes)

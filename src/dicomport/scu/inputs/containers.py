"""What zip and tar archives have in common: how they are known, and by what a member of one is an instance."""

from __future__ import annotations

import enum
import posixpath
import re
from collections.abc import Callable
from typing import Final

from dicomport.files import find_file_meta
from dicomport.scu.inputs.instance import Instance, NotSendableError, checked
from dicomport.scu.inputs.locations import Source
from dicomport.wire import FileMetaError, NotPart10Error

__all__ = ["SNIFFED_BYTES", "ArchiveKind", "archive_kind", "max_unpacked", "member_instance", "member_name"]

SNIFFED_BYTES: Final = 512
"""By so many bytes from the start of a file its kind is known."""

_SEPARATORS: Final = re.compile(r"[\\/]")
_ALWAYS_UNPACKED: Final = 1 << 30
_MAX_TIMES: Final = 100
"""Images shrink to a half or a third, empty segmentations to a hundredth; a bomb shrinks to a thousandth and less."""


class ArchiveKind(enum.Enum):
    """The archives that are looked into; the last three are compressed tars, or compressed something else."""

    ZIP = "zip"
    TAR = "tar"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"


_MAGIC: Final = {
    b"PK\3\4": ArchiveKind.ZIP,
    b"PK\5\6": ArchiveKind.ZIP,  # one with nothing in it
    b"\x1f\x8b": ArchiveKind.GZIP,
    b"BZh": ArchiveKind.BZIP2,
    b"\xfd7zXZ\0": ArchiveKind.XZ,
}


def archive_kind(start: bytes) -> ArchiveKind | None:
    """Tell what a file that begins like this is."""
    if start[257:262] == b"ustar":
        return ArchiveKind.TAR
    return next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)


def max_unpacked(size: int) -> int:
    """Tell how much an archive of this size may unpack to, bytes."""
    return max(_ALWAYS_UNPACKED, _MAX_TIMES * size)


def member_name(archive: str, name: str) -> str:
    """Give the name that a member is known by. Raises `NotSendableError` where it would point out of the archive."""
    if ".." in _SEPARATORS.split(name):
        raise NotSendableError(f"the name of its member {name!r} leads out of it")
    return f"{archive}/{posixpath.normpath(name).lstrip('/')}"


def member_instance(name: str, first: Callable[[int], bytes], source: Callable[[int], Source]) -> Instance:
    """Make an instance of a member: `first` reads so many bytes of it, `source` is told where the data set begins.

    A data set without File Meta Information is not looked for: it would have to be unpacked for that. Raises
    `NotSendableError`, and whatever the two raise but `FileMetaError`.
    """
    try:
        meta, offset = find_file_meta(first)
    except NotPart10Error:
        if archive_kind(first(SNIFFED_BYTES)):
            raise NotSendableError("an archive within an archive, or a compressed file: it is not opened") from None
        raise NotSendableError("not a DICOM file, or one without a header, which is not looked for here") from None
    except FileMetaError as error:
        raise NotSendableError(f"not a readable DICOM file: {error}") from None
    return checked(meta, source(offset), name)

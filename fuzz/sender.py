"""The handling of bytes on the sender's disk in `dicomport.scu`: instances, or the reasons against them."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path, PurePath
from typing import Final

from dicomport.archive.scan.scanner import Scanner
from dicomport.encoding.deviations import ScanFlag
from dicomport.scu.inputs.containers import ArchiveKind
from dicomport.scu.inputs.instance import Instance, NotSendableError, instance_from_path
from dicomport.scu.inputs.tar import tar_members
from dicomport.scu.transform.transcoding import transcode
from dicomport.standard import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TransferSyntax,
    looks_like_uid,
)
from dicomport.wire import FileMetaError

__all__ = ["KINDS", "SOURCES", "conversion", "labels", "tar"]

SOURCES: Final = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN)
"""Source transfer syntaxes; the first byte of the target's data selects one."""

KINDS: Final = (ArchiveKind.TAR, ArchiveKind.GZIP, ArchiveKind.BZIP2, ArchiveKind.XZ)
"""Compressions of the archive; the first byte of the target's data selects one."""

_FIRST_GROUP: Final = b"\x08\0"


def conversion(data: bytes) -> None:
    """Convert a data set to each plain encoding, and further from there.

    The result is `NotSendableError`, or a data set that is complete in its transfer syntax. Converting it once more
    returns the original, also through the other encoding if that preserves all VRs.
    """
    source, octets = SOURCES[(data[0] if data else 0) % len(SOURCES)], data[1:]
    implicit = _converted(octets, source, IMPLICIT_VR_LITTLE_ENDIAN)
    explicit = _converted(octets, source, EXPLICIT_VR_LITTLE_ENDIAN)
    if explicit is not None:
        assert _converted(explicit, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN) == explicit
    if implicit is not None:
        again = _converted(implicit, IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN)
        assert again is None or _converted(again, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN) == implicit


def _converted(octets: bytes, source: TransferSyntax, target: TransferSyntax) -> bytes | None:
    try:
        converted = transcode(octets, source, target)
    except NotSendableError:
        return None
    # If it begins with another group, the scanner may detect another encoding.
    if converted.startswith(_FIRST_GROUP):
        scanner = Scanner(target.uid)
        scanner.feed(converted)
        assert scanner.finish().problem is None
    return converted


def tar(data: bytes) -> None:
    """Find and read the instances in a tar archive.

    Only `FileMetaError` and `OSError` are raised, while an instance is read. No name leads out of the archive.
    """
    kind = KINDS[(data[0] if data else 0) % len(KINDS)]
    with tempfile.NamedTemporaryFile() as file:
        file.write(data[1:])
        file.flush()
        for found in tar_members(file.name, kind):
            if isinstance(found, Instance):
                assert PurePath(found.name).is_relative_to(file.name)
                assert ".." not in PurePath(found.name).parts
                with contextlib.suppress(FileMetaError, OSError):
                    assert sum(map(len, found.chunks(1 << 16))) == found.sent_size


def labels(data: bytes) -> None:
    """Find the instance in a file.

    The result is `NotSendableError`, or an instance that can be read. Its labels are those that a receiver finds in its
    data set, if that is sorted and can be read to its end.
    """
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            instance = instance_from_path(Path(file.name))
        except NotSendableError:
            return
        sent = instance.read()
        assert len(sent) == instance.sent_size
        assert len(sent) % 2 == 0
    scanner = Scanner(instance.transfer_syntax_uid)
    scanner.feed(sent)
    scan = scanner.finish()
    if scan.problem is not None or {ScanFlag.NOT_WALKED, ScanFlag.UNSORTED} & scan.flags:
        return
    for label, value in (
        (instance.sop_class_uid, scan.attributes.sop_class_uid),
        (instance.sop_instance_uid, scan.attributes.sop_instance_uid),
    ):
        assert label == value or not looks_like_uid(value)

"""What can be sent: instances in files and in memory, known by a few hundred bytes and read only while they leave."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dicomport.errors import DicomportError
from dicomport.files import Part10File, read_part10
from dicomport.scu.inputs.locations import FileRegion, FileStamp, InMemory, Source
from dicomport.standard import MAX_UID_LENGTH, MEDIA_STORAGE_DIRECTORY, describe, find_transfer_syntax, sop_classes
from dicomport.wire import FileMeta, FileMetaError, NotPart10Error, decode_file_meta

if TYPE_CHECKING:
    import pydicom

__all__ = [
    "Instance",
    "NotSendableError",
    "checked",
    "encoded",
    "instance_from_dataset",
    "instance_from_path",
    "instance_of",
    "read_instance",
]


class NotSendableError(DicomportError):
    """There is no instance that could be sent; the message says why, for a person."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One SOP Instance and where its encoded data set is."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    source: Source | bytes
    name: str = ""
    """Where it was found, as people write it: a file's path, or an archive's path, "/" and the member's name. Empty
    for a data set in memory."""
    converted_from: str = ""
    """The transfer syntax that it was converted from; empty for an instance as it was found."""

    @property
    def path(self) -> Path | None:
        """Its name as a path; None for a data set in memory. There is no such file where it lies in an archive."""
        return Path(self.name) if self.name else None

    @property
    def size(self) -> int:
        """Length of the data set as it is encoded, bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.size

    @property
    def stamp(self) -> FileStamp | None:
        """Size and modification time (ns) of the file that it lies in, when it was found; None for one in memory."""
        return None if isinstance(self.source, bytes) else self.source.stamp

    @property
    def held_bytes(self) -> int:
        """What it takes of memory, or of the room for temporary files, as long as it is there; 0 for one in a file."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.held_bytes

    @property
    def sent_size(self) -> int:
        """Length of the data set as it is sent, bytes.

        Fragments are of even length (PS3.8 E.1): a deflated stream that is not gets one NUL at its end (PS3.5 A.5).
        """
        size = self.size
        return size + size % 2

    def chunks(self, chunk_bytes: int) -> Iterator[memoryview]:
        """Give the data set as it is sent, a piece at a time; a piece is dead once the next is asked for.

        It may be asked for any number of times. Raises `OSError` and `FileMetaError` when the file can't be read, or
        is not what it was.
        """
        source = InMemory(self.source) if isinstance(self.source, bytes) else self.source
        chunks = source.chunks(chunk_bytes)
        return _padded(chunks, source.size) if source.size % 2 else chunks


def _padded(chunks: Iterator[memoryview], size: int) -> Iterator[memoryview]:
    for chunk in chunks:
        size -= len(chunk)
        # The NUL goes with the last chunk: alone, it would leave a fragment of odd length before it.
        yield chunk if size else memoryview(b"".join((chunk, b"\0")))


def instance_of(what: Instance | str | Path | pydicom.Dataset) -> Instance:
    """Make an instance of whatever a caller has. Raises `NotSendableError`."""
    if isinstance(what, Instance):
        return what
    if isinstance(what, str | Path):
        return instance_from_path(Path(what))
    return instance_from_dataset(what)


def instance_from_path(path: Path) -> Instance:
    """Read what identifies the instance in a file, and nothing more of it. Raises `NotSendableError`."""
    return read_instance(str(path))


def read_instance(path: str) -> Instance:
    """Do the same for a path as the operating system has it."""
    try:
        found = _found(path)
    except FileMetaError as error:
        raise NotSendableError(f"not a readable DICOM file: {error}") from None
    except OSError as error:
        raise NotSendableError(f"can't be read: {error.strerror}") from None
    except ValueError as error:  # a path with a NUL
        raise NotSendableError(f"can't be read: {error}") from None
    if found is None:
        raise NotSendableError("not a DICOM file, or a bare data set whose encoding or UIDs can't be told")
    stamp = found.offset + found.size, found.mtime_ns
    return checked(found.meta, FileRegion(path, found.offset, found.size, stamp), path)


def _found(path: str) -> Part10File | None:
    try:
        found = read_part10(path)
    except NotPart10Error:
        from dicomport.scu.inputs.headerless import identify

        return identify(path)
    if found.meta.media_storage_sop_class_uid and found.meta.media_storage_sop_instance_uid:
        return found
    from dicomport.scu.inputs.headerless import complete

    return complete(found)


def instance_from_dataset(dataset: pydicom.Dataset) -> Instance:
    """Encode a data set in the transfer syntax that its file meta names. Raises `NotSendableError`."""
    meta, data = encoded(dataset)
    return checked(meta, InMemory(data), "")


def encoded(dataset: pydicom.Dataset) -> tuple[FileMeta, bytes]:
    """Let pydicom encode a data set, and tell what it is then. Raises `NotSendableError`."""
    buffer = io.BytesIO()
    try:
        dataset.save_as(buffer, enforce_file_format=True)
    except Exception as error:  # pydicom raises whatever its encoding ran into
        # The first line: some have a traceback in their text.
        reason = next(iter(str(error).splitlines()), "")
        raise NotSendableError(f"pydicom can't encode the data set: {reason}") from error
    data = buffer.getvalue()
    try:
        meta, offset = decode_file_meta(data)
    except FileMetaError:
        raise NotSendableError("the data set is empty") from None
    return meta, data[offset:]


def checked(meta: FileMeta, source: Source, name: str) -> Instance:
    """Make an instance of what was found, where it is one that may be sent. Raises `NotSendableError`."""
    instance = Instance(
        # The same for so many instances that one string of each is enough.
        sys.intern(meta.media_storage_sop_class_uid),
        meta.media_storage_sop_instance_uid,
        sys.intern(meta.transfer_syntax_uid),
        source,
        name,
    )
    if not instance.transfer_syntax_uid:
        raise NotSendableError("the file does not say its transfer syntax (0002,0010)")
    if not instance.sop_class_uid or not instance.sop_instance_uid:
        raise NotSendableError("neither file meta nor data set has SOP Class UID and SOP Instance UID")
    for uid in (instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax_uid):
        if len(uid) > MAX_UID_LENGTH:
            raise NotSendableError(f"a UID of {len(uid)} characters; {MAX_UID_LENGTH} is the maximum (PS3.5 9.1)")
    if instance.sop_class_uid == MEDIA_STORAGE_DIRECTORY:
        raise NotSendableError("a DICOMDIR: it lists instances and is none itself")
    if not sop_classes.is_storage(instance.sop_class_uid) and sop_classes.known_as_other(instance.sop_class_uid):
        raise NotSendableError(f"{describe(instance.sop_class_uid)} is no storage SOP Class")
    if source.size == 0:
        raise NotSendableError("the data set is empty")
    syntax = find_transfer_syntax(instance.transfer_syntax_uid)
    if source.size % 2 and not (syntax and syntax.deflated):
        raise NotSendableError("the data set is of odd length: it is truncated or damaged")
    return instance

"""Instances to send, in files and in memory. Each takes a few hundred bytes: data sets are read while they are sent."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeGuard

from dicomport.errors import DicomportError
from dicomport.files import FIRST_READ, find_file_meta, open_regular, system
from dicomport.scu.inputs.examples import Examples, Identified
from dicomport.scu.inputs.identity import Head, identify_bare, is_whole, may_be_bare, reconcile
from dicomport.scu.inputs.locations import DataSetLocation, FileRegion, FileStamp, InMemory, stamp_of
from dicomport.standard import MAX_UID_LENGTH, MEDIA_STORAGE_DIRECTORY, describe, find_transfer_syntax, sop_classes
from dicomport.values import frozen
from dicomport.wire import Deviation, EmptyFileError, FileMeta, FileMetaError, NotPart10Error, decode_file_meta

if TYPE_CHECKING:
    import pydicom


_CHUNK_BYTES: Final = 1 << 20


class NotSendableError(DicomportError):
    """The file or data set cannot be sent as an instance, for the reason in the message."""


class NotAnInstanceError(NotSendableError):
    """The file is neither an instance nor a damaged one, but another file, such as a text or a DICOMDIR."""


@frozen
class Instance:
    """One SOP Instance: its UIDs, and the source of its encoded data set."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    source: DataSetLocation | bytes
    name: str = ""
    """The path of its file, or the path of its archive, "/" and the member's name; empty for a data set in memory."""
    converted_from: str = ""
    """The transfer syntax from which it was converted; empty if it was not converted."""
    deviations: tuple[Deviation, ...] = ()
    """The tolerated deviations of its file from the standard."""

    @property
    def path(self) -> Path | None:
        """The name as a path; None for a data set in memory. In an archive, no such file exists."""
        return Path(self.name) if self.name else None

    @property
    def size(self) -> int:
        """Length of the encoded data set, bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.size

    @property
    def stamp(self) -> FileStamp | None:
        """Size and modification time (ns) of its file when it was found; None for a data set in memory."""
        return None if isinstance(self.source, bytes) else self.source.stamp

    @property
    def held_bytes(self) -> int:
        """Bytes that it occupies in memory or in a temporary file; 0 for one in a file on disk."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.held_bytes

    @property
    def sent_size(self) -> int:
        """Length of the data set as it is sent, bytes.

        Fragments have an even length (PS3.8 E.1): a data set of odd length gets one NUL at its end, as a deflated one
        should have (PS3.5 A.5).
        """
        source = self.source
        size = len(source) if isinstance(source, bytes) else source.size
        return size + (size & 1)

    def chunks(self, chunk_bytes: int) -> Iterator[memoryview]:
        """Yield the data set as it is sent, in chunks; each chunk is valid until the next one is read.

        Each call reads it again. Raises `OSError` if the file cannot be read, and `FileMetaError` if it has changed.
        """
        source = InMemory(self.source) if isinstance(self.source, bytes) else self.source
        chunks = source.chunks(chunk_bytes)
        return _padded(chunks, source.size) if source.size % 2 else chunks

    def read(self) -> bytes:
        """Return the whole data set as it is sent. Raises `NotSendableError` if it cannot be read."""
        try:
            return b"".join(map(bytes, self.chunks(_CHUNK_BYTES)))
        except (OSError, FileMetaError) as error:
            raise NotSendableError(f"cannot be read: {error}") from error


def _padded(chunks: Iterator[memoryview], size: int) -> Iterator[memoryview]:
    for chunk in chunks:
        size -= len(chunk)
        # The NUL is part of the last chunk: the chunk without it would be a fragment of odd length.
        yield chunk if size else memoryview(b"".join((chunk, b"\0")))


def is_data_set(source: object) -> TypeGuard[pydicom.Dataset]:
    """Return whether this is a data set of pydicom, without importing pydicom for it."""
    pydicom = sys.modules.get("pydicom")
    return pydicom is not None and isinstance(source, pydicom.Dataset)


def instance_of(source: Instance | str | os.PathLike[str] | pydicom.Dataset) -> Instance:
    """Return the instance of a file or data set. Raises `NotSendableError`, and `TypeError` for any other object."""
    if isinstance(source, Instance):
        return source
    if isinstance(source, str | os.PathLike):
        return instance_from_path(source)
    if is_data_set(source):
        return instance_from_dataset(source)
    raise TypeError(expected_source(source))


EMPTY_PATH: Final = "empty path: expected a file or a folder"


def expected_source(source: object) -> str:
    """Return the message for an object that is not the source of an instance."""
    return f"expected a path, a pydicom data set or an Instance, not {type(source).__name__}"


def instance_from_path(path: str | os.PathLike[str]) -> Instance:
    """Return the instance in a file, of which only the header is read. Raises `NotSendableError`."""
    return read_instance(os.fspath(path))


def read_instance(path: str) -> Instance:
    """Return the instance in a file, as `instance_from_path` does."""
    if not path:
        raise NotSendableError(EMPTY_PATH)
    try:
        descriptor, status = open_regular(path)
        try:
            return _read_instance(path, Head(lambda size: system.pread(descriptor, size, 0)), stamp_of(status))
        finally:
            system.close(descriptor)
    except FileMetaError as error:
        raise NotSendableError(f"not a readable DICOM file: {error}") from None
    except OSError as error:
        raise NotSendableError(f"cannot be read: {error.strerror}") from None
    except ValueError as error:  # a path with a NUL
        raise NotSendableError(f"cannot be read: {error}") from None


def _read_instance(path: str, head: Head, stamp: FileStamp) -> Instance:
    start = head(FIRST_READ)
    like = _examples.match(start)
    if like is not None and not (stamp[0] - like.offset) & 1:
        source = FileRegion(path, like.offset, stamp[0] - like.offset, stamp)
        return Instance(like.sop_class_uid, like.sop_instance_uid, like.transfer_syntax_uid, source, path)
    instance = _examine(path, head, stamp)
    if isinstance(instance.source, FileRegion) and not instance.deviations:
        uids = instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax_uid
        _examples.learn(start, Identified(*uids, instance.source.offset))
    return instance


_examples: Final = Examples()
"""Layouts of files without deviations."""


def _examine(path: str, head: Head, stamp: FileStamp) -> Instance:
    notes: list[Deviation] = []
    try:
        meta, offset = find_file_meta(head, notes)
    except EmptyFileError as error:
        raise NotSendableError(str(error)) from None
    except NotPart10Error:
        bare = identify_bare(head, FileRegion(path, 0, stamp[0], stamp))
        if bare is None:
            refusal = NotSendableError if may_be_bare(head.data) else NotAnInstanceError
            raise refusal("not a DICOM file, or a bare data set with unknown encoding or UIDs") from None
        meta, offset = bare, 0
    source = FileRegion(path, offset, stamp[0] - offset, stamp)
    return check_instance(meta, source, path, data=head.data, offset=offset, notes=notes)


def instance_from_dataset(dataset: pydicom.Dataset) -> Instance:
    """Encode a data set in the transfer syntax that its file meta names. Raises `NotSendableError`."""
    meta, data = encode_dataset(dataset)
    return check_instance(meta, InMemory(data), "", data=data)


def encode_dataset(dataset: pydicom.Dataset) -> tuple[FileMeta, bytes]:
    """Encode a data set with pydicom; return its file meta and its bytes. Raises `NotSendableError`."""
    buffer = io.BytesIO()
    try:
        dataset.save_as(buffer, enforce_file_format=True)
    except Exception as error:  # pydicom raises exceptions of any type
        # Only the first line: some messages contain a traceback.
        reason = next(iter(str(error).splitlines()), "")
        raise NotSendableError(f"pydicom cannot encode the data set: {reason}") from error
    data = buffer.getvalue()
    try:
        meta, offset = decode_file_meta(data)
    except FileMetaError:
        raise NotSendableError("the data set is empty") from None
    return meta, data[offset:]


def check_instance(
    meta: FileMeta,
    source: DataSetLocation,
    name: str,
    *,
    data: bytes,
    offset: int = 0,
    notes: list[Deviation] | None = None,
) -> Instance:
    """Return an instance if it may be sent, with the UIDs and the transfer syntax of the data set.

    `data` are the first bytes of its file or data set, which begins at `offset`; `notes` are the deviations so far.
    Raises `NotSendableError`.
    """
    notes = [] if notes is None else notes
    if meta.media_storage_sop_class_uid == MEDIA_STORAGE_DIRECTORY:
        raise NotAnInstanceError("a DICOMDIR: it lists instances, but is not one")
    if source.size == 0:
        raise NotSendableError("the data set is empty")
    try:
        agreed = reconcile(meta, data, offset, source, notes)
        if agreed is None:
            raise NotSendableError(_without_syntax(meta))
        _check_uids(agreed)
        syntax = find_transfer_syntax(agreed.transfer_syntax_uid)
        if source.size % 2 and not (syntax and syntax.deflated):
            if not is_whole(source, agreed.transfer_syntax_uid):
                raise NotSendableError("the data set is of odd length: it is truncated or damaged")
            notes.append(Deviation.DATA_SET_ODD)
    except (OSError, FileMetaError) as error:
        raise NotSendableError(f"cannot be read: {error}") from None
    return Instance(
        # Many instances share these UIDs: keep one string of each in memory.
        sys.intern(agreed.media_storage_sop_class_uid),
        agreed.media_storage_sop_instance_uid,
        sys.intern(agreed.transfer_syntax_uid),
        source,
        name,
        deviations=tuple(dict.fromkeys(notes)) if notes else (),
    )


def _check_uids(meta: FileMeta) -> None:
    """Raise `NotSendableError` if a request cannot have these UIDs."""
    sop_class, sop_instance = meta.media_storage_sop_class_uid, meta.media_storage_sop_instance_uid
    if not sop_class or not sop_instance:
        raise NotSendableError("neither file meta nor data set has SOP Class UID and SOP Instance UID")
    for uid in (sop_class, sop_instance, meta.transfer_syntax_uid):
        if len(uid) > MAX_UID_LENGTH:
            raise NotSendableError(f"a UID of {len(uid)} characters; {MAX_UID_LENGTH} is the maximum (PS3.5 9.1)")
    if sop_class == MEDIA_STORAGE_DIRECTORY:
        raise NotAnInstanceError("a DICOMDIR: it lists instances, but is not one")
    if not sop_classes.is_storage(sop_class) and sop_classes.known_as_other(sop_class):
        raise NotSendableError(f"{describe(sop_class)} is not a storage SOP Class")


def _without_syntax(meta: FileMeta) -> str:
    """Return the reason for not sending a data set whose transfer syntax is unknown."""
    if not meta.transfer_syntax_uid:
        return "the file has no Transfer Syntax UID (0002,0010), and its data set does not show it: add the UID"
    return f"the data set is not in {describe(meta.transfer_syntax_uid)}, which file meta names"

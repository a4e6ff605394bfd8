"""What can be sent: instances in files and in memory, known by a few hundred bytes and read only while they leave."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dicomport.files import Part10File, read_part10
from dicomport.standard import (
    MEDIA_STORAGE_DIRECTORY,
    describe,
    find_transfer_syntax,
    sop_classes,
)
from dicomport.wire import FileMeta, FileMetaError, NotPart10Error, decode_file_meta

if TYPE_CHECKING:
    import pydicom

__all__ = ["Instance", "NotSendableError", "instance_from_dataset", "instance_from_path", "instance_of"]

_LONGEST_UID: Final = 64


class NotSendableError(Exception):
    """There is no instance that could be sent; the message says why, for a person."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One SOP Instance and where its encoded data set is."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    source: Part10File | bytes
    path: Path | None = None
    converted_from: str = ""

    @property
    def stamp(self) -> tuple[int, int] | None:
        """TEMPORARY."""
        if self.path is None:
            return None
        status = self.path.stat()
        return status.st_size, status.st_mtime_ns

    @property
    def size(self) -> int:
        """Length of the data set where it is stored, bytes."""
        return self.source.size if isinstance(self.source, Part10File) else len(self.source)

    @property
    def sent_size(self) -> int:
        """Length of the data set as it is sent, bytes.

        Fragments are of even length (PS3.8 E.1): a deflated stream that is not gets one NUL at its end (PS3.5 A.5).
        """
        return self.size + self.size % 2

    def chunks(self, chunk_bytes: int) -> Iterator[memoryview]:
        """Give the data set as it is sent, a piece at a time; a piece is dead once the next is asked for.

        Raises `OSError` and `FileMetaError` when the file can't be read, or not as far as it should.
        """
        left = self.size
        source = self.source
        for chunk in source.chunks(chunk_bytes) if isinstance(source, Part10File) else _pieces(source, chunk_bytes):
            left -= len(chunk)
            # The NUL goes with the last chunk: alone, it would leave a fragment of odd length before it.
            yield memoryview(b"".join((chunk, b"\0"))) if left == 0 and self.size % 2 else chunk


def _pieces(data: bytes, chunk_bytes: int) -> Iterator[memoryview]:
    view = memoryview(data)
    return (view[start : start + chunk_bytes] for start in range(0, len(data), chunk_bytes))


def instance_of(what: Instance | str | Path | pydicom.Dataset) -> Instance:
    """Make an instance of whatever a caller has. Raises `NotSendableError`."""
    if isinstance(what, Instance):
        return what
    if isinstance(what, str | Path):
        return instance_from_path(Path(what))
    return instance_from_dataset(what)


def instance_from_path(path: Path) -> Instance:
    """Read what identifies the instance in a file, and nothing more of it. Raises `NotSendableError`."""
    try:
        found = _found(path)
    except FileMetaError as error:
        raise NotSendableError(f"not a readable DICOM file: {error}") from None
    except OSError as error:
        raise NotSendableError(f"can't be read: {error.strerror}") from None
    if found is None:
        raise NotSendableError("not a DICOM file, or a bare data set whose encoding or UIDs can't be told")
    return _checked(found.meta, found, path)


def _found(path: Path) -> Part10File | None:
    try:
        found = read_part10(path)
    except NotPart10Error:
        from dicomport.scu.bare import identify  # noqa: PLC0415  # pydicom takes 0.3 s to import

        return identify(path)
    if found.meta.media_storage_sop_class_uid and found.meta.media_storage_sop_instance_uid:
        return found
    from dicomport.scu.bare import complete  # noqa: PLC0415  # see above

    return complete(found)


def instance_from_dataset(dataset: pydicom.Dataset) -> Instance:
    """Encode a data set in the transfer syntax that its file meta names. Raises `NotSendableError`."""
    buffer = io.BytesIO()
    try:
        dataset.save_as(buffer, enforce_file_format=True)
    except Exception as error:  # pydicom raises whatever its encoding ran into
        raise NotSendableError(f"pydicom can't encode the data set: {error}") from error
    data = buffer.getvalue()
    try:
        meta, offset = decode_file_meta(data)
    except FileMetaError:
        raise NotSendableError("the data set is empty") from None
    return _checked(meta, data[offset:], None)


def _checked(meta: FileMeta, source: Part10File | bytes, path: Path | None) -> Instance:
    instance = Instance(
        meta.media_storage_sop_class_uid,
        meta.media_storage_sop_instance_uid,
        meta.transfer_syntax_uid,
        source,
        path,
    )
    if not instance.transfer_syntax_uid:
        raise NotSendableError("the file does not say its transfer syntax (0002,0010)")
    if not instance.sop_class_uid or not instance.sop_instance_uid:
        raise NotSendableError("neither file meta nor data set has SOP Class UID and SOP Instance UID")
    for uid in (instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax_uid):
        if len(uid) > _LONGEST_UID:
            raise NotSendableError(f"a UID has {_LONGEST_UID} characters at most (PS3.5 9.1), here one has {len(uid)}")
    if instance.sop_class_uid == MEDIA_STORAGE_DIRECTORY:
        raise NotSendableError("a DICOMDIR: it lists instances and is none itself")
    if not sop_classes.is_storage(instance.sop_class_uid) and sop_classes.known_as_other(instance.sop_class_uid):
        raise NotSendableError(f"{describe(instance.sop_class_uid)} is no storage SOP Class")
    if instance.size == 0:
        raise NotSendableError("the data set is empty")
    syntax = find_transfer_syntax(instance.transfer_syntax_uid)
    if instance.size % 2 and not (syntax and syntax.deflated):
        raise NotSendableError("the data set is of odd length: it is truncated or damaged")
    return instance

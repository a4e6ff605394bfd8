"""SOP Class, SOP Instance UID and transfer syntax of a data set, compared with the File Meta Information of its file.

Theory of operation. The data set decides, not file meta: a peer compares the C-STORE request with the data set, and
cannot read it in another transfer syntax. So the first elements are read, up to the SOP Instance UID (0008,0018), in
the transfer syntax that file meta names. If both UIDs are there, the name is right. If not, they are tried in each
uncompressed transfer syntax: two valid UIDs prove it. An example of a series' first elements spares most instances the
walk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from dicomport.encoding.deviations import ScanFlag
from dicomport.encoding.errors import DataSetError
from dicomport.encoding.headers import PIXEL_DATA, Encoding, encoding_of
from dicomport.encoding.inflate import Inflater
from dicomport.encoding.streaming import StreamWalker
from dicomport.encoding.templates import Templates
from dicomport.encoding.vr import is_vr
from dicomport.encoding.walker import Walker
from dicomport.scu.inputs.locations import DataSetLocation
from dicomport.standard import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TransferSyntax,
    find_transfer_syntax,
    looks_like_uid,
)
from dicomport.wire import Deviation, FileMeta
from dicomport.wire.command_sets import decode_text

_SOP_CLASS: Final = 0x00080016
_SOP_INSTANCE: Final = 0x00080018
_ROWS: Final = 0x00280010
_MAX_BYTES: Final = 1 << 16
"""Bytes in which the UIDs are searched: only a few short elements precede them."""
_CHUNK_BYTES: Final = 1 << 20
_CANDIDATES: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)


class Head:
    """The first bytes of a file or of a member of an archive, read as far as they are needed."""

    __slots__ = ("_read", "data")

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self.data = b""
        """The bytes that were read so far."""

    def __call__(self, size: int) -> bytes:
        """Return `size` bytes, or all if there are fewer."""
        if len(self.data) < size:
            self.data = self._read(size)
        return self.data[:size]


class _Start:
    """The first bytes of a data set: those at an offset of `data`, or more of them from its source."""

    __slots__ = ("_source", "at", "data")

    def __init__(self, data: bytes, at: int, source: DataSetLocation) -> None:
        self.data = data
        self.at = at
        self._source: DataSetLocation | None = source

    def read_more(self) -> bool:
        """Read the first `_MAX_BYTES` from the source; return False if that was done before."""
        if self._source is None:
            return False
        self.data, self.at = bytes(next(self._source.chunks(_MAX_BYTES))), 0
        self._source = None
        return True


class _UIDs(NamedTuple):
    """The UIDs in a data set; empty if they are not there."""

    sop_class: str
    sop_instance: str

    @property
    def valid(self) -> bool:
        return looks_like_uid(self.sop_class) and looks_like_uid(self.sop_instance)


_NO_UIDS: Final = _UIDs("", "")
_templates: Final = Templates()
"""The elements up to the SOP Instance UID, by transfer syntax and by the lengths of the UIDs."""


def reconcile(meta: FileMeta, data: bytes, at: int, source: DataSetLocation, notes: list[Deviation]) -> FileMeta | None:
    """Return file meta that agrees with the data set in `source`, whose first bytes are those of `data` at `at`.

    The deviations of file meta are added to `notes`. Return None if the transfer syntax is unknown: file meta names
    none, or one that the data set is not in. Raises `OSError`, and `FileMetaError` if the file has changed.
    """
    key = meta.transfer_syntax_uid, len(meta.media_storage_sop_class_uid), len(meta.media_storage_sop_instance_uid)
    found = _templates.match(key, data, at)
    if found is not None:
        values = found[0]
        if (
            decode_text(values[_SOP_CLASS]) == meta.media_storage_sop_class_uid
            and decode_text(values[_SOP_INSTANCE]) == meta.media_storage_sop_instance_uid
        ):
            return meta
    return _reconcile(meta, _Start(data, at, source), source, notes)


def _reconcile(meta: FileMeta, start: _Start, source: DataSetLocation, notes: list[Deviation]) -> FileMeta | None:
    named = find_transfer_syntax(meta.transfer_syntax_uid)
    uids = _uids_in(start, named, meta) if meta.transfer_syntax_uid else _NO_UIDS
    if uids.valid:
        return _with_uids(meta, uids, notes)
    for syntax in _CANDIDATES:
        uids_found = _uids_in(start, syntax)
        if not uids_found.valid:
            continue
        is_private = named is None and meta.transfer_syntax_uid
        may_be_compressed = named is None or named.encapsulated
        if not is_private and not (may_be_compressed and not _has_native_pixels(source, syntax)):
            meta = _with_syntax(meta, syntax, notes)
        elif named is None and not is_private:
            # Only file meta would name the codec.
            return None
        return _with_uids(meta, uids_found, notes)
    return _with_uids(meta, uids, notes) if _may_be_in(start, named, meta.transfer_syntax_uid) else None


def may_be_bare(start: bytes) -> bool:
    """Return whether a file may begin with a data set: the first element of an instance has group 0008."""
    return start[:2] in (b"\x08\x00", b"\x00\x08")


def identify_bare(head: Head, source: DataSetLocation) -> FileMeta | None:
    """Return file meta for a data set without Part 10 header; None if its encoding or its UIDs are unknown."""
    if not may_be_bare(head.data):
        return None
    meta = reconcile(FileMeta(), head.data, 0, source, [])
    return meta if meta is not None and meta.media_storage_sop_instance_uid else None


def is_whole(source: DataSetLocation, transfer_syntax_uid: str) -> bool:
    """Return whether a data set can be walked to its end. Raises `OSError`, and `FileMetaError` if it has changed."""
    walker = _walked(source, encoding_of(find_transfer_syntax(transfer_syntax_uid)))
    return walker.problem is None and ScanFlag.NOT_WALKED not in walker.flags


def _with_syntax(meta: FileMeta, actual: TransferSyntax, notes: list[Deviation]) -> FileMeta:
    missing = not meta.transfer_syntax_uid
    notes.append(Deviation.TRANSFER_SYNTAX_MISSING if missing else Deviation.TRANSFER_SYNTAX_DIFFERS)
    return dataclasses.replace(meta, transfer_syntax_uid=actual.uid)


def _with_uids(meta: FileMeta, uids: _UIDs, notes: list[Deviation]) -> FileMeta:
    """Return file meta with the UIDs of the data set, as far as they are valid."""
    changes: dict[str, str] = {}
    for name, uid, differs in (
        ("media_storage_sop_class_uid", uids.sop_class, Deviation.SOP_CLASS_DIFFERS),
        ("media_storage_sop_instance_uid", uids.sop_instance, Deviation.SOP_INSTANCE_UID_DIFFERS),
    ):
        if uid != (named := getattr(meta, name)) and looks_like_uid(uid):
            notes.append(differs if named else Deviation.FILE_META_UID_MISSING)
            changes[name] = uid
    return dataclasses.replace(meta, **changes) if changes else meta


def _uids_in(start: _Start, syntax: TransferSyntax | None, meta: FileMeta | None = None) -> _UIDs:
    """Return the UIDs of a data set in this transfer syntax; remember its first elements if file meta names it."""
    encoding = encoding_of(syntax)
    deflated = syntax is not None and syntax.deflated
    while True:
        try:
            data, at = (_inflated(start), 0) if deflated else (start.data, start.at)
            elements = list(_first_elements(data, at, encoding))
        except DataSetError:
            if start.read_more():
                continue
            return _NO_UIDS
        values = {tag: data[begin:end] for tag, _, begin, end in reversed(elements)}
        uids = _UIDs(decode_text(values.get(_SOP_CLASS, b"")), decode_text(values.get(_SOP_INSTANCE, b"")))
        # With a delimiter between them, elements are not in a row.
        in_a_row = bool(elements) and sum(end - header for _, header, _, end in elements) == elements[-1][3] - at
        if meta is not None and uids.valid and in_a_row and not deflated and len(values) == len(elements):
            key = meta.transfer_syntax_uid, len(uids.sop_class), len(uids.sop_instance)
            _templates.add(key, ((tag, data[header:begin], end - begin) for tag, header, begin, end in elements))
        return uids


def _inflated(start: _Start) -> bytes:
    """Inflate the first bytes of a data set (PS3.5 A.5). Raises `DataSetError`."""
    return Inflater().decompress(start.data[start.at :], _MAX_BYTES)


def _first_elements(data: bytes, at: int, encoding: Encoding) -> Iterator[tuple[int, int, int, int]]:
    """Yield the elements up to the SOP Instance UID: tag, and offsets of the header, the value and its end.

    Raises `DataSetError` if the data ends before, or is in another encoding.
    """
    walker = Walker(data, encoding, at)
    tag = 0
    while tag < _SOP_INSTANCE and (element := walker.element(len(data))) is not None:
        tag, vr, length = element
        if encoding.explicit and not is_vr(vr):
            raise walker.error("no VR")
        if tag > _SOP_INSTANCE:
            return
        begin, start = walker.start, walker.at
        yield tag, begin, start, walker.skip(vr, length, len(data))


def _may_be_in(start: _Start, syntax: TransferSyntax | None, uid: str) -> bool:
    """Return whether the first header of a data set may be in the transfer syntax that file meta names."""
    if syntax is None:
        return bool(uid)
    if syntax.encapsulated:
        # Some writers encode compressed images in Implicit VR.
        return True
    try:
        header = _inflated(start) if syntax.deflated else start.data[start.at :]
    except DataSetError:
        return False
    return not encoding_of(syntax).explicit or is_vr(header[4:6])


def _has_native_pixels(source: DataSetLocation, syntax: TransferSyntax) -> bool:
    """Return whether the pixels of a data set are not compressed, or it has none (PS3.5 A.4)."""
    if syntax.deflated:
        return True
    values = _walked(source, encoding_of(syntax)).values
    return PIXEL_DATA in values or _ROWS not in values


def _walked(source: DataSetLocation, encoding: Encoding) -> StreamWalker:
    walker = StreamWalker(encoding, (_ROWS, PIXEL_DATA))
    for chunk in source.chunks(_CHUNK_BYTES):
        walker.feed(chunk)
        if walker.stopped:
            break
    walker.end()
    return walker

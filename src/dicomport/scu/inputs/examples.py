"""Files laid out like earlier ones: their UIDs are found by one comparison, from the preamble to SOP Instance UID.

Theory of operation
-------------------
`identity` examines a file: its SOP Class, SOP Instance UID and transfer syntax, and its deviations. The files of a
series are laid out alike: the same elements of the same lengths in File Meta Information and at the start of the data
set. `learn` keeps the layout of a file without deviations. `match` compares all headers of another file with it and
reads five values: both pairs of UIDs must agree, and the SOP Class and the transfer syntax must have been found
together before, in a data set of the same encoding. Any other file does not match, and is examined as before. Lengths
are part of the layout, so values that are not compared cannot move the others.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from dicomport.encoding.errors import DataSetError
from dicomport.encoding.headers import EXPLICIT_LITTLE, UNDEFINED_LENGTH, Encoding, encoding_of
from dicomport.encoding.templates import Templates
from dicomport.encoding.walker import Walker
from dicomport.standard import find_transfer_syntax

_PREFIX: Final = slice(128, 132)
_DICM: Final = b"DICM"
_META_START: Final = 132
_FIRST_END: Final = _META_START + 12
"""Offset of the end of the first element, the group length (PS3.10 7.1)."""
_GROUP_LENGTH: Final = 0x00020000
_META_SOP_CLASS: Final = 0x00020002
_META_SOP_INSTANCE: Final = 0x00020003
_META_SYNTAX: Final = 0x00020010
_SOP_CLASS: Final = 0x00080016
_SOP_INSTANCE: Final = 0x00080018
_WANTED: Final = (_GROUP_LENGTH, _META_SOP_CLASS, _META_SOP_INSTANCE, _META_SYNTAX, _SOP_CLASS, _SOP_INSTANCE)
_MAX_KNOWN: Final = 128
"""Limit of pairs of SOP Class and transfer syntax."""


class Identified(NamedTuple):
    """The UIDs of a file."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    offset: int
    """Offset of the data set, bytes."""


class Examples:
    """Layouts of files."""

    def __init__(self) -> None:
        self._layouts = Templates()
        """The elements up to the SOP Instance UID, by the bytes of the group length."""
        self._known: dict[tuple[bytes, bytes, bytes], tuple[str, str]] = {}
        """SOP Class UID and transfer syntax UID by their encoded values and the encoding that the data set is in."""

    def match(self, data: bytes) -> Identified | None:
        """Return the UIDs of a file with these first bytes, or None if it is not laid out like an earlier one."""
        group_length = data[_META_START:_FIRST_END]
        found = self._layouts.match(group_length, data, _META_START)
        if found is None or data[_PREFIX] != _DICM:
            return None
        values = found[0]
        sop_class, sop_instance = values[_META_SOP_CLASS], values[_META_SOP_INSTANCE]
        offset = _FIRST_END + int.from_bytes(group_length[-4:], "little")
        known = self._known.get((sop_class, values[_META_SYNTAX], _encoding_at(data, offset)))
        if known is None or sop_class != values[_SOP_CLASS] or sop_instance != values[_SOP_INSTANCE]:
            return None
        uid = sop_instance.decode("latin-1").strip("\0 ")
        return Identified(known[0], uid, known[1], offset) if uid else None

    def learn(self, data: bytes, identified: Identified) -> None:
        """Learn from a file without deviations."""
        syntax = find_transfer_syntax(identified.transfer_syntax_uid)
        if syntax is not None and syntax.deflated:
            return
        offset, group_length = identified.offset, data[_META_START:_FIRST_END]
        try:
            elements = _elements(data, _META_START, offset, EXPLICIT_LITTLE)
            elements += _elements(data, offset, None, encoding_of(syntax))
        except DataSetError:
            return
        if tuple(tag for tag, *_ in elements if tag in _WANTED) != _WANTED:
            return
        self._layouts.add(group_length, elements, _WANTED)
        found = self._layouts.match(group_length, data, _META_START)
        if found is not None:
            values = found[0]
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = identified.sop_class_uid, identified.transfer_syntax_uid
            self._known[values[_META_SOP_CLASS], values[_META_SYNTAX], _encoding_at(data, offset)] = known


def _encoding_at(data: bytes, at: int) -> bytes:
    """Return the bytes of a data set's first header that differ from encoding to encoding: its group, and its VR."""
    group, vr = data[at : at + 2], data[at + 4 : at + 6]
    return group + vr if vr.isupper() else group


def _elements(data: bytes, at: int, end: int | None, encoding: Encoding) -> list[tuple[int, bytes, int]]:
    """Return tag, header and length of the value of the elements in a row up to `end`, or to the SOP Instance UID.

    Raises `DataSetError` if they are in another encoding or not in a row.
    """
    walker = Walker(data, encoding, at)
    elements: list[tuple[int, bytes, int]] = []
    tag = -1
    while walker.at != end and tag != _SOP_INSTANCE:
        start = walker.at
        found = walker.element(len(data))
        if found is None or found[0] <= tag or found[2] == UNDEFINED_LENGTH:
            raise walker.error("not in a row")
        tag, vr, length = found
        value = walker.at
        stop = walker.skip(vr, length, len(data))
        elements.append((tag, data[start:value], stop - value))
    return elements

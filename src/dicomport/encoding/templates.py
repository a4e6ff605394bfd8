"""Match by example: elements laid out like earlier ones are found by one comparison, not walked one by one.

The commands of an association repeat a few layouts, so does the File Meta Information of a series, and the instances of
a series have the same elements in the same order, mostly with the same values or with values of the same length. A walk
takes ten times as long as the comparison.

Theory of operation
-------------------
A `Template` holds elements in a row: their headers, and those values that have been the same so far. It matches bytes
only if all of these are equal, so a match proves where each element ends. `Templates` keeps one for each command set or
File Meta Information that was read without a finding. A `SeriesTemplate` matches the first elements of a data set and
adapts to its series: a value that differs is not compared any more, and the header of an element whose length differs
is read from then on. It holds only elements of which a walk reports nothing but their end. Bytes that do not match are
walked, and become the next example.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from dicomport.encoding.elements import Value
from dicomport.encoding.headers import (
    AFTER_FILE_META,
    DELIMITER_GROUP,
    EXTENDED_OFFSET_TABLE,
    ITEM,
    LONG_HEADER,
    SHORT_HEADER,
    UNDEFINED_LENGTH,
    Encoding,
)
from dicomport.encoding.vr import KNOWN_VRS

_MAX_TEMPLATE_ELEMENTS: Final = 32
"""No command has more, and hardly any File Meta Information."""
_MAX_TEMPLATES: Final = 128
"""They differ with the lengths of the UIDs."""

_PIXELS: Final = 0x7FE00000
_MAX_BYTES: Final = 1 << 16
"""Length of the part of a data set that is compared, bytes. The rest, and all after the pixels, is walked."""
_MAX_ELEMENTS: Final = 1000
"""Elements of a series' example: 64 hostile senders make us keep 24 MB."""
_MAX_DIFFERENCES: Final = 32
"""Values of a data set whose length may differ for the first time; with more, a walk is as cheap."""
_MAX_FOLLOWED: Final = 1000
"""Data sets that follow one example: values that differ between two studies may be the same within the next one."""
_MAX_SERIES: Final = 64


class Matched(NamedTuple):
    """The first elements of a data set, found by example and not walked."""

    end: int
    """Offset of the end of the last element, which may not have arrived yet."""
    last: int
    """Tag of the last element."""
    vr: bytes
    """VR of the last element."""
    number: int
    """Number of elements."""
    values: dict[int, Value]
    """The wanted values by tag."""


class _Element(NamedTuple):
    tag: int
    vr: bytes
    header: bytes
    size: int
    """Length of the value."""
    wanted: bool
    value: bytes | None
    """None for a value that is not compared."""


class Template:
    """Elements in a row, each with a value as long as in the example."""

    __slots__ = ("_differing", "_least", "_same", "_stretches", "elements", "number", "size", "values", "wanted")

    def __init__(self, elements: Sequence[_Element]) -> None:
        # The last value is not compared, and if it is not wanted, its bytes need not have arrived.
        self.elements = (*elements[:-1], elements[-1]._replace(value=None))
        self.number = len(elements)
        self.size = sum(len(element.header) + element.size for element in elements)
        """Length of all elements, bytes."""
        self.values = {
            element.tag: (element.vr, element.value)
            for element in self.elements
            if element.wanted and element.value is not None
        }
        """The wanted values that are compared."""
        self.wanted = tuple(
            (element.tag, element.vr) for element in self.elements if element.wanted and element.value is None
        )
        """Tag and VR of the wanted values that are not compared."""
        stretches: list[str] = []
        differing: list[str] = []
        same = [b""]
        for element in self.elements:
            same[-1] += element.header
            if element.value is None:
                stretches.append(f"{len(same[-1])}s{element.size}x")
                differing.append(f"{len(same[-1])}x{element.size}{'s' if element.wanted else 'x'}")
                same.append(b"")
            else:
                same[-1] += element.value
        self._same = tuple(same[:-1])
        last = elements[-1].size
        self._stretches = struct.Struct("".join(stretches).removesuffix(f"{last}x"))
        self._differing = struct.Struct("".join(differing).removesuffix(f"{last}x"))
        self._least = max(self._stretches.size, self._differing.size)

    def match(self, data: bytes | memoryview, at: int) -> tuple[Any, ...] | None:
        """Return the values of `wanted`, or None if the bytes at offset `at` do not match."""
        if len(data) - at < self._least or self._stretches.unpack_from(data, at) != self._same:
            return None
        return self._differing.unpack_from(data, at)


class Templates:
    """Templates of command sets or of File Meta Information, each found by a key such as its length."""

    def __init__(self) -> None:
        self._templates: dict[Hashable, tuple[Template, tuple[int, ...]]] = {}

    def match(self, key: Hashable, data: bytes, at: int = 0) -> tuple[dict[int, bytes], int] | None:
        """Return the values by tag and the offset of their end, or None without a template that matches."""
        found = self._templates.get(key)
        if found is None:
            return None
        template, tags = found
        values = template.match(data, at)
        return None if values is None else (dict(zip(tags, values, strict=True)), at + template.size)

    def add(
        self, key: Hashable, elements: Iterable[tuple[int, bytes, int]], wanted: Collection[int] | None = None
    ) -> None:
        """Remember an example: tag, header and length of the value of each element; all values are `wanted` or some."""
        example = [
            _Element(tag, b"", header, size, wanted=wanted is None or tag in wanted, value=None)
            for tag, header, size in elements
        ]
        if 0 < len(example) <= _MAX_TEMPLATE_ELEMENTS:
            if len(self._templates) >= _MAX_TEMPLATES:
                self._templates.clear()
            self._templates[key] = Template(example), tuple(element.tag for element in example if element.wanted)


_Part: TypeAlias = Template | _Element
"""Elements in a row, or one element whose length differs between data sets."""


class SeriesTemplate:
    """The first elements of a series' data sets, by the last one that did not match."""

    __slots__ = ("_followed", "_parts")

    def __init__(self) -> None:
        self._parts: list[_Part] = []
        self._followed = 0

    def match(self, encoding: Encoding, view: memoryview, wanted: Collection[int], max_bytes: int) -> Matched | None:
        """Return the first elements of a data set, or None if it does not match: then it becomes the example.

        The last value may end beyond `view`. A wanted value has at most `max_bytes` bytes.
        """
        self._followed += 1
        found = self._follow(encoding, view, max_bytes) if self._parts and self._followed <= _MAX_FOLLOWED else None
        if found is None:
            self._followed = 0
            elements = _first_elements(encoding, view, wanted, max_bytes)
            if elements:
                self._parts = [Template(elements)]
        return found

    def _follow(self, encoding: Encoding, view: memoryview, max_bytes: int) -> Matched | None:
        at = number = last = index = splits = 0
        vr = b""
        values: dict[int, Value] = {}
        while index < len(self._parts) and at < len(view):
            part = self._parts[index]
            if isinstance(part, Template):
                found = part.match(view, at)
                if found is None:
                    splits += 1
                    if splits > _MAX_DIFFERENCES or not self._loosen(index, part, encoding, view[at:]):
                        return None
                    continue
                values |= part.values
                for (tag, vr), raw in zip(part.wanted, found, strict=True):
                    values[tag] = vr, raw
                at += part.size
                number += part.number
                last, vr = part.elements[-1].tag, part.elements[-1].vr
            else:
                element = _plain_element(encoding, view, at)
                if element is None:
                    return None
                last, vr, body, at = element
                if (last, vr) != (part.tag, part.vr):
                    return None
                number += 1
                if part.wanted:
                    if at > len(view) or at - body > max_bytes:
                        return None
                    values[last] = vr, bytes(view[body:at])
            index += 1
        return Matched(at, last, vr, number, values)

    def _loosen(self, index: int, template: Template, encoding: Encoding, view: memoryview) -> bool:
        """Stop comparing values that differ here, up to the first of another length. Return whether any did."""
        elements = list(template.elements)
        at = 0
        for place, element in enumerate(template.elements):
            body = at + len(element.header)
            if view[at:body] != element.header:
                found = _plain_element(encoding, view, at)
                if found is None or found[:2] != (element.tag, element.vr):
                    return False
                halves = elements[:place], elements[place + 1 :]
                before, behind = ([Template(half)] if half else [] for half in halves)
                self._parts[index : index + 1] = [*before, element, *behind]
                return True
            at = body + element.size
            if element.value is not None and view[body:at] != element.value:
                elements[place] = element._replace(value=None)
        if elements == list(template.elements):
            return False  # The view ends inside the last element.
        self._parts[index] = Template(elements)
        return True


class SeriesTemplates:
    """Series' templates by key, such as the sender; beyond a bound, the least recently used one is dropped."""

    def __init__(self) -> None:
        self._templates: OrderedDict[Hashable, SeriesTemplate] = OrderedDict()

    def of(self, key: Hashable) -> SeriesTemplate:
        """Return the template of a key."""
        template = self._templates.pop(key, None) or SeriesTemplate()
        self._templates[key] = template
        if len(self._templates) > _MAX_SERIES:
            self._templates.popitem(last=False)
        return template


def _first_elements(encoding: Encoding, view: memoryview, wanted: Collection[int], max_bytes: int) -> list[_Element]:
    """Return the first elements of a data set; none if `view` ends among them, as the next data set may show more."""
    elements: list[_Element] = []
    at, last = 0, -1
    while (element := _plain_element(encoding, view, at)) is not None:
        tag, vr, body, end = element
        if tag <= last or (tag in wanted and end - body > max_bytes):
            break
        if tag < _PIXELS and end > min(len(view), _MAX_BYTES):
            break
        if len(elements) == _MAX_ELEMENTS:
            return elements
        value = bytes(view[body:end]) if tag < _PIXELS else None
        elements.append(_Element(tag, vr, bytes(view[at:body]), end - body, tag in wanted, value))
        if tag >= _PIXELS:
            return elements
        at, last = end, tag
    return [] if _is_cut(encoding, view, at) else elements


def _is_cut(encoding: Encoding, view: memoryview, at: int) -> bool:
    """Return whether the element at `at` was left out because `view` ends before it does."""
    if len(view) >= _MAX_BYTES or at == len(view):
        return False
    element = _plain_element(encoding, view, at)
    return len(view) - at < LONG_HEADER or (element is not None and element[0] < _PIXELS and element[3] > len(view))


def _plain_element(encoding: Encoding, view: memoryview, at: int) -> tuple[int, bytes, int, int] | None:
    """Return tag and VR of an element, and where its value begins and ends.

    Return None for an element of which a walk reports more than that, and for a header that `view` cuts short.
    """
    header = encoding.read(view, at, len(view))
    if header is None:
        return None
    tag, vr, size, body = header
    # An undefined length is odd, too.
    if size & 1 or tag < AFTER_FILE_META or tag >> 16 == DELIMITER_GROUP or (vr and vr not in KNOWN_VRS):
        return None
    if tag == EXTENDED_OFFSET_TABLE:
        return None  # A walk counts its entries.
    if not encoding.explicit and _has_long_item(encoding, view, body, body + size):
        return None
    return tag, vr, body, body + size


def _has_long_item(encoding: Encoding, view: memoryview, at: int, end: int) -> bool:
    """Return whether an element in Implicit VR is a sequence that is shorter than its items."""
    while at + SHORT_HEADER <= end:
        header = encoding.read_item(view, at, len(view))
        if header is None or header[0] != ITEM or header[1] == UNDEFINED_LENGTH:
            return False
        at += SHORT_HEADER + header[1]
    return at > end

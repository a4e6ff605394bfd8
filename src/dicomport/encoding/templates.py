"""A walk by example: a data set that is built like the last one is not walked element by element.

The instances of a series have the same elements in the same order, most of their values are the same too, and of those
that aren't most have the same length, as long as nobody counts to ten. So long stretches of a data set are compared
with those of the last one, in one go and all but such values: where they are the same, so is where each element ends. A
value that has differed once is left out from then on; an element whose length has differed is looked at on its own.
Nothing is assumed: every byte of every header is compared, and of such elements only of which the walk would have
nothing to say but where they end.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Collection, Hashable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from dicomport.encoding.headers import DELIMITER_GROUP, LONG_HEADER, Encoding
from dicomport.encoding.streaming import AFTER_FILE_META, Passed, Value
from dicomport.encoding.vr import KNOWN_VRS

__all__ = ["SeriesTemplate", "SeriesTemplates"]

_PIXELS: Final = 0x7FE00000
_MAX_BYTES: Final = 1 << 16
"""How much of a data set is compared, bytes. Beyond that, and behind the pixels, it is walked."""
_MAX_ELEMENTS: Final = 1000
"""How many elements an example has: what is kept of 64 senders that mean harm is 24 MB."""
_MAX_DIFFERENCES: Final = 32
"""Values whose length may differ for the first time before it is as cheap to walk."""
_MAX_FOLLOWED: Final = 1000
"""How many data sets follow one example: what differs from one study to the next may be the same in the next one."""
_MAX_MODELS: Final = 64


class _Element(NamedTuple):
    tag: int
    vr: bytes
    header: bytes
    size: int
    """Of the value."""
    wanted: bool
    value: bytes | None
    """None where it differs from one data set to the next, or need not be there yet."""


class _Run:
    """Elements in a row, each with a value as long as it was in the example."""

    __slots__ = ("_differing", "_least", "_same", "_stretches", "elements", "number", "size", "values", "wanted")

    def __init__(self, elements: Sequence[_Element]) -> None:
        # Of the last value nothing has to be there, unless it is wanted.
        self.elements = (*elements[:-1], elements[-1]._replace(value=None))
        self.number = len(elements)
        self.size = sum(len(element.header) + element.size for element in elements)
        self.values = {
            element.tag: (element.vr, element.value)
            for element in self.elements
            if element.wanted and element.value is not None
        }
        """The wanted ones that are the same."""
        self.wanted = tuple(
            (element.tag, element.vr) for element in self.elements if element.wanted and element.value is None
        )
        """The wanted ones that differ."""
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

    def begins(self, view: memoryview, at: int) -> bool:
        """Tell whether there is such a run."""
        return len(view) - at >= self._least and self._stretches.unpack_from(view, at) == self._same

    def differing(self, view: memoryview, at: int) -> tuple[Any, ...]:
        """Take out the values that are wanted and differ."""
        return self._differing.unpack_from(view, at)


_Part: TypeAlias = _Run | _Element
"""Elements in a row, or one whose length differs from one data set to the next."""


class SeriesTemplate:
    """What the last data set was built like."""

    __slots__ = ("_followed", "_parts")

    def __init__(self) -> None:
        self._parts: list[_Part] = []
        self._followed = 0

    def passed(self, encoding: Encoding, view: memoryview, wanted: Collection[int], most: int) -> Passed | None:
        """Find the first elements of a data set, if it is built like the last one; the last value may be beyond `view`.

        No wanted value has more than `most` bytes. Where nothing is found, this data set is the next one's example.
        """
        self._followed += 1
        found = self._follow(encoding, view, most) if self._parts and self._followed <= _MAX_FOLLOWED else None
        if found is None:
            self._followed = 0
            elements = _first_elements(encoding, view, wanted, most)
            if elements:
                self._parts = [_Run(elements)]
        return found

    def _follow(self, encoding: Encoding, view: memoryview, most: int) -> Passed | None:
        at = number = last = index = splits = 0
        values: dict[int, Value] = {}
        while index < len(self._parts) and at < len(view):
            part = self._parts[index]
            if isinstance(part, _Run):
                if not part.begins(view, at):
                    splits += 1
                    if splits > _MAX_DIFFERENCES or not self._loosen(index, part, encoding, view[at:]):
                        return None
                    continue
                values |= part.values
                for (tag, vr), raw in zip(part.wanted, part.differing(view, at), strict=True):
                    values[tag] = vr, raw
                at += part.size
                number += part.number
                last = part.elements[-1].tag
            else:
                element = _plain_element(encoding, view, at)
                if element is None:
                    return None
                last, vr, body, at = element
                if (last, vr) != (part.tag, part.vr):
                    return None
                number += 1
                if part.wanted:
                    if at > len(view) or at - body > most:
                        return None
                    values[last] = vr, bytes(view[body:at])
            index += 1
        return Passed(at, last, number, values)

    def _loosen(self, index: int, run: _Run, encoding: Encoding, view: memoryview) -> bool:
        """Leave out of a run the values that differ here, up to a length that does; give whether it is that."""
        elements = list(run.elements)
        at = 0
        for place, element in enumerate(run.elements):
            body = at + len(element.header)
            if view[at:body] != element.header:
                found = _plain_element(encoding, view, at)
                if found is None or found[:2] != (element.tag, element.vr):
                    return False
                halves = elements[:place], elements[place + 1 :]
                before, behind = ([_Run(half)] if half else [] for half in halves)
                self._parts[index : index + 1] = [*before, element, *behind]
                return True
            at = body + element.size
            if element.value is not None and view[body:at] != element.value:
                elements[place] = element._replace(value=None)
        if elements == list(run.elements):
            return False  # It ends inside the last one.
        self._parts[index] = _Run(elements)
        return True


class SeriesTemplates:
    """Models by who sends what; beyond a bound, the one that was used longest ago is forgotten."""

    def __init__(self) -> None:
        self._models: OrderedDict[Hashable, SeriesTemplate] = OrderedDict()

    def of(self, key: Hashable) -> SeriesTemplate:
        """Give the model of a key."""
        model = self._models.pop(key, None) or SeriesTemplate()
        self._models[key] = model
        if len(self._models) > _MAX_MODELS:
            self._models.popitem(last=False)
        return model


def _first_elements(encoding: Encoding, view: memoryview, wanted: Collection[int], most: int) -> list[_Element]:
    """Take the first elements of a data set; none where `view` ends among them, as the next one may show more."""
    elements: list[_Element] = []
    at, last = 0, -1
    while (element := _plain_element(encoding, view, at)) is not None:
        tag, vr, body, end = element
        if tag <= last or (tag in wanted and end - body > most):
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
    """Tell whether the element at `at` was left out because `view` ends before it does."""
    if len(view) >= _MAX_BYTES or at == len(view):
        return False
    element = _plain_element(encoding, view, at)
    return len(view) - at < LONG_HEADER or (element is not None and element[0] < _PIXELS and element[3] > len(view))


def _plain_element(encoding: Encoding, view: memoryview, at: int) -> tuple[int, bytes, int, int] | None:
    """Read the header of an element of which a walk learns nothing but where it ends.

    Return its tag and VR, and where its value begins and ends; None for any other element and for a header cut short.
    """
    header = encoding.read(view, at, len(view))
    if header is None:
        return None
    tag, vr, size, body = header
    # An undefined length is odd, too.
    if size & 1 or tag < AFTER_FILE_META or tag >> 16 == DELIMITER_GROUP or (vr and vr not in KNOWN_VRS):
        return None
    return tag, vr, body, body + size

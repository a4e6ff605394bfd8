"""A walk by example: a data set that is built like the last one is not walked element by element.

The instances of a series have the same elements in the same order, and most of their values have the same length, as
long as nobody counts to ten. So the headers of many elements in a row are taken out of a data set in one go and
compared with those of the last one: where they are the same, so is where each element ends. An element whose length has
differed once is looked at on its own from then on. Nothing is assumed: every byte of every header is compared, and of
such elements only of which the walk would have nothing to say but where they end.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Collection, Hashable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from dicomport.archive.elements import LONG_HEADER, Coding, Passed, Value, ordinary_element

__all__ = ["Model", "Models"]

_PIXELS: Final = 0x7FE00000
_MOST_BYTES: Final = 1 << 16
"""How much of a data set is compared, bytes. Beyond that, and behind the pixels, it is walked."""
_MOST_ELEMENTS: Final = 1000
"""How many elements an example has: what is kept of 64 senders that mean harm is 16 MB."""
_MOST_DIFFERENCES: Final = 32
"""Values whose length may differ for the first time before it is as cheap to walk."""
_MOST_MODELS: Final = 64


class _Element(NamedTuple):
    tag: int
    vr: bytes
    header: bytes
    size: int
    """Of the value."""
    wanted: bool


class _Run:
    """Elements in a row, each with a value as long as it was in the example."""

    __slots__ = ("_headers", "_joined", "_least", "_values", "elements", "size", "wanted")

    def __init__(self, elements: Sequence[_Element]) -> None:
        self.elements = elements
        self.wanted = tuple((element.tag, element.vr) for element in elements if element.wanted)
        self.size = sum(len(element.header) + element.size for element in elements)
        *others, last = elements
        # Of the last value nothing has to be there, unless it is wanted.
        headers = [f"{len(element.header)}s{element.size}x" for element in others]
        self._headers = struct.Struct("".join((*headers, f"{len(last.header)}s")))
        values = [f"{len(element.header)}x{element.size}{'s' if element.wanted else 'x'}" for element in others]
        self._values = struct.Struct(
            "".join((*values, f"{len(last.header)}x{last.size}s" if last.wanted else f"{len(last.header)}x"))
        )
        self._least = max(self._headers.size, self._values.size)
        self._joined = b"".join(element.header for element in elements)

    def begins(self, view: memoryview, at: int) -> bool:
        """Tell whether there is such a run."""
        return len(view) - at >= self._least and b"".join(self._headers.unpack_from(view, at)) == self._joined

    def values_of(self, view: memoryview, at: int) -> tuple[Any, ...]:
        """Take out the wanted values."""
        return self._values.unpack_from(view, at)


_Part: TypeAlias = _Run | _Element
"""Elements in a row, or one whose length differs from one data set to the next."""


class Model:
    """What the last data set was built like."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[_Part] = []

    def passed(self, coding: Coding, view: memoryview, wanted: Collection[int], most: int) -> Passed | None:
        """Find the first elements of a data set, if it is built like the last one; the last value may be beyond `view`.

        No wanted value has more than `most` bytes. Where nothing is found, this data set is the next one's example.
        """
        found = self._follow(coding, view, most) if self._parts else None
        if found is None:
            elements = _first_elements(coding, view, wanted, most)
            if elements:
                self._parts = [_Run(elements)]
        return found

    def _follow(self, coding: Coding, view: memoryview, most: int) -> Passed | None:
        at = number = last = index = splits = 0
        values: dict[int, Value] = {}
        while index < len(self._parts) and at < len(view):
            part = self._parts[index]
            if isinstance(part, _Run):
                if not part.begins(view, at):
                    splits += 1
                    if splits > _MOST_DIFFERENCES or not self._split(index, part, coding, view[at:]):
                        return None
                    continue
                for (tag, vr), raw in zip(part.wanted, part.values_of(view, at), strict=True):
                    values[tag] = vr, raw
                at += part.size
                number += len(part.elements)
                last = part.elements[-1].tag
            else:
                element = ordinary_element(coding, view, at)
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

    def _split(self, index: int, run: _Run, coding: Coding, view: memoryview) -> bool:
        """Split a run at the first element that has another length here; give whether it is that which differs."""
        at = 0
        for place, element in enumerate(run.elements):
            body = at + len(element.header)
            if view[at:body] != element.header:
                found = ordinary_element(coding, view, at)
                if found is None or found[:2] != (element.tag, element.vr):
                    return False
                halves = run.elements[:place], run.elements[place + 1 :]
                before, behind = ([_Run(half)] if half else [] for half in halves)
                self._parts[index : index + 1] = [*before, element, *behind]
                return True
            at = body + element.size
        return False  # It ends inside the last one.


class Models:
    """Models by who sends what; beyond a bound, the one that was used longest ago is forgotten."""

    def __init__(self) -> None:
        self._models: OrderedDict[Hashable, Model] = OrderedDict()

    def of(self, key: Hashable) -> Model:
        """Give the model of a key."""
        model = self._models.pop(key, None) or Model()
        self._models[key] = model
        if len(self._models) > _MOST_MODELS:
            self._models.popitem(last=False)
        return model


def _first_elements(coding: Coding, view: memoryview, wanted: Collection[int], most: int) -> list[_Element]:
    """Take the first elements of a data set; none where `view` ends among them, as the next one may show more."""
    elements: list[_Element] = []
    at, last = 0, -1
    while (element := ordinary_element(coding, view, at)) is not None:
        tag, vr, body, end = element
        if tag <= last or (tag in wanted and end - body > most):
            break
        if tag < _PIXELS and end > min(len(view), _MOST_BYTES):
            break
        if len(elements) == _MOST_ELEMENTS:
            return elements
        elements.append(_Element(tag, vr, bytes(view[at:body]), end - body, tag in wanted))
        if tag >= _PIXELS:
            return elements
        at, last = end, tag
    return [] if _is_cut(coding, view, at) else elements


def _is_cut(coding: Coding, view: memoryview, at: int) -> bool:
    """Tell whether the element at `at` was left out because `view` ends before it does."""
    if len(view) >= _MOST_BYTES or at == len(view):
        return False
    element = ordinary_element(coding, view, at)
    return len(view) - at < LONG_HEADER or (element is not None and element[0] < _PIXELS and element[3] > len(view))

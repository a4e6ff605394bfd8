"""A walk by example: a data set that is built like the last one is not walked element by element.

The instances of a series have the same elements in the same order, and most of their values have the same length. So
the headers of one are compared with those of the last one, all at once, as one long number under a mask. Where they
are the same, every element is where it was. Where a header differs by its length alone, the comparison goes on behind
that element. Nothing is assumed: every byte of every header is compared, and of such elements only of which the walk
would have nothing to say but where they end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dicomport.archive.elements import LONG_HEADER, Coding, Passed, Value, ordinary_element

__all__ = ["Model", "Models"]

_PIXELS: Final = 0x7FE00000
_MOST_BYTES: Final = 1 << 16
"""How much of a data set is compared, bytes. Beyond that, and from the pixels on, it is walked."""
_MOST_DIFFERENCES: Final = 32
"""Values whose length may differ before it is as cheap to walk."""
_MOST_MODELS: Final = 64
_NO_MOVE: Final = (_MOST_BYTES, 0)


@dataclass(frozen=True, slots=True)
class _Example:
    """The first elements of a data set."""

    starts: list[int]
    """Where each begins."""
    kinds: list[tuple[int, bytes]]
    """Its tag and VR."""
    wanted: list[tuple[int, int, bytes, int, int]]
    """Of those that are wanted: which they are, tag and VR, and where their values begin and end."""
    end: int
    mask: int
    """A number, its lowest byte the first of the data set, with FFH for each byte of a header."""
    headers: int
    """The data set under the mask."""


class Model:
    """What the last data set was built like."""

    __slots__ = ("_example",)

    def __init__(self) -> None:
        self._example: _Example | None = None

    def passed(self, coding: Coding, view: memoryview, wanted: Collection[int], most: int) -> Passed | None:
        """Find the first elements of a data set, if it is built like the last one, and all of them are in `view`.

        No wanted value has more than `most` bytes. Where nothing is found, this data set is the next one's example.
        """
        if self._example is not None:
            found = _follow(self._example, coding, view, most)
            if found is not None:
                return found
        self._example = _example(coding, view, wanted, most) or self._example
        return None


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


def _example(coding: Coding, view: memoryview, wanted: Collection[int], most: int) -> _Example | None:
    """Take the first elements of a data set; None where `view` ends among them, as the next one may show more."""
    starts: list[int] = []
    kinds: list[tuple[int, bytes]] = []
    found: list[tuple[int, int, bytes, int, int]] = []
    size = min(len(view), _MOST_BYTES)
    mask = bytearray(size)
    at, last = 0, -1
    while (element := ordinary_element(coding, view, at)) is not None:
        tag, vr, body, end = element
        if tag <= last or tag >= _PIXELS or end > size or (tag in wanted and end - body > most):
            break
        if tag in wanted:
            found.append((len(starts), tag, vr, body, end))
        starts.append(at)
        kinds.append((tag, vr))
        mask[at:body] = b"\xff" * (body - at)
        at, last = end, tag
    if at == 0 or _is_cut(coding, view, at):
        return None
    covered = int.from_bytes(mask[:at], "little")
    return _Example(starts, kinds, found, at, covered, covered & int.from_bytes(view[:at], "little"))


def _is_cut(coding: Coding, view: memoryview, at: int) -> bool:
    """Tell whether the element at `at` was left out because `view` ends before it does."""
    if len(view) >= _MOST_BYTES or at == len(view):
        return False
    element = ordinary_element(coding, view, at)
    return len(view) - at < LONG_HEADER or (element is not None and element[0] < _PIXELS and element[3] > len(view))


def _follow(example: _Example, coding: Coding, view: memoryview, most: int) -> Passed | None:
    """Pass over the first elements of a data set that is built like the example, but for the length of some values."""
    at = index = 0
    moves: list[tuple[int, int]] = []
    resized: dict[int, tuple[int, int]] = {}
    for _ in range(_MOST_DIFFERENCES):
        start = example.starts[index] if index < len(example.starts) else example.end
        there = view[at : at + example.end - start]
        if len(there) < example.end - start:
            return None
        moves.append((index, at - start))
        differs = int.from_bytes(there, "little") & example.mask >> 8 * start ^ example.headers >> 8 * start
        if not differs:
            end = at + len(there)
            values = _values(example, bytes(view[:end]), moves, resized)
            return Passed(end, example.kinds[-1][0], len(example.kinds), values)
        # The lowest bit that differs tells the first header that does.
        first = start + ((differs & -differs).bit_length() - 1 >> 3)
        index = bisect_right(example.starts, first) - 1
        element = ordinary_element(coding, view, example.starts[index] + at - start)
        if element is None:
            return None
        tag, vr, body, at = element
        if (tag, vr) != example.kinds[index] or at - body > most or at > len(view):
            return None
        resized[index] = body, at
        index += 1
    return None


def _values(
    example: _Example, data: bytes, moves: Sequence[tuple[int, int]], resized: Mapping[int, tuple[int, int]]
) -> dict[int, Value]:
    """Cut out the wanted values. A move says from which element on all is how many bytes further on."""
    values: dict[int, Value] = {}
    later = iter(moves[1:])
    by = 0
    following, then_by = next(later, _NO_MOVE)
    for index, tag, vr, body, end in example.wanted:
        while following <= index:
            by = then_by
            following, then_by = next(later, _NO_MOVE)
        first, last = resized.get(index) or (body + by, end + by)
        values[tag] = Value(vr, data[first:last])
    return values

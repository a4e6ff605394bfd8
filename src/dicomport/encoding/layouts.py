"""Elements that lie as those of an example did: cut by one call, and known by one comparison for what they are.

The commands of an association repeat a few layouts, and so does the File Meta Information of a series. To walk over
them element by element takes ten times as long.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable, Sequence
from typing import Final, Generic, TypeVar

__all__ = ["Layout", "Layouts"]

_MAX_ELEMENTS: Final = 32
"""No command has more, and hardly any File Meta Information."""
_MAX_LAYOUTS: Final = 128
"""They differ with the lengths of the UIDs."""

K = TypeVar("K", bound=Hashable)
N = TypeVar("N", bound=Hashable)


class Layout(Generic[N]):
    """Where the elements are, and what their headers look like."""

    __slots__ = ("_cut", "_headers", "_names", "size")

    def __init__(self, elements: Sequence[tuple[N, bytes, int]]) -> None:
        """Take what each element is called, its header, and the length of its value."""
        self._names = tuple(name for name, _, _ in elements)
        self._headers = tuple(header for _, header, _ in elements)
        layout = struct.Struct("".join(f"{len(header)}s{length}s" for _, header, length in elements))
        self._cut = layout.unpack_from
        self.size = layout.size
        """Length of all of it, bytes."""

    def values(self, data: bytes, at: int = 0) -> dict[N, bytes] | None:
        """Cut the values out of data, which has `size` bytes from `at` on; None where other elements are there."""
        pieces = self._cut(data, at)
        return dict(zip(self._names, pieces[1::2], strict=True)) if pieces[::2] == self._headers else None


class Layouts(Generic[K, N]):
    """The layouts that were met, each by what lets expect it."""

    def __init__(self) -> None:
        self._layouts: dict[K, Layout[N]] = {}
        self.get = self._layouts.get

    def add(self, key: K, elements: Sequence[tuple[N, bytes, int]]) -> None:
        """Take an example, as `Layout` has it."""
        if len(elements) <= _MAX_ELEMENTS:
            if len(self._layouts) >= _MAX_LAYOUTS:
                self._layouts.clear()
            self._layouts[key] = Layout(elements)

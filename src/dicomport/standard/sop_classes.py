"""The storage SOP classes (PS3.4 Annex B, PS3.6 Table A-1), two misprinted UIDs, and private classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicomport.standard._tables import MISPRINTED_UIDS, OTHER_UIDS, SOP_CLASSES
from dicomport.standard.uids import MAX_UID_LENGTH
from dicomport.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator


@frozen
class SOPClass:
    """A storage SOP class.

    `keyword` and `name` are from PS3.6, `iod` is the annex of PS3.3 with its information object, if known, and
    `aliases` are keywords from other documentation.
    """

    uid: str
    keyword: str
    name: str
    iod: str | None = None
    retired: bool = False
    aliases: tuple[str, ...] = ()


class SOPClasses:
    """A registry of storage SOP classes: PS3.6's, and the private ones that are registered with it.

    A class is an attribute by its keyword or alias (`sop_classes.CTImageStorage`). Iteration is in the order of UIDs,
    private classes last; `in` accepts a UID, but not a misprinted one.
    """

    __slots__ = ("_by_name", "_by_uid")

    def __init__(self) -> None:
        self._by_uid = {row[0]: SOPClass(*row) for row in SOP_CLASSES}
        self._by_name = {name: found for found in self for name in (found.keyword, *found.aliases)}

    def __getattr__(self, name: str) -> SOPClass:
        # Called for all other names; before __init__ (copy, pickle) for our own slots too.
        if not name.startswith("_") and (found := self._by_name.get(name)):
            return found
        message = f"{name!r} is not a keyword of a storage SOP class; register a private class first"
        raise AttributeError(message, name=name, obj=self)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(found.keyword for found in self)]

    def __iter__(self) -> Iterator[SOPClass]:
        return iter(self._by_uid.values())

    def __len__(self) -> int:
        return len(self._by_uid)

    def __contains__(self, uid: object) -> bool:
        return uid in self._by_uid

    def find(self, text: str) -> SOPClass | None:
        """Return the class with this UID (a misprinted one too), keyword or alias; None for an unknown one."""
        return self._by_uid.get(text) or self._by_name.get(text) or self.misprint_of(text)

    def misprint_of(self, uid: str) -> SOPClass | None:
        """Return the class with the known misprint `uid`; None for any other UID, the correct one too."""
        correct = MISPRINTED_UIDS.get(uid)
        return None if correct is None else self._by_uid[correct]

    def is_storage(self, uid: str) -> bool:
        """Return whether `uid` is a registered UID or a known misprint of one."""
        return uid in self._by_uid or uid in MISPRINTED_UIDS

    def known_as_other(self, uid: str) -> str | None:
        """Return the name in PS3.6 of a UID that is not a storage SOP class, such as Verification or a transfer syntax.

        Return None for one that may be a storage class: a known, a private or a future one.
        """
        return OTHER_UIDS.get(uid)

    def describe(self, uid: str) -> str:
        """Return the name of any UID for a message; an unknown UID is returned as it is, unescaped."""
        if wrong := self.misprint_of(uid):
            return f"{wrong.name} (misprinted UID)"
        found = self._by_uid.get(uid)
        return found.name if found else OTHER_UIDS.get(uid, uid)

    def register(self, uid: str, keyword: str, name: str = "") -> SOPClass:
        """Add a private storage SOP class and return it; `name` defaults to the keyword.

        Raises `ValueError` for an invalid UID (PS3.5 9.1), for a keyword that is not a Python identifier, and if either
        is already registered.
        """
        if not _is_uid(uid):
            raise ValueError(f"{uid!r} is not a valid UID (PS3.5 9.1)")
        if self.is_storage(uid) or self.known_as_other(uid):
            raise ValueError(f"{uid} is already registered: {self.describe(uid)}")
        if not keyword.isidentifier() or keyword.startswith("_") or hasattr(SOPClasses, keyword):
            raise ValueError(f"{keyword!r} is not a valid keyword; expected a Python identifier")
        if keyword in self._by_name:
            raise ValueError(f"{keyword} is already registered: {self._by_name[keyword].uid}")
        new = self._by_uid[uid] = self._by_name[keyword] = SOPClass(uid, keyword, name or keyword)
        return new


def _is_uid(text: str) -> bool:
    """Return whether a text is a UID: numbers without leading zeros, separated by dots (PS3.5 9.1).

    The root is 0, 1 or 2 and has at least one number below it (ISO/IEC 9834-1).
    """
    root, *rest = text.split(".")
    return (
        len(text) <= MAX_UID_LENGTH
        and root in {"0", "1", "2"}
        and bool(rest)
        and all(part.isascii() and part.isdecimal() and (part == "0" or part[0] != "0") for part in rest)
    )


sop_classes = SOPClasses()
"""The default registry."""


def describe(uid: str) -> str:
    """Return the name of any UID for a message; an unknown UID is returned as it is, unescaped."""
    return sop_classes.describe(uid)

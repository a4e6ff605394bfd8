"""The status of a DIMSE response (PS3.7 Annex C) and of the Storage Service (PS3.4 B.2.3)."""

from __future__ import annotations

import enum
import functools

from dicomport.standard._tables import STATUSES
from dicomport.values import frozen

_COMMENT_LENGTH = 64  # of a LO (PS3.5 6.2)


class Category(enum.Enum):
    """The classes of status (PS3.7 Annex C)."""

    SUCCESS = "Success"
    WARNING = "Warning"
    FAILURE = "Failure"
    CANCEL = "Cancel"
    PENDING = "Pending"


_ACCEPTED = (Category.SUCCESS, Category.WARNING)


@frozen
class Status:
    """A status: Status (0000,0900), Error Comment (0000,0902) and the tags of Offending Element (0000,0901).

    The comment may be any text. It is kept as the peer can receive it, as an LO (PS3.5 6.2) in the default repertoire,
    the only one of a command set: trimmed, at most 64 characters, "?" for each backslash, control character and
    non-ASCII character. Raises `ValueError` for a code above 16 bits and a tag above 32 bits.
    """

    code: int
    comment: str = ""
    offending: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.code <= 0xFFFF:
            raise ValueError(f"invalid status {self.code}; expected 0 to 0xFFFF")
        if not all(0 <= tag <= 0xFFFFFFFF for tag in self.offending):
            raise ValueError(f"invalid tags {self.offending}; expected 0 to 0xFFFFFFFF")
        text = str(self.comment).strip()[:_COMMENT_LENGTH].rstrip()
        plain = "".join(char if _is_sendable(char) else "?" for char in text)
        object.__setattr__(self, "comment", plain)

    @property
    def category(self) -> Category:
        """The class of the status; an unknown code is a failure."""
        return _look_up(self.code)[0]

    @property
    def meaning(self) -> str:
        """The meaning of the code, in a few words."""
        return _look_up(self.code)[1]

    @property
    def source(self) -> str:
        """The clause that defines the code ("PS3.4 B.2.3"), or "dicomport"."""
        return _look_up(self.code)[2]

    @property
    def accepted(self) -> bool:
        """Whether the peer has performed the operation: Success or Warning."""
        return _look_up(self.code)[0] in _ACCEPTED

    def __int__(self) -> int:
        return self.code

    def __str__(self) -> str:
        told = f"0x{self.code:04X} {self.category.value}: {self.meaning}"
        return f"{told} ({self.comment})" if self.comment else told


def _is_sendable(char: str) -> bool:
    return " " <= char <= "~" and char != "\\"


@functools.lru_cache(maxsize=64)
def _look_up(code: int) -> tuple[Category, str, str]:
    """Return category, meaning and source of a code; the last row of the table matches every code."""
    return next((Category(row[2]), row[3], row[4]) for row in STATUSES if row[0] <= code <= row[1])


SUCCESS = Status(0x0000)
PROCESSING_FAILURE = Status(0x0110)
TOO_MANY_DUPLICATES = Status(0x0111, "too many instances with this UID are already stored")
NO_SUCH_SOP_INSTANCE = Status(0x0112)
NO_SUCH_EVENT_TYPE = Status(0x0113)
INVALID_ARGUMENT_VALUE = Status(0x0115)
INVALID_OBJECT_INSTANCE = Status(0x0117)
NO_SUCH_SOP_CLASS = Status(0x0118)
CLASS_INSTANCE_CONFLICT = Status(0x0119)
MISSING_ATTRIBUTE = Status(0x0120)
MISSING_ATTRIBUTE_VALUE = Status(0x0121)
SOP_CLASS_NOT_SUPPORTED = Status(0x0122)
NO_SUCH_ACTION = Status(0x0123)
NOT_AUTHORIZED = Status(0x0124)
DUPLICATE_TRANSACTION_UID = Status(0x0131)
DUPLICATE_INVOCATION = Status(0x0210)
UNRECOGNIZED_OPERATION = Status(0x0211)
MISTYPED_ARGUMENT = Status(0x0212)
RESOURCE_LIMITATION = Status(0x0213)
OUT_OF_RESOURCES = Status(0xA700)
DATA_SET_DOES_NOT_MATCH = Status(0xA900)
COERCION = Status(0xB000)
ELEMENTS_DISCARDED = Status(0xB006)
DATA_SET_DOES_NOT_MATCH_WARNING = Status(0xB007)
CANNOT_UNDERSTAND = Status(0xC000)
HANDLER_STATUS_MISSING = Status(0xC001)
HANDLER_STATUS_INVALID = Status(0xC002)
UNDECODABLE_DATA_SET = Status(0xC210)
HANDLER_RAISED = Status(0xC211)

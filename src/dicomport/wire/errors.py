"""The exceptions of encoding and decoding; `dicomport.errors` has the whole tree.

Decoding raises only `ProtocolError`: any other exception of this package is a defect.
"""

from __future__ import annotations

import enum
from typing import TypeVar

from dicomport.errors import DicomportError

ErrorT = TypeVar("ErrorT", bound=Exception)


class AbortReason(enum.Enum):
    """Source and reason of an A-ABORT, as the valid pairs (PS3.8 9.3.8, Table 9-26).

    The reason is significant for the service-provider only; for the service-user it is always 0.
    """

    SERVICE_USER = (0, 0)
    NOT_SPECIFIED = (2, 0)
    UNRECOGNIZED_PDU = (2, 1)
    UNEXPECTED_PDU = (2, 2)
    UNRECOGNIZED_PDU_PARAMETER = (2, 4)
    UNEXPECTED_PDU_PARAMETER = (2, 5)
    INVALID_PDU_PARAMETER_VALUE = (2, 6)

    @property
    def source(self) -> int:
        """0 for the DICOM UL service-user, 2 for the DICOM UL service-provider."""
        return self.value[0]

    @property
    def reason(self) -> int:
        """The reason/diagnostic field."""
        return self.value[1]

    @property
    def meaning(self) -> str:
        """The description of the pair."""
        if self.source == 0:
            return "service-user"
        return f"service-provider: {self.name.lower().replace('_', ' ')}"


class ProtocolError(DicomportError):
    """The peer violated the protocol.

    `reason` is the reason of the A-ABORT (PS3.8 9.3.8). The message is for the local log and is never sent.
    """

    def __init__(self, message: str, reason: AbortReason = AbortReason.INVALID_PDU_PARAMETER_VALUE) -> None:
        super().__init__(message)
        self.reason = reason


class LimitExceededError(ProtocolError):
    """The peer exceeds `limit`, a field of `ProtocolLimits` or of the receiver's `Limits`; the message names it."""

    def __init__(self, message: str, limit: str) -> None:
        super().__init__(f"{message} (limit {limit})")
        self.limit = limit


class EncodeError(DicomportError, ValueError):
    """A value is outside the range of its field and cannot be encoded."""


def strip_traceback(error: ErrorT) -> ErrorT:
    """Return the error without its traceback and previous errors, so that it can be stored.

    The frames of a traceback refer to the object that stores the error: a reference cycle, which keeps memory of
    hostile peers until the garbage collector runs.
    """
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)

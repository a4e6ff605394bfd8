"""The exceptions of encoding and decoding; `dicomport.errors` has the whole tree.

Decoding raises `ProtocolError` and nothing else: any other exception out of this room is a defect in dicomport.
"""

from __future__ import annotations

import enum
from typing import TypeVar

__all__ = ["AbortReason", "EncodeError", "LimitExceededError", "ProtocolError", "strip_traceback"]
from dicomport.errors import DicomportError

ErrorT = TypeVar("ErrorT", bound=Exception)


class AbortReason(enum.Enum):
    """Source and reason of an A-ABORT (PS3.8 9.3.8, Table 9-26), as the only pairs there are.

    The reason is significant for the service-provider alone; for the service-user it is always zero.
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
        """The pair in words."""
        who = "service-user" if self.source == 0 else "service-provider"
        return f"{who}: {self.name.lower().replace('_', ' ')}" if self.source else who


class ProtocolError(DicomportError):
    """The peer violated the protocol.

    `reason` is what the A-ABORT says (PS3.8 9.3.8). The message is for the local log; it never goes to the peer.
    """

    def __init__(self, message: str, reason: AbortReason = AbortReason.INVALID_PDU_PARAMETER_VALUE) -> None:
        super().__init__(message)
        self.reason = reason


class LimitExceededError(ProtocolError):
    """The peer asks for more than `limit` allows, a field of `ProtocolLimits`."""

    def __init__(self, message: str, limit: str) -> None:
        super().__init__(message)
        self.limit = limit


class EncodeError(DicomportError, ValueError):
    """A value that the standard's field can't hold was to be written."""


def strip_traceback(error: ErrorT) -> ErrorT:
    """Make an error fit to be kept: forget the frames that it has passed through, and the errors before it.

    In those frames is whatever keeps it: they would hold on to one another until the garbage collector comes, and what
    hostile peers left would pile up.
    """
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)

"""Results of sending: the response to one C-STORE request, the result of one instance, and how long each step took."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from dicomport.standard import Category, Status
from dicomport.values import frozen, slotted
from dicomport.wire import Deviation

Facts: TypeAlias = "dict[str, str | int | float | bool | list[str] | None]"


@frozen
class StoreResponse:
    """The peer's response to a C-STORE request (PS3.7 9.1.1)."""

    sop_instance_uid: str
    """SOP Instance UID of the instance that was sent."""
    status: Status
    """The status, with Error Comment and Offending Element if the peer sent them."""

    @property
    def accepted(self) -> bool:
        """Whether the peer accepted the instance: the status is a success or a warning."""
        return self.status.accepted

    @property
    def category(self) -> Category:
        """The category of the status."""
        return self.status.category

    @property
    def error_comment(self) -> str:
        """Error Comment (0000,0902); empty if the peer sent none."""
        return self.status.comment


@frozen(kw_only=True)
class InstanceResult:
    """The result of one file or data set."""

    name: str = ""
    """The instance's name, as `Instance.name`; empty for a data set in memory."""
    sop_class_uid: str = ""
    """SOP Class UID; empty, like the other UIDs, if the file holds no instance."""
    sop_instance_uid: str = ""
    transfer_syntax_uid: str = ""
    """The transfer syntax in which the instance was sent, or would have been sent."""
    converted_from: str = ""
    """The transfer syntax of the file, if the instance was converted; otherwise empty."""
    deviations: tuple[Deviation, ...] = ()
    """The tolerated deviations of the file from the standard."""
    size: int = 0
    """Length of the data set, bytes."""
    status: Status | None = None
    """The status of the peer's response; None without a response."""
    reason: str = ""
    """The reason for the failure, or the peer's warning; empty for a success without a warning."""
    skipped: bool = False
    """Whether the file was found in a folder or an archive, but is not an instance, such as a text: no failure."""
    association: int = 0
    """Number of the association that sent the instance last, counted from 1 in each run; 0 if none did."""
    context_id: int = 0
    """Presentation context ID of the instance on that association."""
    attempts: int = 0
    """Number of times that the instance was sent."""
    seconds: float = 0.0
    """Time from the first byte of the last request to its response."""
    earlier: bool = False
    """Whether the journal shows that the peer accepted the instance in an earlier run: it was not sent again."""

    @property
    def path(self) -> Path | None:
        """The name as a path; None for a data set in memory."""
        return Path(self.name) if self.name else None

    @property
    def accepted(self) -> bool:
        """Whether the peer accepted the instance: the status is a success or a warning."""
        return self.status is not None and self.status.accepted

    def describe(self) -> Facts:
        """Return all fields as plain values, with the keys of a report's JSON."""
        status = self.status
        return {
            "path": self.name or None,
            "sop_class_uid": self.sop_class_uid,
            "sop_instance_uid": self.sop_instance_uid,
            "transfer_syntax_uid": self.transfer_syntax_uid,
            "converted_from": self.converted_from,
            "deviations": [deviation.value for deviation in self.deviations],
            "size": self.size,
            "accepted": self.accepted,
            "status": None if status is None else status.code,
            "category": None if status is None else status.category.value,
            "meaning": None if status is None else status.meaning,
            "error_comment": "" if status is None else status.comment,
            "reason": self.reason,
            "skipped": self.skipped,
            "association": self.association,
            "context_id": self.context_id,
            "attempts": self.attempts,
            "milliseconds": round(self.seconds * 1000, 3),
            "earlier": self.earlier,
        }


@slotted
class Timing:
    """Time that an association spent on each step, seconds."""

    reading: float = 0.0
    """Reading instances from disk."""
    sending: float = 0.0
    """Sending their bytes: limited by the network, or by a peer that reads slowly."""
    waiting: float = 0.0
    """Waiting for the peer's responses."""

    def __add__(self, other: Timing) -> Timing:
        return Timing(self.reading + other.reading, self.sending + other.sending, self.waiting + other.waiting)

"""The data sets of storage commitment: the request, and the result (PS3.4 J.3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Self

from dicomport.encoding.datasets import DataSetReader, DataSetWriter, Span
from dicomport.encoding.errors import DataSetError, DataSetTooLongError
from dicomport.encoding.headers import format_tag
from dicomport.errors import DicomportError
from dicomport.standard import (
    INVALID_ARGUMENT_VALUE,
    MISSING_ATTRIBUTE,
    MISSING_ATTRIBUTE_VALUE,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    Status,
    looks_like_uid,
)
from dicomport.values import frozen

_REFERENCED_SOP_CLASS_UID: Final = 0x00081150
_REFERENCED_SOP_INSTANCE_UID: Final = 0x00081155
_TRANSACTION_UID: Final = 0x00081195
_FAILURE_REASON: Final = 0x00081197
_FAILED_SOP_SEQUENCE: Final = 0x00081198
_REFERENCED_SOP_SEQUENCE: Final = 0x00081199


class CommitmentDataSetError(DicomportError, ValueError):
    """An invalid or incomplete data set; `status` is the status of the response to its request."""

    def __init__(self, status: Status, problem: str) -> None:
        super().__init__(problem)
        self.status = Status(status.code, problem)


@frozen
class SOPReference:
    """One SOP Instance by its UIDs (PS3.3 Table 10-11)."""

    sop_class_uid: str
    sop_instance_uid: str


@frozen
class CommitmentRequest:
    """The Action Information (PS3.4 Table J.3-1): the instances that an archive is requested to commit."""

    transaction_uid: str
    references: tuple[SOPReference, ...]

    def encode(self, transfer_syntax_uid: str) -> bytes:
        """Encode the data set."""
        writer = DataSetWriter(transfer_syntax_uid)
        return writer.finish(
            writer.uid(_TRANSACTION_UID, self.transaction_uid),
            writer.sequence(_REFERENCED_SOP_SEQUENCE, (_item(writer, reference) for reference in self.references)),
        )

    @classmethod
    def decode(cls, data: bytes, transfer_syntax_uid: str, max_bytes: int) -> Self:
        """Decode the data set, inflated to at most `max_bytes`. Raises `CommitmentDataSetError`."""
        reader = _Reader(data, transfer_syntax_uid, max_bytes)
        uid = reader.uid(reader.top, _TRANSACTION_UID)
        references = tuple(reader.reference(item) for item in reader.sequence(_REFERENCED_SOP_SEQUENCE))
        if not references:
            status = MISSING_ATTRIBUTE_VALUE if _REFERENCED_SOP_SEQUENCE in reader.top else MISSING_ATTRIBUTE
            raise CommitmentDataSetError(status, "no SOP Instance is referenced")
        return cls(uid, references)


@frozen
class CommitmentResult:
    """The Event Information (PS3.4 Table J.3-2): the committed and the failed instances."""

    transaction_uid: str
    committed: tuple[SOPReference, ...]
    failed: tuple[tuple[SOPReference, Status], ...]
    """Each with the Failure Reason (PS3.3 C.14.1.1), which has the values of a status."""

    def encode(self, transfer_syntax_uid: str) -> bytes:
        """Encode the data set, without empty sequences."""
        writer = DataSetWriter(transfer_syntax_uid)
        parts = [writer.uid(_TRANSACTION_UID, self.transaction_uid)]
        if self.failed:
            items = (
                _item(writer, reference) + writer.number(_FAILURE_REASON, status.code)
                for reference, status in self.failed
            )
            parts.append(writer.sequence(_FAILED_SOP_SEQUENCE, items))
        if self.committed:
            items = (_item(writer, reference) for reference in self.committed)
            parts.append(writer.sequence(_REFERENCED_SOP_SEQUENCE, items))
        return writer.finish(*parts)

    @classmethod
    def decode(cls, data: bytes, transfer_syntax_uid: str, max_bytes: int) -> Self:
        """Decode the data set, inflated to at most `max_bytes`. Raises `CommitmentDataSetError`."""
        reader = _Reader(data, transfer_syntax_uid, max_bytes)
        return cls(
            reader.uid(reader.top, _TRANSACTION_UID),
            tuple(reader.reference(item) for item in reader.sequence(_REFERENCED_SOP_SEQUENCE)),
            tuple((reader.reference(item), reader.reason(item)) for item in reader.sequence(_FAILED_SOP_SEQUENCE)),
        )


def _item(writer: DataSetWriter, reference: SOPReference) -> bytes:
    return writer.uid(_REFERENCED_SOP_CLASS_UID, reference.sop_class_uid) + writer.uid(
        _REFERENCED_SOP_INSTANCE_UID, reference.sop_instance_uid
    )


class _Reader:
    """Reads attributes. Raises `CommitmentDataSetError` with the status for a missing or invalid one."""

    def __init__(self, data: bytes, transfer_syntax_uid: str, max_bytes: int) -> None:
        try:
            self._reader = DataSetReader(data, transfer_syntax_uid, max_bytes)
            self.top = self._reader.elements(self._reader.whole)
        except DataSetTooLongError as error:
            raise CommitmentDataSetError(RESOURCE_LIMITATION, str(error)) from None
        except DataSetError as error:
            raise CommitmentDataSetError(INVALID_ARGUMENT_VALUE, f"invalid data set: {error}") from None

    def sequence(self, tag: int) -> Iterator[dict[int, Span]]:
        """Yield the items one by one: those of a long sequence take many times its length."""
        if tag not in self.top:
            return
        try:
            for item in self._reader.items(self.top[tag]):
                yield self._reader.elements(item)
        except DataSetError as error:
            raise CommitmentDataSetError(INVALID_ARGUMENT_VALUE, f"{format_tag(tag)}: {error}") from None

    def reference(self, item: dict[int, Span]) -> SOPReference:
        return SOPReference(
            self.uid(item, _REFERENCED_SOP_CLASS_UID),
            self.uid(item, _REFERENCED_SOP_INSTANCE_UID),
        )

    def uid(self, elements: dict[int, Span], tag: int) -> str:
        if tag not in elements:
            raise CommitmentDataSetError(MISSING_ATTRIBUTE, f"{format_tag(tag)} is missing")
        uid = self._reader.value(elements[tag]).decode("latin-1").strip("\0 ")
        if not uid:
            raise CommitmentDataSetError(MISSING_ATTRIBUTE_VALUE, f"{format_tag(tag)} is empty")
        if not looks_like_uid(uid):
            raise CommitmentDataSetError(INVALID_ARGUMENT_VALUE, f"{format_tag(tag)} is not a UID")
        return uid

    def reason(self, item: dict[int, Span]) -> Status:
        # Each item of this sequence has failed, even with an unknown or missing reason.
        code = self._reader.number(item[_FAILURE_REASON]) if _FAILURE_REASON in item else None
        return Status(code) if code else PROCESSING_FAILURE

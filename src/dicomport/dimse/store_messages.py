"""C-STORE messages of one association by example: bytes of earlier ones, with another Message ID and SOP Instance UID.

Theory of operation
-------------------
The C-STORE-RQs of one presentation context differ in their Message ID and SOP Instance UID only, and so do the
responses of success. `StoreMessages` encodes one request for each length of the UID with the general encoder and keeps
the bytes around both values. It learns the bytes of a response from one that the general decoder has read, if nothing
about it is unusual. A response that differs in any other byte does not match, and belongs to the general decoder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from dicomport.core import AcceptedContext, Association
from dicomport.wire import (
    COMMAND,
    LAST,
    P_DATA_HEADERS,
    Buffer,
    CStoreRQ,
    CStoreRSP,
    Deviation,
    Element,
    PDataTF,
    decode_command,
    find_value,
)

HEADER_BYTES: Final = P_DATA_HEADERS.size
"""Length of the headers of a P-DATA-TF and its PDV."""

_ID_BYTES: Final = 2
_MAX_SHAPES: Final = 256
"""Limit of the examples of each kind; beyond it, all are dropped."""
_MAX_RESPONSE_BYTES: Final = 1024
"""Length of the longest response that is learned; those of success have some 150 bytes."""


class ResponseShape(NamedTuple):
    """Responses of success of one presentation context and length."""

    size: int
    """Length of the whole PDU, bytes."""
    before_id: bytes
    """The bytes of the PDU before the Message ID Being Responded To."""
    after_id: bytes
    """The bytes after it, up to the SOP Instance UID or to the end."""
    has_uid: bool
    """Whether the response ends with the SOP Instance UID, which is optional."""

    id_at: int
    """Offset of the Message ID."""

    def matches(self, pdu: bytes, uid: bytes) -> bool:
        """Return whether a PDU is the response of success to the request with this encoded SOP Instance UID."""
        at = self.id_at
        parts = self.before_id, pdu[at : at + _ID_BYTES], self.after_id, uid if self.has_uid else b""
        return pdu == b"".join(parts)


class RequestShape(NamedTuple):
    """Requests of one presentation context and one length of the SOP Instance UID."""

    context: AcceptedContext
    before_id: bytes
    """The bytes of the PDU before the Message ID."""
    after_id: bytes
    """The bytes after it, up to the SOP Instance UID, with which the PDU ends."""


class StoreMessages:
    """The C-STORE messages of one association. All requests have one priority."""

    def __init__(self, core: Association, priority: int) -> None:
        self.responses: dict[bytes, ResponseShape] = {}
        """The learned responses by the headers of their PDU."""
        self._core = core
        self._priority = priority
        self._requests: dict[tuple[int, int], RequestShape | None] = {}
        self._headers: dict[tuple[int, int], tuple[Sequence[Buffer], int]] = {}
        """The headers of the PDUs of a data set and the length of all fragments but the last, by context and length."""

    def request_shape(self, context: AcceptedContext, uid: bytes) -> RequestShape | None:
        """Return the shape of a request with this encoded SOP Instance UID; None if only the general encoder has it."""
        key = context.context_id, len(uid)
        return self._requests[key] if key in self._requests else self._learn_request(key, context, uid)

    def encode(self, shape: RequestShape, message_id: int, uid: bytes, data: memoryview) -> list[Buffer]:
        """Return a request with its data set, of an even length above 0, as a gather list."""
        context_id, size = shape.context.context_id, len(data)
        headers, step = self._headers.get((context_id, size)) or self._split(context_id, data)
        encoded_id = message_id.to_bytes(_ID_BYTES, "little")
        command = b"".join((shape.before_id, encoded_id, shape.after_id, uid, headers[0]))
        if size <= step:
            return [command, data]
        parts: list[Buffer] = [command, data[:step]]
        for number in range(1, len(headers)):
            parts += headers[number], data[number * step : (number + 1) * step]
        return parts

    def learn_response(self, context: AcceptedContext, uid: bytes) -> None:
        """Learn from the last message received, the response to the request with this encoded SOP Instance UID."""
        command = self._core.last_command
        found = find_value(command, Element.MESSAGE_ID_BEING_RESPONDED_TO)
        if found is None or len(command) > _MAX_RESPONSE_BYTES or not self._is_plain_success(command):
            return
        place = find_value(command, Element.AFFECTED_SOP_INSTANCE_UID)
        if place is None:
            after_id = command[found.stop :]
        elif command[place.start :] == uid:
            after_id = command[found.stop : place.start]
        else:
            return
        size = len(command)
        headers = P_DATA_HEADERS.pack(PDataTF.KIND, size + 6, size + 2, context.context_id, COMMAND | LAST)
        if len(self.responses) >= _MAX_SHAPES:
            self.responses.clear()
        before_id = headers + command[: found.start]
        self.responses[headers] = ResponseShape(
            HEADER_BYTES + size, before_id, after_id, has_uid=place is not None, id_at=len(before_id)
        )

    @staticmethod
    def _is_plain_success(command: bytes) -> bool:
        deviations: Counter[Deviation] = Counter()
        response = decode_command(command, deviations)
        return (
            isinstance(response, CStoreRSP)
            and not (response.status or response.error_comment or response.offending_element)
            and not (response.has_data_set or deviations)
        )

    def _learn_request(self, key: tuple[int, int], context: AcceptedContext, uid: bytes) -> RequestShape | None:
        request = CStoreRQ(
            message_id=1,
            affected_sop_class_uid=context.abstract_syntax,
            affected_sop_instance_uid=uid.decode("ascii").rstrip("\0"),
            priority=self._priority,
        )
        pdu = self._core.encoded(context.context_id, request)
        command = pdu[HEADER_BYTES:]
        found = find_value(command, Element.MESSAGE_ID)
        is_plain = found is not None and pdu.endswith(uid) and P_DATA_HEADERS.unpack_from(pdu)[1] == len(pdu) - 6
        shape = None
        if found is not None and is_plain:
            before, after = pdu[: HEADER_BYTES + found.start], command[found.stop : len(command) - len(uid)]
            shape = RequestShape(context, before, after)
        if len(self._requests) >= _MAX_SHAPES:
            self._requests.clear()
        self._requests[key] = shape
        return shape

    def _split(self, context_id: int, data: memoryview) -> tuple[Sequence[Buffer], int]:
        parts = self._core.split_data(context_id, data)
        found = parts[0::2], len(parts[1])
        if len(self._headers) >= _MAX_SHAPES:
            self._headers.clear()
        self._headers[context_id, len(data)] = found
        return found

"""The straight path: C-STORE messages like the one before, from the socket's bytes to the response, without a wait.

Theory of operation
-------------------
A peer that sends a thousand instances sends the same message a thousand times: a command in one P-DATA-TF that differs
in its Message ID and its SOP Instance UID only, then a data set in P-DATA-TFs of one fragment each. The general path
(framer, assembler, decoder, task) costs the same for each of them. The straight path does the common case alone:

1. `learn` reads a request that the general path has served. If nothing about it is unusual, its bytes before and
   behind the Message ID become a shape, together with the bytes of a response of success.
2. `serve` runs between two messages, in the task that owns the association. The event loop's read callback passes
   the bytes that arrive to `_take`: it compares each command with its shape, passes the fragments of the data set to
   the sink, commits, and sends the responses when all bytes are read. The sink's methods do not wait (`DirectSink`).
3. `serve` returns before anything else, and consumes none of its bytes: another PDU, an odd or short fragment, a
   command without a shape, a sink that has to wait, a refusal, a full socket, a wake-up, a moment of silence. `leave`
   of the core gets the position in PDU and data set, `Begun` has the instance, and the general path continues there.

So the rules of the protocol stand in the general path only, and so does every error. The general path accepts the same
messages with the same results; a property test compares both for any bytes in any pieces. The timers of single waits
belong to the general path as well: none can expire within a moment of silence, except the minimum rate, which is
measured here too.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from dicomport.containment import for_future
from dicomport.core import AcceptedContext
from dicomport.dimse import response_to
from dicomport.net import Connection
from dicomport.scp.requests import StoreOperation
from dicomport.scp.sinks import DirectSink, DirectStorage
from dicomport.scp.store import Begun, StoreService
from dicomport.standard import MAX_UID_LENGTH, PROCESSING_FAILURE, SUCCESS, Status
from dicomport.values import frozen
from dicomport.wire import (
    COMMAND,
    LAST,
    P_DATA_HEADERS,
    Buffer,
    CStoreRQ,
    Deviation,
    Element,
    PDataTF,
    decode_command,
    find_value,
)

_HEADERS: Final = P_DATA_HEADERS.size
_unpack: Final = P_DATA_HEADERS.unpack_from
_P_DATA: Final = PDataTF.KIND
_LAST_COMMAND: Final = COMMAND | LAST
_MESSAGE_ID_BYTES: Final = 2

_MAX_COMMAND_BYTES: Final = 1024
"""Length of the longest command that is compared with a shape; those of C-STORE have some 150 bytes."""

_MIN_FRAGMENT_BYTES: Final = 1024
"""Length of the shortest fragment but the last one: shorter ones belong to the general path, which counts events."""

_MAX_MESSAGES: Final = 128
"""Limit of messages in a read: then other tasks have their turn."""

_MAX_SHAPES: Final = 64
"""Limit of shapes of an association."""


@frozen
class _Shape:
    """The C-STORE-RQs of one presentation context and length that differ in Message ID and SOP Instance UID only."""

    context: AcceptedContext
    sop_class_uid: str
    priority: int
    before_id: bytes
    after_id: bytes
    """From the Message ID to the SOP Instance UID, with which the command ends."""
    response: tuple[bytes, bytes]
    """The same parts of the response of success, from its first PDU header."""

    def message(self, command: bytes) -> CStoreRQ | None:
        """Return the request that a command has, or None if the command has another shape."""
        start = len(self.before_id)
        uid_start = start + _MESSAGE_ID_BYTES + len(self.after_id)
        uid = command[uid_start:]
        if (
            command[:start] != self.before_id
            or command[start + _MESSAGE_ID_BYTES : uid_start] != self.after_id
            or not _is_plain(uid)
        ):
            return None
        return CStoreRQ(
            message_id=int.from_bytes(command[start : start + _MESSAGE_ID_BYTES], "little"),
            affected_sop_class_uid=self.sop_class_uid,
            affected_sop_instance_uid=uid.decode("ascii").rstrip("\0"),
            priority=self.priority,
        )

    def respond(self, command: bytes) -> bytes:
        """Return the PDU with the response of success to a request of this shape."""
        start = len(self.before_id)
        uid_start = start + _MESSAGE_ID_BYTES + len(self.after_id)
        before_id, after_id = self.response
        return b"".join((before_id, command[start : start + _MESSAGE_ID_BYTES], after_id, command[uid_start:]))


class StraightPath:
    """Serves the C-STORE messages of one association that look like earlier ones."""

    __slots__ = (
        *("_begin_now", "_command", "_connection", "_core", "_failure", "_is_common", "_is_complete", "_is_last"),
        *(
            "_left",
            "_lesson",
            "_max_bytes",
            "_max_pdu_bytes",
            "_messages",
            "_operation",
            "_refusal",
            "_responses",
            "_rest",
        ),
        *("_shape", "_shapes", "_sink", "_size", "_status", "_store", "instances"),
    )

    def __init__(self, connection: Connection, store: StoreService, storage: DirectStorage, max_bytes: int) -> None:
        """Serve data sets of up to `max_bytes`."""
        self.instances = 0
        """Number of instances that were served from the command to the response."""
        self._connection = connection
        self._core = connection.core
        self._store = store
        self._begin_now = storage.begin_now
        self._max_bytes = max_bytes
        self._shapes: dict[tuple[int, int], _Shape] = {}
        """The shapes, by context id and length of the command."""
        self._lesson: tuple[bytes, AcceptedContext, CStoreRQ] | None = None
        """The command, context and request to learn from: many associations have one message only."""
        self._max_pdu_bytes = 0
        self._rest = memoryview(b"")
        """The bytes that are received and not read."""
        self._responses: list[Buffer] = []
        """Responses that are not sent."""
        self._messages = 0
        """Number of messages served of the current read."""
        self._is_common = True
        """Whether all bytes so far are common."""
        # The current instance, from its command to its response.
        self._operation: StoreOperation | None = None
        self._sink: DirectSink | None = None
        self._refusal: Status = PROCESSING_FAILURE
        self._shape: _Shape | None = None
        self._command = b""
        self._size = 0
        self._is_complete = False
        self._failure: Exception | None = None
        self._status: Status | None = None
        # The current fragment.
        self._left = 0
        self._is_last = False

    def learn(self, context: AcceptedContext, request: CStoreRQ) -> None:
        """Learn from the last request, which the general path has served, as soon as another message follows."""
        self._finish_lesson()
        self._lesson = self._core.last_command, context, request

    def _finish_lesson(self) -> None:
        if self._lesson is None:
            return
        (command, context, request), self._lesson = self._lesson, None
        key = context.context_id, len(command)
        known = self._shapes.get(key)
        if len(command) > _MAX_COMMAND_BYTES or (known is None and len(self._shapes) == _MAX_SHAPES):
            return
        if known is None or known.message(command) is None:
            shape = self._shape_of(command, context, request)
            if shape is not None and shape.message(command) == request:
                self._shapes[key] = shape

    def _shape_of(self, command: bytes, context: AcceptedContext, request: CStoreRQ) -> _Shape | None:
        deviations: Counter[Deviation] = Counter()
        decode_command(command, deviations)
        asked = _split(command, Element.MESSAGE_ID)
        response = self._core.encoded(context.context_id, response_to(request, SUCCESS))
        answered = _split(response[_HEADERS:], Element.MESSAGE_ID_BEING_RESPONDED_TO)
        is_usual = (
            request.has_data_set and not deviations and self._store.refusal(self._store.begin(context, request)) is None
        )
        if asked is None or answered is None or not is_usual:
            return None
        headers, (before_id, after_id) = response[:_HEADERS], answered
        return _Shape(
            context, request.affected_sop_class_uid, request.priority, *asked, (headers + before_id, after_id)
        )

    async def serve(self) -> Begun | None:
        """Serve messages as long as they are common; return the instance that was begun and is not served."""
        if self._messages == _MAX_MESSAGES:
            await asyncio.sleep(0)
        entered = self._core.enter() if self._shapes or self._lesson is not None else None
        if entered is None:
            return None
        self._rest, self._max_pdu_bytes = entered
        self._responses = self._core.take_output()
        try:
            unread = self._take(self._rest) if self._rest else b""
            if unread is not None and self._send():
                await self._connection.drive(self._take, unread)
        except OSError:
            pass  # The general path reads the end of the stream.
        except BaseException:
            if self._operation is not None:
                await self._store.abandon(self._operation, self._sink or self._refusal, self._size)
            raise
        return self._leave()

    def _leave(self) -> Begun | None:
        """Return to the general path."""
        operation, is_inside = self._operation, self._operation is not None and not self._is_complete
        self._core.leave(
            self._rest,
            context_id=operation.context.context_id if operation is not None and is_inside else 0,
            fragment_left=self._left,
            is_last=self._is_last,
            unsent=self._responses,
        )
        self._responses = []
        if operation is None:
            return None
        begun = Begun(
            operation, self._sink or self._refusal, self._size, self._is_complete, self._failure, self._status
        )
        self._forget()
        return begun

    def _forget(self) -> None:
        self._operation = self._sink = self._shape = self._failure = self._status = None
        self._is_complete = False
        self._left = 0

    def _take(self, view: memoryview) -> bytes | None:
        """Serve the messages in received bytes; return the bytes of a header cut short, None at anything uncommon."""
        self._is_common, self._messages = True, 0
        if not view:
            return None  # The general path reads the end of the stream again.
        rest = view[self._read(view) :]
        if not self._is_common or not self._send():
            self._rest = rest
            return None
        unread = bytes(rest)
        self._rest = memoryview(unread)
        return unread

    def _send(self) -> bool:
        """Send the responses; return whether the socket has taken all."""
        if self._responses:
            response = b"".join(self._responses)
            sent = self._connection.stream.send_now(response)
            self._responses = [response[sent:]] if sent < len(response) else []
        return not self._responses

    def _read(self, view: memoryview) -> int:
        """Serve messages; return the offset of the first byte not read."""
        at, end = 0, len(view)
        while at < end and self._is_common:
            size = self._pass(view[at : at + self._left]) if self._left else self._start(view, at)
            if not size:
                break
            at += size
        return at

    def _start(self, view: memoryview, at: int) -> int:
        """Read the headers of a PDU, and the command behind them; return the number of bytes, 0 if some are missing."""
        if len(view) - at < _HEADERS:
            self._is_common = view[at] == _P_DATA
            return 0
        kind, length, size, context_id, control = _unpack(view, at)
        # A deviation is not common: the general path counts it.
        if kind != _P_DATA or length > self._max_pdu_bytes or size != length - 4 or size < 4 or size & 1:
            self._is_common = False
            return 0
        if self._operation is None:
            return self._start_message(view[at + _HEADERS : at + _HEADERS + size - 2], context_id, size - 2, control)
        is_last = control == LAST
        is_long = not control and size >= _MIN_FRAGMENT_BYTES
        self._is_common = context_id == self._operation.context.context_id and (is_last or is_long)
        if not self._is_common:
            return 0
        self._left, self._is_last = size - 2, is_last
        return _HEADERS

    def _start_message(self, command: memoryview, context_id: int, size: int, control: int) -> int:
        """Begin with the command of an instance; return its length and that of its headers, 0 if bytes are missing."""
        if self._lesson is not None:
            self._finish_lesson()
        is_known = control == _LAST_COMMAND and (context_id, size) in self._shapes
        self._is_common = is_known and self._messages < _MAX_MESSAGES
        if not self._is_common or len(command) < size:
            return 0
        if not self._begin(context_id, bytes(command)):
            self._is_common = False
            return 0
        self._is_common = self._sink is not None
        return _HEADERS + size

    def _pass(self, part: memoryview) -> int:
        """Pass bytes of a data set to the sink, and commit after the last; return their number, 0 if it must wait."""
        if not self._write(part):
            self._is_common = False
            return 0
        if self._failure is not None or (self._is_complete and not self._commit()):
            self._is_common = False
        return len(part)

    def _begin(self, context_id: int, command: bytes) -> bool:
        """Begin with the storage's sink; return False, with nothing begun, if the general path must do it."""
        shape = self._shapes.get((context_id, len(command)))
        message = None if shape is None else shape.message(command)
        if shape is None or message is None:
            return False
        operation = self._store.begin(shape.context, message)
        try:
            target = self._begin_now(operation)
        except BaseException as error:  # noqa: BLE001  # a storage is the user's code: any exception becomes a status
            self._failure, target = for_future(error), PROCESSING_FAILURE
        if target is None:
            return False
        if isinstance(target, Status):
            self._refusal = target
        else:
            self._sink = target
        self._operation, self._shape, self._command, self._size = operation, shape, command, 0
        self._connection.progress.restart()
        return True

    def _write(self, part: memoryview) -> bool:
        """Pass bytes to the sink; return False, with nothing written, if the general path must do it."""
        size = self._size + len(part)
        if self._sink is None or size > self._max_bytes:
            return False
        try:
            if not self._sink.write_now(part):
                return False
        except BaseException as error:  # noqa: BLE001  # see _begin
            self._failure = for_future(error)
        self._size = size
        self._left -= len(part)
        self._is_complete = self._is_last and not self._left
        return True

    def _commit(self) -> bool:
        """Commit the instance and respond; return False if the general path must do a part of it."""
        operation, sink, shape = self._operation, self._sink, self._shape
        if operation is None or sink is None or shape is None:
            raise AssertionError  # _begin has set all of them
        try:
            self._status = sink.commit_now()
        except BaseException as error:  # noqa: BLE001  # see _begin
            self._failure = for_future(error)
        # Nearly all are the same object, and a comparison of values is a call.
        if self._failure is not None or not (self._status is SUCCESS or self._status == SUCCESS):
            return False
        self._store.count(operation, sink, SUCCESS, self._size)
        self._responses.append(shape.respond(self._command))
        self.instances += 1
        self._messages += 1
        self._forget()
        return True


def _is_plain(uid: bytes) -> bool:
    """Return whether a UID is decoded without a deviation, if its length is even (PS3.5 9.1)."""
    digits = uid.removesuffix(b"\0")
    return 0 < len(digits) <= MAX_UID_LENGTH and not digits.strip(b"0123456789.")


def _split(command: bytes, message_id: Element) -> tuple[bytes, bytes] | None:
    """Return the bytes before a command's message id, and those from there to the SOP Instance UID at its end."""
    found, uid = find_value(command, message_id), find_value(command, Element.AFFECTED_SOP_INSTANCE_UID)
    if found is None or uid is None or found.stop - found.start != _MESSAGE_ID_BYTES or uid.stop != len(command):
        return None
    return command[: found.start], command[found.stop : uid.start]

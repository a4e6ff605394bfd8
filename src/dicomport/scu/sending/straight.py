"""The straight path of a sender: C-STORE messages like the one before, without the general machinery.

Theory of operation
-------------------
A sender of a thousand instances sends the same message a thousand times, with another Message ID, SOP Instance UID and
data set, and gets the same response a thousand times. The general path (commands, core, steps, tasks) costs the same
for each of them. The straight path does the common case alone:

1. `serve` runs in the task that owns the association, before each step of the general path. It sends as many requests
   as the window allows: `StoreMessages` has the bytes of the command, one system call sends them with those of the
   file. The next file is read ahead.
2. The event loop's read callback passes the peer's bytes to `_take`, which compares them with learned responses of
   success, reports each result and sends the next request. No task runs and no timer is set for each instance.
3. `serve` returns before anything else, and consumes none of its bytes: another PDU or response, an instance in pieces,
   one that cannot be read, a full socket, a moment of silence. `leave` of the core gets what is left to read and to
   send, the worker has the next instance, and the general path continues there.

So the rules of the protocol stand in the general path only, and so does every error. A property test compares both: the
same bytes are sent, and the same results reported. The response timer belongs to the general path too: it cannot expire
within a moment of silence, and starts at the last request or response of the straight path.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, Protocol

from dicomport.dimse import HEADER_BYTES, RequestShape, StoreMessages
from dicomport.net import Connection, Timer
from dicomport.scu.inputs.instance import Instance
from dicomport.scu.inputs.locations import FileRegion
from dicomport.scu.requestor import StorageRequestor
from dicomport.scu.sending.plan import QueuedInstance
from dicomport.values import slotted
from dicomport.wire import Buffer, FileMetaError, PDataTF, Priority

_P_DATA: Final = PDataTF.KIND
_NOTHING: Final = memoryview(b"")

_MAX_SILENCE: Final = 1.0
"""Seconds without a response after which the general path waits."""


@slotted
class InFlight:
    """A request that is to be sent, or has no response yet."""

    queued: QueuedInstance
    instance: Instance
    """The instance to send: the queued one, or its transformed copy."""
    started: float = 0.0
    """Time when sending began, on the monotonic clock."""
    shape: RequestShape | None = None
    """The shape of the request; None if the general path sends it."""
    uid: bytes = b""
    """The encoded SOP Instance UID, as `shape`."""
    size: int = 0
    """Length of the data set, bytes, as `shape`."""


class Requests(Protocol):
    """The requests of one association: those to send, and those in flight by Message ID."""

    in_flight: dict[int, InFlight]

    def next_request(self) -> InFlight | None:
        """Return the request to send next, None if none waits or the general path must send it."""

    def begin(self, request: InFlight, message_id: int, now: float) -> None:
        """Note that the next request is being sent."""

    def succeed(self, message_id: int, now: float) -> None:
        """Report the result of a request with a response of success."""


class StraightPath:
    """Sends the instances of one association whose messages look like earlier ones."""

    def __init__(
        self, connection: Connection, requestor: StorageRequestor, requests: Requests, window: int, priority: Priority
    ) -> None:
        """Keep up to `window` requests in flight."""
        self.instances = 0
        """Number of instances that were sent and responded to here."""
        self._connection = connection
        self._stream = connection.stream
        self._requestor = requestor
        self._core = requestor.core
        self._exchange = requestor.exchange
        self._timing = requestor.timing
        self._messages = StoreMessages(requestor.core, priority)
        self._requests = requests
        self._in_flight = requests.in_flight
        self._window = window
        self._silence = Timer("silence", _MAX_SILENCE)
        self._is_tls = connection.stream.tls is not None
        """TLS belongs to the general path."""
        self._max_bytes = requestor.chunk_bytes
        """Length of the longest data set that the general path reads at once, and splits into the same PDUs."""
        self._rest = _NOTHING
        """The bytes that are received and not read."""
        self._unsent: Sequence[Buffer] = ()
        """The bytes that a full socket has not accepted."""
        self._is_common = True
        """Whether all is common so far."""
        self._error: BaseException | None = None
        """The exception that the caller's function for results has raised."""
        self._ahead: InFlight | None = None
        """The request whose data set has been read."""
        self._data = self._buffer = _NOTHING
        self._response_context = 0
        """The presentation context ID of the last response, 0 if none was read since the general path."""
        self._unanswered = 0
        """Bytes of the requests in flight."""
        # Times on the monotonic clock.
        self._now = self._active_at = 0.0

    async def serve(self) -> None:
        """Send and receive as long as all is common. Raises the exceptions of the caller's function for results."""
        with self._requestor.operation():
            while self._enter():
                try:
                    unread = self._begin()
                    if unread is not None and self._messages.responses:
                        await self._connection.await_responses(self._take, self._silence, unread)
                except OSError:
                    pass  # The general path reads the end of the stream.
                finally:
                    self._leave()
                if self._error is not None:
                    raise self._error
                if not self._core.has_output:
                    return
                await self._connection.run(self._requestor.flush())
                self._requestor.restart_response_timer(time.monotonic())

    def learn(self, request: InFlight) -> None:
        """Learn from the last message received, the response of success to a request of the straight path."""
        if request.shape is not None:
            self._messages.learn_response(request.shape.context, request.uid)

    def _enter(self) -> bool:
        """Continue after the general path; return whether it is between two messages."""
        entered = None if self._is_tls or self._core.has_output else self._core.enter()
        if entered is None:
            return False
        self._rest = entered[0]
        timer = self._requestor.response_timer
        self._active_at = self._now = time.monotonic()
        left = timer.seconds
        if timer.since is not None and self._in_flight:
            self._active_at, left = timer.since, timer.left
        self._silence = Timer("silence", min(left, _MAX_SILENCE))
        self._unanswered = sum(request.size for request in self._in_flight.values())
        return True

    def _leave(self) -> None:
        """Return to the general path."""
        self._core.leave(self._rest, response_context=self._response_context, unsent=self._unsent)
        self._unsent, self._response_context = (), 0
        self._timing.waiting += time.monotonic() - self._now
        if self._in_flight:
            self._requestor.restart_response_timer(self._active_at)

    def _begin(self) -> bytes | None:
        """Send requests, and read the bytes that are received already, as `_take` does."""
        self._is_common = True
        try:
            self._fill()
        except BaseException as error:  # noqa: BLE001  # see _take
            self._error = error
        if self._rest and self._is_common and self._error is None:
            return self._take(self._rest)
        return self._unread()

    def _take(self, view: memoryview) -> bytes | None:
        """Read responses and send requests; return the bytes of a response cut short, None at anything uncommon."""
        if not view:
            return None  # The general path reads the end of the stream again.
        now = time.monotonic()
        self._timing.waiting += now - self._now
        self._now = now
        self._is_common = True
        at, end = 0, len(view)
        try:
            while at < end and self._is_common:
                size = self._read_response(view, at)
                if not size:
                    break
                at += size
                self._fill()
        except BaseException as error:  # noqa: BLE001  # a future cannot pass on each of them; `serve` raises it
            self._error = error
        self._rest = view[at:] if at < end else _NOTHING
        return self._unread()

    def _unread(self) -> bytes | None:
        """Return the bytes not read if more are needed, None if the general path is to continue."""
        if not (self._is_common and self._in_flight) or self._unsent or self._error is not None:
            return None
        unread = bytes(self._rest)
        self._rest = memoryview(unread)
        return unread

    def _read_response(self, view: memoryview, at: int) -> int:
        """Read one response; return its length, 0 if it is uncommon or some bytes are missing."""
        shape = self._messages.responses.get(bytes(view[at : at + HEADER_BYTES]))
        if shape is None:
            self._is_common = len(view) - at < HEADER_BYTES and view[at] == _P_DATA and self._is_in_time()
            return 0
        pdu = bytes(view[at : at + shape.size])
        if len(pdu) < shape.size:
            self._is_common = self._is_in_time()
            return 0
        message_id = pdu[shape.id_at] | pdu[shape.id_at + 1] << 8
        request = self._in_flight.get(message_id)
        if request is None or request.shape is None or not shape.matches(pdu, request.uid):
            self._is_common = False
            return 0
        self._exchange.end_store(message_id)
        self._active_at = self._now
        self._response_context = request.shape.context.context_id
        self._unanswered -= request.size
        self.instances += 1
        self._requests.succeed(message_id, self._now)
        return shape.size

    def _is_in_time(self) -> bool:
        """Return whether the response that has begun may still be awaited here."""
        return self._now - self._active_at < self._silence.seconds

    def _fill(self) -> None:
        """Send as many requests as the window allows, and read the next one ahead."""
        while self._is_common:
            request = self._requests.next_request()
            if request is None:
                return
            has_room = len(self._in_flight) < self._window
            # A file that was read earlier may have changed.
            is_read = request is self._ahead and not (has_room and _has_changed(request.instance))
            if not is_read and not self._read(request):
                self._is_common = False
                return
            if not has_room:
                return
            self._send(request)

    def _read(self, request: InFlight) -> bool:
        """Read the data set of a request; return False if the general path must do it."""
        self._ahead = None
        instance = request.instance
        context = self._requestor.context_for(instance.sop_class_uid, instance.transfer_syntax_uid)
        source, size = instance.source, instance.size
        if context is None or not size or size & 1 or size > self._max_bytes:
            return False
        try:
            uid = instance.sop_instance_uid.encode("ascii")
            if isinstance(source, bytes):
                data = memoryview(source)
            elif isinstance(source, FileRegion):
                if len(self._buffer) < size:
                    self._buffer = memoryview(bytearray(size))
                data = source.read(self._buffer)
            else:
                return False
        except (OSError, FileMetaError, UnicodeEncodeError):
            return False
        request.uid = uid = uid + b"\0" if len(uid) & 1 else uid
        request.shape = self._messages.request_shape(context, uid) if uid else None
        if request.shape is None:
            return False
        self._ahead, self._data, request.size = request, data, size
        now = time.monotonic()
        self._timing.reading += now - self._now
        self._now = now
        return True

    def _send(self, request: InFlight) -> None:
        shape = request.shape
        if shape is None:
            raise AssertionError  # _read has set it
        message_id = self._exchange.begin_store()
        parts = self._messages.encode(shape, message_id, request.uid, self._data)
        self._requests.begin(request, message_id, self._now)
        self._ahead = None
        self._unsent = self._stream.send_list_now(parts)
        self._unanswered += request.size
        if self._unsent:
            self._is_common = False
        else:
            self._stream.send_queue.record_message(self._unanswered)
        now = time.monotonic()
        self._timing.sending += now - self._now
        self._active_at = self._now = now


def _has_changed(instance: Instance) -> bool:
    """Return whether an instance's file has changed since it was found."""
    return isinstance(instance.source, FileRegion) and not instance.source.unchanged

"""A script's side of one connection, in either role, on a blocking socket."""

from __future__ import annotations

import contextlib
import reprlib
import selectors
import socket
import struct
import threading
from collections.abc import Collection, Iterator
from typing import Any, Final, NoReturn, TypeGuard, TypeVar, overload

from dicomport.core import AcceptedContext, resolve_reply
from dicomport.standard import VERIFICATION
from dicomport.testing.errors import GoneError, ScriptError
from dicomport.testing.incoming import Heard, Incoming
from dicomport.testing.messages import (
    MAXIMUM_LENGTH,
    AnyCommand,
    Message,
    Proposal,
    acceptance,
    association_request,
    encode_message,
    response,
)
from dicomport.wire import (
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    CEchoRQ,
    CEchoRSP,
    CStoreRQ,
    CStoreRSP,
    PDataTF,
    Pdu,
    ProtocolError,
    RawCommand,
    ReleaseRP,
    ReleaseRQ,
    Response,
    encode,
)

TIMEOUT: Final = 30.0
"""Default timeout of a script's waits, in seconds."""

_HISTORY: Final = 10
_NO_LINGER: Final = struct.pack("ii", 1, 0)

PduT = TypeVar("PduT", AssociateRQ, AssociateAC, AssociateRJ, PDataTF, ReleaseRQ, ReleaseRP, Abort)
CommandT = TypeVar("CommandT", bound=AnyCommand)

_briefly = reprlib.Repr()
_briefly.maxother = 200


class Peer:
    """A script's side of one connection, with the messages and PDUs received.

    A method that waits raises `ScriptError` if it receives something else, or nothing for `timeout` seconds, and
    `GoneError` if the connection has ended.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        number: int = 1,
        timeout: float = TIMEOUT,
        keep_data: bool = True,
        ended: threading.Event | None = None,
    ) -> None:
        sock.settimeout(timeout)
        self.socket = sock
        """The socket, for actions without a method."""
        self.number = number
        """The number of the connection at its listener, from 1."""
        self.timeout = timeout
        self.request: AssociateRQ | None = None
        """The association request, sent or received."""
        self.contexts: dict[int, AcceptedContext] = {}
        """The accepted Presentation Contexts by id, after the acceptance was sent or received."""
        self.heard: list[Heard] = []
        """All messages and PDUs received so far."""
        self._incoming = Incoming(sock, keep_data=keep_data)
        self._ended = ended or threading.Event()
        self._maximum_length = MAXIMUM_LENGTH
        self._message_id = 0

    @property
    def stores(self) -> list[Message[CStoreRQ]]:
        """The complete C-STORE requests received so far."""
        return [heard for heard in self.heard if _carries(heard, CStoreRQ)]

    @property
    def unfinished(self) -> bytes:
        """The bytes of an incomplete PDU at the end of the connection."""
        return self._incoming.unfinished

    @property
    def silent(self) -> bool:
        """Whether there is nothing to read, not even the end of the connection."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            return not selector.select(0)

    # Bytes, PDUs and messages.

    def send(self, *parts: Pdu | bytes) -> None:
        """Send PDUs and raw bytes, all together."""
        data = b"".join(part if isinstance(part, bytes) else encode(part) for part in parts)
        self.socket.settimeout(self.timeout)
        try:
            self.socket.sendall(data)
        except TimeoutError:
            self._fail(f"the other side to read {len(data)} bytes")
        except OSError as error:
            raise GoneError(self._text(f"could not send {len(data)} bytes: {error}")) from error
        for part in parts:
            if not isinstance(part, bytes):
                self._learn(part)

    def encode_message(self, context_id: int, command: AnyCommand, data: bytes | None = b"") -> bytes:
        """Encode a message as P-DATA-TFs within the other side's maximum length; the script sends them.

        If the command announces a data set, `data` follows; None omits it nevertheless.
        """
        return encode_message(context_id, command, data, maximum_length=self._maximum_length)

    def send_message(self, context_id: int, command: AnyCommand, data: bytes | None = b"") -> None:
        """Send a message, see `encode_message`."""
        self.send(self.encode_message(context_id, command, data))

    def receive(self) -> Heard | None:
        """Return the next message or PDU other than P-DATA-TF, or None at the end of the connection."""
        return self._receive("a message or a PDU")

    @overload
    def expect(self, kind: type[PduT]) -> PduT: ...

    @overload
    def expect(self, kind: type[CommandT]) -> Message[CommandT]: ...

    def expect(self, kind: type[Any]) -> Any:
        """Return the next PDU or message, which must be of this class of PDU or command.

        `expect(AssociateRQ)` returns the PDU, `expect(CStoreRQ)` the complete message with its data set.
        """
        heard = self._receive(kind.__name__, whole=kind is not PDataTF)
        if heard is None:
            raise GoneError(self._text(f"expected {kind.__name__}, but the connection ended"))
        if isinstance(heard, kind) or _carries(heard, kind):
            return heard
        raise ScriptError(self._text(f"expected {kind.__name__}, received {_briefly.repr(heard)}"))

    # As the acceptor.

    def accept(
        self,
        request: AssociateRQ | None = None,
        *,
        refuse: Collection[str | int] = (),
        window: int | None = None,
        maximum_length: int = MAXIMUM_LENGTH,
    ) -> AssociateRQ:
        """Accept the association, each context with its first transfer syntax, and return its request.

        Without `request`, the request is received first. `refuse` has the abstract syntaxes, transfer syntaxes and
        context ids to reject. `window` is the accepted number of outstanding operations (PS3.7 D.3.3.3), 0 for
        unlimited; by default the item is omitted. For any other answer, send the result of `acceptance`.
        """
        request = request or self.expect(AssociateRQ)
        self.send(acceptance(request, refuse=refuse, window=window, maximum_length=maximum_length))
        return request

    def answer(self, request: Message[AnyCommand], answer: int | Response = 0) -> None:
        """Answer a request with a status or with any response, see `response`."""
        answer = response(request.command, answer) if isinstance(answer, int) else answer
        self.send_message(request.context_id, answer)

    def requests(self) -> Iterator[Message[AnyCommand]]:
        """Yield each request until the association has ended.

        A release is confirmed; then the other side must close. An abort, or the end of the connection at any point,
        ends the iteration.
        """
        while True:
            heard = self._receive("a request or the end of the association")
            if heard is None or isinstance(heard, Abort):
                return
            if isinstance(heard, ReleaseRQ):
                self.send(ReleaseRP())
                self.expect_close()
                return
            if not isinstance(heard, Message):
                raise ScriptError(self._text(f"expected a request, received {_briefly.repr(heard)}"))
            yield heard

    def serve(self, *statuses: int) -> None:
        """Answer C-STORE requests with these statuses in turn and then with success, all others with success.

        Responses that arrive are ignored.
        """
        left = iter(statuses)
        for request in self.requests():
            if isinstance(request.command, Response) or (
                isinstance(request.command, RawCommand) and request.command.is_response
            ):
                continue
            self.answer(request, next(left, 0) if isinstance(request.command, CStoreRQ) else 0)

    # As the requestor.

    def associate(
        self,
        *proposals: Proposal,
        request: AssociateRQ | None = None,
        called: str = "ANY-SCP",
        calling: str = "SCRIPTED",
        window: int | None = None,
        maximum_length: int = MAXIMUM_LENGTH,
    ) -> AssociateAC:
        """Send `request`, by default one that `association_request` builds, and return its acceptance."""
        self.send(
            request
            or association_request(
                *proposals, called=called, calling=calling, window=window, maximum_length=maximum_length
            )
        )
        return self.expect(AssociateAC)

    def encode_store(
        self, sop_instance_uid: str, data: bytes, *, context_id: int | None = None, message_id: int | None = None
    ) -> bytes:
        """Encode a C-STORE request, by default with the next message id, on the first context but Verification's."""
        context = self._context(context_id, verification=False)
        command = CStoreRQ(
            message_id=self._next_message_id() if message_id is None else message_id,
            affected_sop_class_uid=context.abstract_syntax,
            affected_sop_instance_uid=sop_instance_uid,
        )
        return self.encode_message(context.context_id, command, data)

    def store(
        self, sop_instance_uid: str, data: bytes, *, context_id: int | None = None, message_id: int | None = None
    ) -> CStoreRSP:
        """Send a C-STORE request and return the response, see `encode_store`."""
        self.send(self.encode_store(sop_instance_uid, data, context_id=context_id, message_id=message_id))
        return self.expect(CStoreRSP).command

    def echo(self) -> CEchoRSP:
        """Send a C-ECHO request and return the response."""
        context = self._context(None, verification=True)
        command = CEchoRQ(message_id=self._next_message_id(), affected_sop_class_uid=VERIFICATION)
        self.send_message(context.context_id, command)
        return self.expect(CEchoRSP).command

    def release(self) -> None:
        """Request the release, expect its confirmation, and close."""
        self.send(ReleaseRQ())
        self.expect(ReleaseRP)
        self.close()

    def abort(self) -> None:
        """Send an A-ABORT of the service-user, and close the connection."""
        self.send(Abort())
        self.close()

    # Closing and stalling.

    def expect_close(self) -> None:
        """Expect the end of the connection as the next event."""
        heard = self._receive("the end of the connection")
        if heard is not None:
            raise ScriptError(self._text(f"expected the end of the connection, received {_briefly.repr(heard)}"))

    def drain(self) -> int:
        """Read and discard all bytes until the connection ends, and return their number."""
        try:
            return self._incoming.drain(self.timeout)
        except TimeoutError:
            self._fail("the end of the connection")

    def stall(self, until: threading.Event | None = None) -> None:
        """Read and send nothing until an event is set, by default the end of the `with` block."""
        if not (until or self._ended).wait(self.timeout):
            self._fail("the end of a stall")

    def shrink_window(self, size: int) -> None:
        """Set the size of the system's receive buffer in bytes, so that the other side's TCP soon stops.

        The system has a minimum size and does not shrink a window that it has already opened. For a small window from
        the first byte on, use `receive_buffer` of `ScriptedSCP` or `ScriptedSCU`.
        """
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def half_close(self) -> None:
        """Send the end of the connection (FIN); reading is still possible."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise GoneError(self._text(f"could not half-close the connection: {error}")) from error

    def close(self) -> None:
        """Close the connection: with FIN, or with RST if received bytes are unread."""
        self.socket.close()

    def reset(self) -> None:
        """Reset the connection (RST): bytes in transit in either direction are lost."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.socket.close()

    # Helpers.

    def _receive(self, awaited: str, *, whole: bool = True) -> Heard | None:
        try:
            heard = self._incoming.next(self.timeout) if whole else self._incoming.pdu(self.timeout)
        except TimeoutError:
            self._fail(awaited)
        except ProtocolError as error:
            raise ScriptError(self._text(f"expected {awaited}, received invalid data: {error}")) from error
        except OSError as error:
            raise GoneError(self._text(f"expected {awaited}, reading failed: {error}")) from error
        if heard is not None:
            self.heard.append(heard)
            self._learn(heard)
        if isinstance(heard, AssociateRQ | AssociateAC):
            self._maximum_length = heard.user_information.maximum_length or MAXIMUM_LENGTH
        return heard

    def _learn(self, heard: Heard) -> None:
        """Record the negotiation from a PDU of either side."""
        if isinstance(heard, AssociateRQ):
            self.request = heard
        elif isinstance(heard, AssociateAC) and self.request is not None:
            self.contexts = resolve_reply(self.request, heard).accepted

    def _context(self, context_id: int | None, *, verification: bool) -> AcceptedContext:
        for context in self.contexts.values():
            if context_id in (None, context.context_id) and (context.abstract_syntax == VERIFICATION) is verification:
                return context
        raise ScriptError(self._text(f"no suitable accepted context: {_briefly.repr(self.contexts)}"))

    def _next_message_id(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    def _fail(self, awaited: str) -> NoReturn:
        raise ScriptError(self._text(f"expected {awaited}, nothing happened for {self.timeout:g} s")) from None

    def _text(self, problem: str) -> str:
        names = [type(heard.command if isinstance(heard, Message) else heard).__name__ for heard in self.heard]
        history = ", ".join(["..."] * (len(names) > _HISTORY) + names[-_HISTORY:]) or "nothing"
        return f"connection {self.number}: {problem} (so far: {history})"


def _carries(heard: Heard, kind: type[CommandT]) -> TypeGuard[Message[CommandT]]:
    return isinstance(heard, Message) and isinstance(heard.command, kind)

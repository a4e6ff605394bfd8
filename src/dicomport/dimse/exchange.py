"""Requests, their responses, and unexpected commands on one association (PS3.7 9.3, 10.3), without input or output.

Theory of operation
-------------------
Both sides of an association use one `Exchange` each, in the task or thread that owns the association. It writes to the
core and never waits: the owner sends the core's output and passes in each command that arrives.

A request gets the next message id that no outstanding request has. `expect` then notes which response the request
awaits. Responses may arrive in any order: `match_response` matches a response by message id and by kind, so that a late
response is never mistaken for that of another request. `answer_unexpected` handles the commands that no service
of this side handles: it refuses a request, counts a response, and ignores a C-CANCEL. The owner has received the
data set of a command completely before it answers, because a refusal inside the peer's message would be read late.
"""

from __future__ import annotations

import functools
from typing import Final, TypeAlias

from dicomport.core import Association, CommandMalformed, CommandReceived
from dicomport.standard import UNRECOGNIZED_OPERATION, Status
from dicomport.wire import (
    CCancelRQ,
    CEchoRQ,
    CEchoRSP,
    Command,
    CStoreRQ,
    CStoreRSP,
    Deviation,
    NActionRQ,
    NActionRSP,
    NEventReportRQ,
    NEventReportRSP,
    RawCommand,
    Response,
)

Request: TypeAlias = CStoreRQ | CEchoRQ | NActionRQ | NEventReportRQ
"""The requests that dicomport sends and serves."""

_MAX_MESSAGE_ID: Final = 0xFFFF

_RESPONSES: Final[dict[type[Command], type[Response]]] = {
    CStoreRQ: CStoreRSP,
    CEchoRQ: CEchoRSP,
    NActionRQ: NActionRSP,
    NEventReportRQ: NEventReportRSP,
}

_plain_status: Final = functools.lru_cache(maxsize=64)(Status)
"""Nearly all responses have a status without a comment: these are built once."""


class Exchange:
    """The DIMSE exchange of one side of an association."""

    def __init__(self, core: Association) -> None:
        self._core = core
        self._message_id = 0
        self._outstanding: dict[int, type[Response]] = {}
        """The kind of response that each outstanding request awaits, by message id."""

    @property
    def outstanding(self) -> int:
        """Number of requests without a response."""
        return len(self._outstanding)

    def next_message_id(self) -> int:
        """Return the next message id that no outstanding request has (PS3.7 9.1.1.1.1)."""
        self._message_id = self._message_id % _MAX_MESSAGE_ID + 1
        while self._message_id in self._outstanding:
            self._message_id = self._message_id % _MAX_MESSAGE_ID + 1
        return self._message_id

    def expect(self, request: Request) -> None:
        """Register a request that has been sent as outstanding."""
        self._outstanding[request.message_id] = _RESPONSES[type(request)]

    def begin_store(self) -> int:
        """Register a C-STORE request as outstanding, as `expect` does; return its message id."""
        message_id = self.next_message_id()
        self._outstanding[message_id] = CStoreRSP
        return message_id

    def end_store(self, message_id: int) -> None:
        """Note that the response to a C-STORE request has arrived."""
        del self._outstanding[message_id]

    def forget(self, request: Request) -> None:
        """Stop expecting the response to a request; if it still arrives, it is unexpected."""
        self._outstanding.pop(request.message_id, None)

    def match_response(self, response: Response) -> Status | None:
        """Return the status of an expected response, which is then no longer outstanding; None for any other."""
        message_id = response.message_id_being_responded_to
        if self._outstanding.get(message_id) is not type(response):
            return None
        del self._outstanding[message_id]
        if response.error_comment or response.offending_element:
            return Status(response.status, response.error_comment, response.offending_element)
        return _plain_status(response.status)

    def answer_unexpected(self, event: CommandReceived | CommandMalformed, comment: str = "") -> str:
        """Answer a command that no service handles; return why a request was refused, "" for any other command.

        `comment` is the Error Comment in the refusal of a request that is not served.
        """
        if isinstance(event, CommandMalformed):
            reason, error = str(event.error), event.error
            refusal = error.command.refusal(
                error.status, offending=(error.offending,), comment="element is missing or malformed"
            )
        else:
            command = event.command
            raw = command if isinstance(command, RawCommand) else command.to_raw()
            if raw.is_response:
                self._core.deviations[Deviation.UNEXPECTED_RESPONSE] += 1
                return ""
            if isinstance(command, CCancelRQ):
                return ""  # A C-CANCEL is never answered (PS3.7 9.3.2.3), and no operation here can be cancelled.
            reason = f"command {raw.command_field:04X}H is not served here"
            refusal = raw.refusal(UNRECOGNIZED_OPERATION.code, comment=comment)
        self._core.send_command(event.context.context_id, refusal)
        return reason


def response_to(request: Request, status: Status) -> Response:
    """Return the response to a request (PS3.7 9.3.1.2 and its siblings)."""
    sop_class_uid, sop_instance_uid = sop_instance_of(request)
    return _RESPONSES[type(request)](
        message_id_being_responded_to=request.message_id,
        affected_sop_class_uid=sop_class_uid,
        affected_sop_instance_uid=sop_instance_uid,
        status=status.code,
        offending_element=status.offending,
        error_comment=status.comment,
    )


def sop_instance_of(request: Request) -> tuple[str, str]:
    """Return the SOP Class UID and SOP Instance UID of a request, Affected or Requested."""
    match request:
        case CEchoRQ():
            return request.affected_sop_class_uid, ""
        case NActionRQ():
            return request.requested_sop_class_uid, request.requested_sop_instance_uid
        case _:
            return request.affected_sop_class_uid, request.affected_sop_instance_uid

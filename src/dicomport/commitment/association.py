"""An association for storage commitment alone, from its requestor's side: an SCU that requests, or an SCP that reports.

Theory of operation
-------------------
The SCU requests with N-ACTION, and receives N-EVENT-REPORTs while it waits for the responses or listens. The SCP
reports with N-EVENT-REPORT (PS3.7 10.1.1, 10.1.4). Both are operations of a `dicomport.dimse.Requestor`, whose steps
run in the task that calls the methods: one method at a time. `stop_listening` may be called from any callback of the
same event loop; it interrupts a wait for bytes only, so that a response being sent is still sent.
"""

from __future__ import annotations

import contextlib
from typing import Final, Self, Unpack

from dicomport.commitment.data_sets import CommitmentRequest, CommitmentResult
from dicomport.commitment.limits import DEFAULT_COMMITMENT_LIMITS
from dicomport.core import AcceptedContext
from dicomport.dimse import NoContextError, OnEventReport, Requestor
from dicomport.net import Address, AssociationError, Connection, Steps, Timeouts, Timer, connect
from dicomport.scu import NegotiationItems, association_request
from dicomport.standard import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, Status
from dicomport.wire import NActionRQ, NEventReportRQ, RoleSelection

REQUEST_STORAGE_COMMITMENT: Final = 1
"""The only Action Type (PS3.4 J.3.2.1.1)."""

ALL_COMMITTED: Final = 1
"""Event Type: the request was successful (PS3.4 J.3.3.1.1)."""

SOME_FAILED: Final = 2
"""Event Type: the request is complete, and there are failures (PS3.4 J.3.3.1.1)."""


class _ListeningStopped(Exception):  # noqa: N818  # not an error: nothing more is awaited
    """`stop_listening` was called."""


class CommitmentAssociation:
    """An established association on asyncio. All methods that wait raise `AssociationError`."""

    def __init__(self, connection: Connection, requestor: Requestor, context: AcceptedContext) -> None:
        self._connection = connection
        self._requestor = requestor
        self._context = context
        self._listening = True

    @classmethod
    async def open(
        cls,
        address: Address,
        *,
        ae_title: str,
        called_ae_title: str,
        timeouts: Timeouts,
        on_event_report: OnEventReport | None = None,
        **negotiation: Unpack[NegotiationItems],
    ) -> Self:
        """Connect and negotiate: with `on_event_report` as the SCU, without it as the SCP (PS3.7 D.3.3.4).

        Raises `NoContextError` if the peer does not accept storage commitment in this role, and `AssociationError`.
        """
        if on_event_report is None:
            negotiation["roles"] = (RoleSelection(STORAGE_COMMITMENT, scu=False, scp=True),)
        request = association_request(
            [STORAGE_COMMITMENT], ae_title=ae_title, called_ae_title=called_ae_title, **negotiation
        )
        stream = await connect(address, timeouts)
        requestor = Requestor(request, timeouts, on_event_report, DEFAULT_COMMITMENT_LIMITS.data_set_bytes)
        connection = Connection(stream, requestor.core, timeouts)
        try:
            context = await connection.run(_establish(requestor, is_scp=on_event_report is None))
        except BaseException:
            connection.close()
            raise
        return cls(connection, requestor, context)

    async def request(self, request: CommitmentRequest) -> Status:
        """Request a commitment and return the status of the response; the result is reported later."""
        command = NActionRQ(
            has_data_set=True,
            message_id=self._requestor.exchange.next_message_id(),
            requested_sop_class_uid=STORAGE_COMMITMENT,
            requested_sop_instance_uid=STORAGE_COMMITMENT_INSTANCE,
            action_type_id=REQUEST_STORAGE_COMMITMENT,
        )
        data = request.encode(self._context.transfer_syntax)
        return await self._connection.run(self._requestor.request(self._context, command, data))

    async def report(self, result: CommitmentResult) -> Status:
        """Report a result and return the status of the response."""
        command = NEventReportRQ(
            has_data_set=True,
            message_id=self._requestor.exchange.next_message_id(),
            affected_sop_class_uid=STORAGE_COMMITMENT,
            affected_sop_instance_uid=STORAGE_COMMITMENT_INSTANCE,
            event_type_id=SOME_FAILED if result.failed else ALL_COMMITTED,
        )
        data = result.encode(self._context.transfer_syntax)
        return await self._connection.run(self._requestor.request(self._context, command, data))

    async def listen(self, seconds: float) -> None:
        """Receive reports until `stop_listening`; wait at most `seconds` for each one."""
        with contextlib.suppress(_ListeningStopped), self._connection.interruptible():
            steps = self._requestor.listen(Timer("report", seconds), lambda: not self._listening)
            await self._connection.run(steps)

    def stop_listening(self) -> None:
        """End `listen`; a response that is being sent is still sent."""
        self._listening = False
        self._connection.interrupt(_ListeningStopped())

    async def release(self) -> None:
        """Release the association if it has not ended, and close the connection."""
        try:
            if self._requestor.core.established:
                await self._connection.run(self._requestor.release())
        finally:
            self._connection.close()

    async def abort(self) -> None:
        """Abort the association. If it has ended already, only close the connection."""
        try:
            await self._connection.run(self._requestor.abort())
        finally:
            self._connection.close()


def _establish(requestor: Requestor, *, is_scp: bool) -> Steps[AcceptedContext]:
    """Establish the association; release it again if storage commitment cannot be used on it."""
    outcome = yield from requestor.establish()
    context = requestor.find_context(STORAGE_COMMITMENT)
    # A peer that omits the role may accept a report nevertheless; one that refuses the role will not.
    if context is not None and not (is_scp and any(not role.scp for role in outcome.roles)):
        return context
    with contextlib.suppress(AssociationError):
        yield from requestor.release()
    if context is not None:
        raise NoContextError("the peer does not accept this side as the SCP of storage commitment")
    reasons = ", ".join(context.reason for context in outcome.contexts)
    raise NoContextError(f"the peer does not accept storage commitment: {reasons}")

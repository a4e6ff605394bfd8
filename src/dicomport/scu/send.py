"""Sending many instances: everything that can go goes, and the fate of each is told."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias, Unpack

from dicomport.logs import get_logger
from dicomport.net import Address, AssociationError, Timeouts, check_ae_title
from dicomport.scu.client import ClientAssociation, open_association
from dicomport.scu.contexts import NegotiationItems, association_request
from dicomport.scu.instances import Instance, NotSendableError
from dicomport.scu.plan import PlannedAssociation, Scan, Sendable, plan_associations, scan
from dicomport.scu.report import InstanceResult, SendReport
from dicomport.scu.requestor import NoContextError
from dicomport.standard import Status
from dicomport.wire import Priority

__all__ = ["OnResult", "SendOptions", "Sender", "send"]

OnResult: TypeAlias = Callable[[InstanceResult], object]
"""Called with each result as soon as it is known."""

log = get_logger("scu")


class SendOptions(NegotiationItems, total=False):
    """The keyword arguments of `send`."""

    ae_title: str
    called_ae_title: str
    priority: Priority
    tls: ssl.SSLContext | None
    timeouts: Timeouts | None
    on_result: OnResult | None


async def send(
    what: str | Path | Iterable[Sendable],
    host: str,
    port: int,
    *,
    ae_title: str = "DICOMPORT",
    called_ae_title: str = "ANY-SCP",
    priority: Priority = Priority.MEDIUM,
    tls: ssl.SSLContext | None = None,
    timeouts: Timeouts | None = None,
    on_result: OnResult | None = None,
    **negotiation: Unpack[NegotiationItems],
) -> SendReport:
    """Send files, whole folders and data sets, and tell the fate of each. A failure of one never stops the others.

    Only the file meta is read to plan; the contexts proposed are exactly those that the instances need, in as many
    associations as that takes; data sets are streamed as they are, never converted. An association that is lost is
    replaced for the rest. Nothing is raised for what happens on the way: it is in the report. Raises `ValueError` for
    arguments that
    make no request.
    """
    sender = Sender(
        Address(host, port, tls),
        ae_title=ae_title,
        called_ae_title=called_ae_title,
        priority=priority,
        timeouts=timeouts or Timeouts(),
        on_result=on_result,
        negotiation=negotiation,
    )
    return await sender.send(await asyncio.to_thread(scan, (what,) if isinstance(what, str | Path) else what))


class Sender:
    """Sends what a scan has found to one peer, and collects the results."""

    def __init__(
        self,
        address: Address,
        *,
        ae_title: str,
        called_ae_title: str,
        priority: Priority,
        timeouts: Timeouts,
        on_result: OnResult | None,
        negotiation: NegotiationItems,
    ) -> None:
        self._address = address
        self._ae_title = check_ae_title(ae_title)
        self._called_ae_title = check_ae_title(called_ae_title)
        self._priority = priority
        self._timeouts = timeouts
        self._on_result = on_result
        self._negotiation = negotiation
        self._results: list[InstanceResult] = []
        self._associations = 0
        self._error = ""
        self._started = 0.0

    async def send(self, found: Scan) -> SendReport:
        """Send it all."""
        self._started = time.monotonic()
        for refused in found.refused:
            self._tell(refused)
        for planned in plan_associations(found.instances):
            await self._deliver(planned)
        return self.report()

    def report(self) -> SendReport:
        """Tell what has become of what was sent so far."""
        return SendReport(
            results=tuple(self._results),
            associations=self._associations,
            error=self._error,
            seconds=time.monotonic() - self._started,
        )

    async def _deliver(self, planned: PlannedAssociation) -> None:
        """Send the instances of one planned association, over as many as it takes while each takes at least one."""
        request = association_request(
            planned.contexts,
            ae_title=self._ae_title,
            called_ae_title=self._called_ae_title,
            **self._negotiation,
        )
        left = deque(planned.instances)
        while left:
            try:
                association = await open_association(self._address, request, self._timeouts)
            except AssociationError as error:
                self._error = str(error)
                log.warning("no_association", peer=str(self._address), reason=str(error))
                while left:
                    self._tell(_result(left.popleft(), reason=f"no association: {error}"))
                return
            self._associations += 1
            try:
                await self._send_over(association, left)
            finally:
                await association.abort()

    async def _send_over(self, association: ClientAssociation, left: deque[Instance]) -> None:
        while left and association.open:
            instance = left.popleft()
            try:
                response = await association.c_store(instance, priority=self._priority)
            except (NotSendableError, NoContextError) as error:
                self._tell(_result(instance, reason=str(error)))
            except AssociationError as error:
                log.warning("association_lost", peer=str(self._address), reason=str(error))
                self._tell(_result(instance, reason=f"the association was lost: {error}"))
            else:
                status = response.status
                self._tell(_result(instance, status=status, reason="" if status.code == 0 else str(status)))
        if association.open:
            try:
                await association.release()
            except AssociationError as error:
                # Each instance has its answer; that the goodbye failed changes none of them.
                log.warning("release_failed", peer=str(self._address), reason=str(error))

    def _tell(self, result: InstanceResult) -> None:
        self._results.append(result)
        if self._on_result is not None:
            self._on_result(result)


def _result(instance: Instance, *, status: Status | None = None, reason: str) -> InstanceResult:
    return InstanceResult(
        path=instance.path,
        sop_class_uid=instance.sop_class_uid,
        sop_instance_uid=instance.sop_instance_uid,
        transfer_syntax_uid=instance.transfer_syntax_uid,
        size=instance.sent_size,
        status=status,
        reason=reason,
    )

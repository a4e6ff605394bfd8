"""Queue of instances to send, with their results. The theory of operation is in `sender.py`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias, TypedDict, Unpack

from dicomport.logs import get_logger, reason_of
from dicomport.scu.inputs.found import Found
from dicomport.scu.inputs.instance import Instance
from dicomport.scu.results import InstanceResult
from dicomport.scu.sending.plan import AssociationPlan, Plan, QueuedInstance
from dicomport.scu.sending.retry import RetryPolicy
from dicomport.standard import Status

if TYPE_CHECKING:
    from dicomport.scu.sending.journal import Journal


OnResult: TypeAlias = Callable[[InstanceResult], object]
"""Called with each result as soon as it is known."""

_MAX_MEMORY: Final = 64 << 20
"""Limit for queued data sets in memory and in temporary files, bytes; above it, no more are added."""

_LINGER_SECONDS: Final = 2.0
"""Time that an idle association waits for instances that are still being found or retried."""

log = get_logger("scu")


class DeliveryQueue:
    """The instances of one run. It knows no network: workers take instances from it and report their results to it."""

    def __init__(
        self,
        plan: Plan,
        retry: RetryPolicy,
        *,
        journal: Journal | None,
        on_result: OnResult | None,
        fail_fast: bool,
    ) -> None:
        self.results: list[InstanceResult] = []
        self.found = 0
        """Number of instances and unsendable files that were found so far."""
        self.found_bytes = 0
        """Total length of these instances, bytes."""
        self.pending = 0
        """Number of instances without a result."""
        self.journal_error = ""
        """The reason why the journal lacks accepted instances; empty if it is complete."""
        self._plan = plan
        self._retry = retry
        self._journal = journal
        self._on_result = on_result
        self._fail_fast = fail_fast
        self._input_ended = False
        self._stopped = False
        self._delayed = 0
        """Number of instances that wait for the delay before a retry."""
        self._memory = 0
        self._changed = asyncio.Event()
        self._until_finished: set[asyncio.Timeout] = set()

    # Input.

    def add(self, batch: Sequence[Found]) -> None:
        """Add instances, and the results of files that hold none."""
        for one in batch:
            self._add(one)
        self._notify()

    def _add(self, one: Found) -> None:
        self.found += 1
        if isinstance(one, InstanceResult):
            self._report(one)
            return
        self.found_bytes += one.sent_size
        status = self._journal.status_of(one) if self._journal else None
        if status is not None:
            self._report(result_of(one, status=status, reason="accepted in an earlier run", earlier=True))
            return
        self.pending += 1
        self._memory += one.held_bytes
        self._plan.add(one)

    async def wait_for_room(self) -> None:
        """Wait until more instances may be added. Only those in memory and in temporary files are limited."""
        while self._memory > _MAX_MEMORY and not self.finished:
            await self._changed.wait()

    def end_input(self) -> None:
        """Note that no more instances will be added."""
        self._input_ended = True
        self._notify()

    def stop(self) -> None:
        """Start no more requests; requests in flight are completed."""
        self._stopped = True
        self._notify()

    @property
    def finished(self) -> bool:
        """Whether no more requests will be started."""
        return self._stopped or (self._input_ended and not self.pending)

    # Output.

    async def next_plan(self, min_waiting: int) -> AssociationPlan | None:
        """Wait until an association is needed, and return its plan; None at the end of the run.

        If associations with the same contexts are open already, another one is needed only if at least `min_waiting`
        instances wait for each of them.
        """
        while not self.finished:
            plan = self._needed(min_waiting)
            if plan is not None:
                plan.proposed = True
                return plan
            await self._changed.wait()
        return None

    def _needed(self, min_waiting: int) -> AssociationPlan | None:
        for plan in self._plan.associations:
            if plan.waiting and len(plan.waiting) >= plan.open * min_waiting:
                return plan
        return None

    def next_instance(self, plan: AssociationPlan, *, alone: bool, early: bool = False) -> QueuedInstance | None:
        """Return the next instance for an association; None if none may be sent now.

        After a lost association, each instance that was in flight is sent `alone`: if it is the cause, no other
        instance is affected. A worker that cannot send it yet is `early`: it gets none that another association needs.
        """
        if self._stopped or not plan.waiting or (plan.waiting[0].lost and not alone):
            return None
        if early and len(plan.waiting) < plan.open:
            return None
        return plan.waiting.popleft()

    async def wait_for_more(self, plan: AssociationPlan) -> bool:
        """Wait up to `_LINGER_SECONDS` for instances for this association; return whether to keep it open."""
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while not plan.waiting:
                    if self.finished or (self._input_ended and not self._delayed) or self._needed(1) is not None:
                        return False
                    await self._changed.wait()
        except TimeoutError:
            return False
        return not self._stopped

    @contextlib.asynccontextmanager
    async def until_finished(self) -> AsyncIterator[None]:
        """Raise `TimeoutError` in the `async with` block as soon as no more requests will be started."""
        async with asyncio.timeout(0 if self.finished else None) as scope:
            self._until_finished.add(scope)
            try:
                yield
            finally:
                self._until_finished.discard(scope)

    async def pause(self, seconds: float) -> None:
        """Wait for this time, or until no more requests will be started."""
        try:
            async with asyncio.timeout(seconds):
                while not self.finished:
                    await self._changed.wait()
        except TimeoutError:
            return

    def _notify(self) -> None:
        """Wake all tasks that wait for a change."""
        self._changed.set()
        self._changed.clear()
        if self.finished:
            for scope in self._until_finished:
                scope.reschedule(0.0)

    # Results.

    def finish(self, queued: QueuedInstance, result: InstanceResult, *, transient: bool) -> None:
        """Record the result of an instance, or schedule a retry if the failure is `transient` and retries are left."""
        if transient and not self._stopped and self._retry.allows(queued.attempts, time.monotonic() - queued.since):
            log.info(
                "instance_retry_scheduled",
                sop_instance_uid=result.sop_instance_uid,
                attempts=queued.attempts,
                reason=result.reason,
            )
            self._delayed += 1
            asyncio.get_running_loop().call_later(self._retry.delay(queued.attempts), self._requeue_delayed, queued)
            return
        self.pending -= 1
        held = queued.instance.held_bytes
        self._memory -= held
        if result.accepted:
            self._add_to_journal(queued.instance, result)
        elif self._fail_fast:
            self._stopped = True
        self._report(result)
        if held or self.finished:
            # The other waits are for instances to send.
            self._notify()

    def requeue(self, queued: QueuedInstance) -> None:
        """Queue an instance again, as the next one to send."""
        self._plan.requeue(queued)
        self._notify()

    def _requeue_delayed(self, queued: QueuedInstance) -> None:
        self._delayed -= 1
        self.requeue(queued)

    def _add_to_journal(self, instance: Instance, result: InstanceResult) -> None:
        if self._journal is None or result.status is None:
            return
        try:
            self._journal.add(instance, result.status)
        except OSError as error:
            # The peer has accepted it nevertheless; at worst, the next run sends it again.
            if not self.journal_error:
                log.warning("journal_failed", sop_instance_uid=result.sop_instance_uid, reason=reason_of(error))
            self.journal_error = error.strerror or str(error)

    def _report(self, result: InstanceResult) -> None:
        if log.isEnabledFor(logging.INFO):
            _log(result)
        self.results.append(result)
        if self._on_result is not None:
            self._on_result(result)


def _log(result: InstanceResult) -> None:
    log.info(
        "instance_sent" if result.accepted else "instance_not_sent",
        association=result.association,
        sop_class_uid=result.sop_class_uid,
        sop_instance_uid=result.sop_instance_uid,
        transfer_syntax_uid=result.transfer_syntax_uid,
        size=result.size,
        attempts=result.attempts,
        # The reason is only in the report: it may be a message of pydicom that quotes values.
        status=None if result.status is None else str(result.status),
        deviations=dict.fromkeys(result.deviations, 1) or None,
    )


def result_of(
    instance: Instance, *, status: Status | None = None, reason: str, **fields: Unpack[_ResultFields]
) -> InstanceResult:
    """Return the result of an instance."""
    return InstanceResult(
        name=instance.name,
        sop_class_uid=instance.sop_class_uid,
        sop_instance_uid=instance.sop_instance_uid,
        transfer_syntax_uid=instance.transfer_syntax_uid,
        converted_from=instance.converted_from,
        deviations=instance.deviations,
        size=instance.sent_size,
        status=status,
        reason=reason,
        **fields,
    )


class _ResultFields(TypedDict, total=False):
    association: int
    context_id: int
    attempts: int
    seconds: float
    earlier: bool

"""Where instances wait for an association, come back to when they failed, and have their fate written down."""

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

__all__ = ["DeliveryQueue", "OnResult", "result_of"]

OnResult: TypeAlias = Callable[[InstanceResult], object]
"""Called with each result as soon as it is known."""

_MAX_MEMORY: Final = 64 << 20
"""Data sets in memory and in temporary files, bytes, with which no more are taken in until some have gone."""

_LINGER_SECONDS: Final = 2.0
"""How long an association with nothing to do is kept for what may still be found, or tried again."""

log = get_logger("scu")


class DeliveryQueue:
    """The instances of one run. It knows no network: associations fetch their deliveries here, and report back."""

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
        """Instances and refused files that were found so far."""
        self.found_bytes = 0
        """Length of the instances among them."""
        self.unsettled = 0
        """Instances whose fate is open."""
        self.journal_error = ""
        """Why the journal lacks some of what was accepted; empty where it has all."""
        self._plan = plan
        self._retry = retry
        self._journal = journal
        self._on_result = on_result
        self._fail_fast = fail_fast
        self._complete = False
        self._stopped = False
        self._delayed = 0
        self._memory = 0
        self._changed = asyncio.Event()
        self._until_over: set[asyncio.Timeout] = set()

    # What is found.

    def add(self, batch: Sequence[Found]) -> None:
        """Take in what was found: instances, and the results of files that hold none."""
        for one in batch:
            self._add(one)
        self._pulse()

    def _add(self, one: Found) -> None:
        self.found += 1
        if isinstance(one, InstanceResult):
            self._tell(one)
            return
        self.found_bytes += one.sent_size
        status = self._journal.status_of(one) if self._journal else None
        if status is not None:
            self._tell(result_of(one, status=status, reason="accepted in an earlier run", earlier=True))
            return
        self.unsettled += 1
        self._memory += one.held_bytes
        self._plan.add(one)

    async def wait_for_room(self) -> None:
        """Wait until more may be taken in: files wait on disk, data sets in memory do not."""
        while self._memory > _MAX_MEMORY and not self.over:
            await self._changed.wait()

    def complete(self) -> None:
        """Take note that nothing more will be found."""
        self._complete = True
        self._pulse()

    def stop(self) -> None:
        """Give out nothing more."""
        self._stopped = True
        self._pulse()

    @property
    def over(self) -> bool:
        """Whether nothing more is to be sent."""
        return self._stopped or (self._complete and not self.unsettled)

    # What waits.

    async def next_planned(self, worth_another: int) -> AssociationPlan | None:
        """Wait until an association is needed; None is the end.

        One that has others open already is needed where `worth_another` instances wait for each of them.
        """
        while not self.over:
            planned = self._needed(worth_another)
            if planned is not None:
                planned.sealed = True
                return planned
            await self._changed.wait()
        return None

    def _needed(self, worth_another: int) -> AssociationPlan | None:
        for planned in self._plan.associations:
            if planned.waiting and len(planned.waiting) >= planned.open * worth_another:
                return planned
        return None

    def take(self, planned: AssociationPlan, *, alone: bool, early: bool = False) -> QueuedInstance | None:
        """Give the next instance for an association, if one waits.

        One with which an association was lost goes `alone`: should it be the cause, it takes no other with it. Who
        can't send it yet is too `early` where it would be missing elsewhere.
        """
        if self._stopped or not planned.waiting or (planned.waiting[0].lost and not alone):
            return None
        if early and len(planned.waiting) < planned.open:
            return None
        return planned.waiting.popleft()

    async def wait_for_more(self, planned: AssociationPlan) -> bool:
        """Wait a while until something waits for this association; False where it had better be released."""
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while not planned.waiting:
                    if self.over or (self._complete and not self._delayed) or self._needed(1) is not None:
                        return False
                    await self._changed.wait()
        except TimeoutError:
            return False
        return not self._stopped

    @contextlib.asynccontextmanager
    async def until_over(self) -> AsyncIterator[None]:
        """Raise `TimeoutError` in the `async with` block as soon as nothing more is to be sent."""
        async with asyncio.timeout(0 if self.over else None) as scope:
            self._until_over.add(scope)
            try:
                yield
            finally:
                self._until_over.discard(scope)

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until nothing more is to be sent."""
        try:
            async with asyncio.timeout(seconds):
                while not self.over:
                    await self._changed.wait()
        except TimeoutError:
            return

    def _pulse(self) -> None:
        """Wake all who wait for a change."""
        self._changed.set()
        self._changed.clear()
        if self.over:
            for scope in self._until_over:
                scope.reschedule(0.0)

    # What comes back.

    def settle(self, delivery: QueuedInstance, result: InstanceResult, *, may_pass: bool) -> None:
        """Write down the fate of an instance; where a failure `may_pass`, it waits for another try while it has one."""
        elapsed = time.monotonic() - delivery.since
        if may_pass and not self._stopped and self._retry.allows(delivery.attempts, elapsed):
            log.info(
                "instance_retry_scheduled",
                sop_instance_uid=result.sop_instance_uid,
                attempts=delivery.attempts,
                reason=result.reason,
            )
            self._delayed += 1
            asyncio.get_running_loop().call_later(self._retry.delay(delivery.attempts), self._put_back_late, delivery)
            return
        self.unsettled -= 1
        self._memory -= delivery.instance.held_bytes
        if result.accepted:
            self._remember(delivery.instance, result)
        elif self._fail_fast:
            self._stopped = True
        self._tell(result)
        self._pulse()

    def put_back(self, delivery: QueuedInstance) -> None:
        """Let an instance be the next to go."""
        self._plan.put_back(delivery)
        self._pulse()

    def _put_back_late(self, delivery: QueuedInstance) -> None:
        self._delayed -= 1
        self.put_back(delivery)

    def _remember(self, instance: Instance, result: InstanceResult) -> None:
        if self._journal is None or result.status is None:
            return
        try:
            self._journal.add(instance, result.status)
        except OSError as error:
            # The peer has it all the same; at worst it is sent once more.
            if not self.journal_error:
                log.warning("journal_failed", sop_instance_uid=result.sop_instance_uid, reason=reason_of(error))
            self.journal_error = error.strerror or str(error)

    def _tell(self, result: InstanceResult) -> None:
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
        # Not the reason, which the report has: it may be pydicom's, and quote values.
        status=None if result.status is None else str(result.status),
    )


def result_of(
    instance: Instance, *, status: Status | None = None, reason: str, **facts: Unpack[_Facts]
) -> InstanceResult:
    """Make the result of an instance."""
    return InstanceResult(
        name=instance.name,
        sop_class_uid=instance.sop_class_uid,
        sop_instance_uid=instance.sop_instance_uid,
        transfer_syntax_uid=instance.transfer_syntax_uid,
        converted_from=instance.converted_from,
        size=instance.sent_size,
        status=status,
        reason=reason,
        **facts,
    )


class _Facts(TypedDict, total=False):
    association: int
    context_id: int
    attempts: int
    seconds: float
    earlier: bool

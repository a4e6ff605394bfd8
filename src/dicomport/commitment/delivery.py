"""Reports that are taken to a peer on associations from here, for as long as that takes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from dicomport.commitment.association import CommitmentAssociation
from dicomport.dimse import NoContextError
from dicomport.errors import DicomportError
from dicomport.logs import get_logger
from dicomport.net import Address, AssociationError, ConnectionLostError, Timeouts
from dicomport.standard import PROCESSING_FAILURE, RESOURCE_LIMITATION, Status
from dicomport.wire.commitment import CommitmentResult

__all__ = ["Courier", "StoppedError"]

_FIRST_DELAY: Final = 1.0
"""Seconds until the second try; each one that fails doubles them."""

_MAX_DELAY: Final = 3600.0

_TRY_AGAIN: Final = frozenset((PROCESSING_FAILURE.code, RESOURCE_LIMITATION.code))
"""Answers to a report that another time may be better ones."""


class StoppedError(DicomportError):
    """The courier was stopped before there was an answer."""


@dataclass(eq=False, slots=True)
class _Errand:
    make: Callable[[], Awaitable[CommitmentResult]]
    answer: asyncio.Future[Status]


class Courier:
    """Reports to one peer, one report after the other. `run` is the task that does it."""

    def __init__(self, address: Address, *, ae_title: str, called_ae_title: str, timeouts: Timeouts) -> None:
        self._address = address
        self._ae_title = ae_title
        self._called_ae_title = called_ae_title
        self._timeouts = timeouts
        self._log = get_logger("commitment").bind(called=called_ae_title, address=address.host, port=address.port)
        self._errands: deque[_Errand] = deque()
        self._called = asyncio.Event()
        self._stopped = self._reporting = False

    async def deliver(self, make: Callable[[], Awaitable[CommitmentResult]]) -> Status:
        """Report what `make` gives, which is asked for once there is an association, and give the peer's answer.

        Raises `StoppedError`, and whatever `make` raises.
        """
        if self._stopped:
            raise StoppedError
        errand = _Errand(make, asyncio.get_running_loop().create_future())
        self._errands.append(errand)
        self._called.set()
        try:
            return await errand.answer
        finally:
            if errand in self._errands:
                self._errands.remove(errand)

    def stop(self) -> bool:
        """Let `run` end; give whether a report is under way, for whose answer it waits first."""
        self._stopped = True
        self._called.set()
        return self._reporting

    async def run(self) -> None:
        """Deliver whatever there is, until it is stopped; where that fails, again and again, less and less often."""
        self._stopped = False
        try:
            await self._run()
        finally:
            self._stopped = True
            for errand in self._errands:
                if not errand.answer.done():
                    errand.answer.set_exception(StoppedError())

    async def _run(self) -> None:
        delay = _FIRST_DELAY
        while not self._stopped:
            await self._called.wait()
            self._called.clear()
            try:
                await self._deliver_all()
                delay = _FIRST_DELAY
            except (AssociationError, NoContextError) as error:
                self._log.warning(
                    "reports_not_delivered",
                    waiting=len(self._errands),
                    reason=str(error),
                    retry_after_s=delay,
                )
                # A peer that asks anew may well be there again.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._called.wait()
                self._called.set()
                delay = min(2 * delay, _MAX_DELAY)

    async def _deliver_all(self) -> None:
        if not self._errands or self._stopped:
            return
        association = await CommitmentAssociation.open(
            self._address, ae_title=self._ae_title, called_ae_title=self._called_ae_title, timeouts=self._timeouts
        )
        try:
            while self._errands and not self._stopped:
                await self._deliver(association, self._errands[0])
        except BaseException:
            await association.abort()
            raise
        with contextlib.suppress(AssociationError):
            # Each report has its answer.
            await association.release()

    async def _deliver(self, association: CommitmentAssociation, errand: _Errand) -> None:
        try:
            result = await errand.make()
        except Exception as error:  # noqa: BLE001  # it is raised again where the report is waited for
            self._end(errand, error)
            return
        self._reporting = True
        try:
            status = await association.report(result)
        finally:
            self._reporting = False
        if status.code in _TRY_AGAIN:
            self._errands.rotate(-1)
            raise ConnectionLostError(f"the peer could not take a report: {status}")
        self._end(errand, status)

    def _end(self, errand: _Errand, outcome: Status | Exception) -> None:
        if errand not in self._errands:
            return  # Nobody waits for it any more.
        self._errands.remove(errand)
        if isinstance(outcome, Status):
            errand.answer.set_result(outcome)
        else:
            errand.answer.set_exception(outcome)

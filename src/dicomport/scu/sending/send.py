"""`send`: files, folders, archives and data sets go to a peer, and the fate of each is told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from dicomport.net import Address, Timeouts
from dicomport.scu.contexts import NegotiationItems
from dicomport.scu.inputs.background import Sources, feed
from dicomport.scu.results import InstanceResult
from dicomport.scu.sending.delivery_queue import OnResult
from dicomport.scu.sending.report import SendReport
from dicomport.scu.sending.retry import RetryPolicy
from dicomport.scu.sending.sender import Sender, Settings
from dicomport.scu.transform.pipeline import Transform
from dicomport.standard import check_ae_title
from dicomport.wire import Priority

if TYPE_CHECKING:
    from dicomport.scu.sending.journal import Journal

__all__ = ["SendOptions", "Sending", "send"]


class SendOptions(NegotiationItems, total=False):
    """The keyword arguments of `send`."""

    ae_title: str
    called_ae_title: str
    priority: Priority
    tls: ssl.SSLContext | None
    timeouts: Timeouts | None
    associations: int
    window: int
    retry: RetryPolicy | None
    fail_fast: bool
    preparation: Transform | None
    journal: Journal | None
    on_result: OnResult | None


class Sending(Coroutine[Any, Any, SendReport]):
    """A run of `send`: await it for the report, as any coroutine, or iterate over it for the results as they come."""

    def __init__(self, what: Sources, address: Address, settings: Settings, on_result: OnResult | None) -> None:
        self._what = what
        self._on_result = on_result
        self._arrived: asyncio.Queue[InstanceResult | None] | None = None
        """Where results wait that are iterated over."""
        self._sender = Sender(address, settings, self._tell)
        self._running: Coroutine[Any, Any, SendReport] | None = None

    @property
    def found(self) -> int:
        """How many instances, and files that hold none, were found so far."""
        return self._sender.desk.found

    @property
    def found_bytes(self) -> int:
        """The length of those instances, bytes."""
        return self._sender.desk.found_bytes

    def stop(self) -> None:
        """Let what is in flight come to its end, and send nothing more."""
        self._sender.desk.stop()

    def report(self) -> SendReport:
        """Tell what has become of what was sent so far."""
        return self._sender.report()

    def __await__(self) -> Generator[Any, None, SendReport]:
        return self._coroutine().__await__()

    # The rest of a coroutine: `asyncio.run` and `create_task` take nothing less.

    def send(self, value: Any, /) -> Any:
        """Go on until the next wait."""
        return self._coroutine().send(value)

    def throw(
        self,
        kind: type[BaseException] | BaseException,
        value: BaseException | object = None,
        trace: TracebackType | None = None,
        /,
    ) -> Any:
        """Go on with an exception, such as a cancellation."""
        return self._coroutine().throw(value if isinstance(value, BaseException) else kind)

    def close(self) -> None:
        """End it where it stands."""
        if self._running is not None:
            self._running.close()

    def _coroutine(self) -> Coroutine[Any, Any, SendReport]:
        if self._running is None:
            self._running = self._run()
        return self._running

    def __aiter__(self) -> AsyncIterator[InstanceResult]:
        return self.results()

    async def results(self) -> AsyncGenerator[InstanceResult, None]:
        """Send, and give the results as they come; closing the generator before its end aborts the associations."""
        arrived = self._arrived = asyncio.Queue()
        running = asyncio.create_task(self._run())
        running.add_done_callback(lambda _: arrived.put_nowait(None))
        try:
            while (result := await arrived.get()) is not None:
                yield result
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _run(self) -> SendReport:
        await self._sender.run(feed(self._what))
        return self._sender.report()

    def _tell(self, result: InstanceResult) -> None:
        if self._arrived is not None:
            self._arrived.put_nowait(result)
        if self._on_result is not None:
            self._on_result(result)


def send(
    what: Sources,
    host: str,
    port: int,
    *,
    ae_title: str = "DICOMPORT",
    called_ae_title: str = "ANY-SCP",
    priority: Priority = Priority.MEDIUM,
    tls: ssl.SSLContext | None = None,
    timeouts: Timeouts | None = None,
    associations: int = 2,
    window: int = 16,
    retry: RetryPolicy | None = None,
    fail_fast: bool = False,
    preparation: Transform | None = None,
    journal: Journal | None = None,
    on_result: OnResult | None = None,
    **negotiation: Unpack[NegotiationItems],
) -> Sending:
    """Send files, whole folders and data sets, and tell the fate of each. A failure of one never stops the others.

    What it returns is awaited for the report (`report = await send(...)`), or iterated over for the results as they
    come (`async for result in send(...)`). Cancelling either aborts the associations; `stop()` lets what is in flight
    end.

    Only the file meta is read to plan; sending begins while a large folder is still walked. The contexts proposed are
    those that the instances need, in as many associations as that takes, `associations` of them at once at most, each
    with up to `window` operations outstanding where the peer grants them (PS3.7 D.3.3.3; 1 negotiates none). Data sets
    are streamed as they are; `preparation` may convert or edit them. What may pass is tried again as `retry` says.
    With a `journal`, what the peer has accepted in an earlier run is not sent again. `fail_fast` ends the run with the
    first failure that is final.

    Nothing is raised for what happens on the way: it is in the report. Raises `ValueError` for arguments that make no
    request.
    """
    if associations < 1 or window < 1:
        raise ValueError("there is at least one association, and one operation outstanding on it")
    settings = Settings(
        ae_title=check_ae_title(ae_title),
        called_ae_title=check_ae_title(called_ae_title),
        priority=priority,
        timeouts=timeouts or Timeouts(),
        associations=associations,
        window=window,
        retry=retry or RetryPolicy(),
        fail_fast=fail_fast,
        preparation=preparation or Transform(),
        journal=journal,
        negotiation=negotiation,
    )
    return Sending(what, Address(host, port, tls), settings, on_result)

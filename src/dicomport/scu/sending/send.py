"""`send`: send files, folders, archives and data sets to a peer, and return the result of each."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from dicomport.net import Address, Timeouts
from dicomport.scu.contexts import NegotiationItems
from dicomport.scu.inputs.background import Sources, each_source, feed
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
    transform: Transform | None
    journal: Journal | None
    on_result: OnResult | None


class Sending(Coroutine[Any, Any, SendReport]):
    """A run of `send`: await it for the report, like any coroutine, or iterate over it for the results."""

    def __init__(self, sources: Sources, address: Address, settings: Settings, on_result: OnResult | None) -> None:
        self._sources = sources
        self._on_result = on_result
        self._arrived: asyncio.Queue[InstanceResult | None] | None = None
        """Results for the iterator over this run; None without one."""
        self._sender = Sender(address, settings, self._report)
        self._running: Coroutine[Any, Any, SendReport] | None = None

    @property
    def found(self) -> int:
        """Number of instances and unsendable files that were found so far."""
        return self._sender.queue.found

    @property
    def found_bytes(self) -> int:
        """Total length of these instances, bytes."""
        return self._sender.queue.found_bytes

    def stop(self) -> None:
        """Complete the requests in flight, then end the run."""
        self._sender.queue.stop()

    def report(self) -> SendReport:
        """Return the results so far."""
        return self._sender.report()

    def __await__(self) -> Generator[Any, None, SendReport]:
        return self._coroutine().__await__()

    # The other methods of a coroutine, which `asyncio.run` and `create_task` require.

    def send(self, value: Any, /) -> Any:
        """Resume the coroutine until its next wait."""
        return self._coroutine().send(value)

    def throw(
        self,
        kind: type[BaseException] | BaseException,
        value: BaseException | object = None,
        trace: TracebackType | None = None,
        /,
    ) -> Any:
        """Raise an exception in the coroutine, such as a cancellation."""
        return self._coroutine().throw(value if isinstance(value, BaseException) else kind)

    def close(self) -> None:
        """Close the coroutine."""
        if self._running is not None:
            self._running.close()

    def _coroutine(self) -> Coroutine[Any, Any, SendReport]:
        if self._running is None:
            self._running = self._run()
        return self._running

    def __aiter__(self) -> AsyncIterator[InstanceResult]:
        return self.results()

    async def results(self) -> AsyncGenerator[InstanceResult, None]:
        """Send, and yield the results as they arrive. Closing the generator early aborts the associations."""
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
        await self._sender.run(feed(self._sources))
        return self._sender.report()

    def _report(self, result: InstanceResult) -> None:
        if self._arrived is not None:
            self._arrived.put_nowait(result)
        if self._on_result is not None:
            self._on_result(result)


def send(
    sources: Sources,
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
    transform: Transform | None = None,
    journal: Journal | None = None,
    on_result: OnResult | None = None,
    **negotiation: Unpack[NegotiationItems],
) -> Sending:
    """Send instances to a peer, and return the result of each. A failure of one never stops the others.

    Await the returned object for the report (`report = await send(...)`), or iterate over it for the results as they
    arrive (`async for result in send(...)`). Cancelling either aborts the associations; `stop()` completes the requests
    in flight.

    `sources` is one source or an iterable of them: paths of files, folders, DICOMDIRs and archives, globs, data
    sets and instances, as `Source` lists. Only their headers are read before they are sent, and sending begins
    while large folders are still being read. The proposed contexts are those that the instances need, on as many
    associations as that takes: at most `associations` at once (default 2), each with up to `window` outstanding
    operations if the peer grants them (default 16; 1 negotiates no window, PS3.7 D.3.3.3). Data sets are streamed
    byte for byte, unless `transform` converts or edits them. Transient failures are retried as `retry` allows.
    Instances that a `journal` lists as accepted are not sent again. `fail_fast` ends the run with the first final
    failure. `negotiation` holds further items of the association request.

    Failures of files, associations and instances are not raised but reported. Raises `ValueError` for arguments that
    make no valid request and for an empty path, and `TypeError` for bytes, open files and other objects.
    """
    if associations < 1 or window < 1:
        raise ValueError(f"associations and window must be at least 1, not {associations} and {window}")
    settings = Settings(
        ae_title=check_ae_title(ae_title),
        called_ae_title=check_ae_title(called_ae_title),
        priority=priority,
        timeouts=timeouts or Timeouts(),
        associations=associations,
        window=window,
        retry=retry or RetryPolicy(),
        fail_fast=fail_fast,
        transform=transform or Transform(),
        journal=journal,
        negotiation=negotiation,
    )
    return Sending(each_source(sources), Address(host, port, tls), settings, on_result)

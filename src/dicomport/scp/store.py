"""The C-STORE requests of one association, from the command to the response (PS3.4 Annex B, PS3.7 9.1.1).

Theory of operation
-------------------
All of this runs in the task that owns the association, except for `commit` if the peer has negotiated several
outstanding operations (PS3.7 D.3.3.3). The functions below are in the order in which an instance passes them.

1. `serve` checks the request and calls `begin` of the storage, before it reads the data set. The result is a sink, or
   the status that refuses the instance.
2. Each fragment of the data set is passed to the sink's `write`, as a view of the receive buffer. The next fragment is
   read after `write` has returned, so a slow disk stops the reading, TCP flow control stops the peer, and memory stays
   bounded. The data set of a refused instance is read and dropped, because most peers read no response before they
   have sent all.
3. After the last fragment, `commit` makes the instance safe. Without an operations window, the task waits for it.
   Otherwise each commit runs in its own task while the next instance is received; with as many commits as the
   window allows, the association reads nothing.
4. Only the status that `commit` has returned becomes a response, so 0x0000 means that the instance is safe. A response
   is written between two messages of the peer, in the order in which commits end, by the task that owns the
   association: it alone writes to the core.

If the association ends inside a data set, the sink's `discard` removes the bytes that were written. If it ends after a
data set, the commit still runs to its end, because the instance arrived completely; only a shutdown cancels it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Coroutine
from dataclasses import field
from typing import Any, Final, Generic, NamedTuple, TypeVar

from dicomport.containment import as_exception
from dicomport.core import AcceptedContext
from dicomport.dimse import response_to
from dicomport.errors import DicomportError
from dicomport.logs import Logger, reason_of
from dicomport.net import Connection
from dicomport.scp.receiving import DataSetReceiver
from dicomport.scp.requests import AssociationInfo, StoreOperation
from dicomport.scp.settings import ServiceSettings
from dicomport.scp.sinks import Sink, deviations_of, is_direct_sink, quarantine_path_of, status_of, study_of
from dicomport.standard import (
    INVALID_OBJECT_INSTANCE,
    MAX_UID_LENGTH,
    OUT_OF_RESOURCES,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    VERIFICATION,
    Status,
    sop_classes,
)
from dicomport.values import slotted
from dicomport.wire import Buffer, CStoreRQ, Element

WRONG_SOP_CLASS: Final = Status(
    SOP_CLASS_NOT_SUPPORTED.code, "the SOP Class differs from that of the presentation context"
)
_NOT_STORAGE: Final = Status(SOP_CLASS_NOT_SUPPORTED.code, "not a storage SOP Class")
_NO_DATA_SET: Final = Status(INVALID_OBJECT_INSTANCE.code, "the request has no data set")
_UID_TOO_LONG: Final = Status(
    INVALID_OBJECT_INSTANCE.code, "SOP Instance UID is longer than 64 characters", (Element.AFFECTED_SOP_INSTANCE_UID,)
)


T = TypeVar("T")


class PendingOperations(Generic[T]):
    """Completes operations, as many at once as the operations window allows (PS3.7 D.3.3.3).

    With a window of one, each operation is completed before the next message is read. A peer that sends several
    requests without having negotiated a window is served in order, and its requests wait in the socket.
    """

    def __init__(self, window: int, wake: Callable[[], None]) -> None:
        """Prepare for up to `window` operations; call `wake` when a separate task has completed one."""
        self._window = window
        self._wake = wake
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready: list[T] = []

    def __len__(self) -> int:
        """Return the number of operations that are being completed."""
        return len(self._tasks)

    async def add(self, completion: Coroutine[Any, Any, T]) -> None:
        """Complete an operation, or start to complete it and wait until the window has room for another one."""
        if self._window == 1:
            result = await completion
            self._ready.append(result)
            return
        task = asyncio.create_task(self._complete(completion))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        while len(self._tasks) >= self._window:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    def put(self, result: T) -> None:
        """Add the result of an operation that has been completed."""
        self._ready.append(result)

    def take(self) -> list[T]:
        """Remove and return the results of the operations that have been completed."""
        ready, self._ready = self._ready, []
        return ready

    async def wait(self) -> None:
        """Wait until all operations have been completed."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def cancel(self) -> None:
        """Cancel the operations that are being completed."""
        for task in self._tasks:
            task.cancel()

    async def _complete(self, completion: Coroutine[Any, Any, T]) -> None:
        result = await completion
        self._ready.append(result)  # Read `_ready` after the wait: `take` replaces it.
        self._wake()


@slotted
class StoreCounts:
    """Numbers of instances of an association, by the result that was sent."""

    stored: int = 0
    refused: int = 0
    deviations: Counter[str] = field(default_factory=Counter)
    """Tolerated deviations of the data sets, by name."""


class _Completed(NamedTuple):
    """A C-STORE operation that awaits its response."""

    operation: StoreOperation
    target: Sink | Status
    """The sink of the instance, or the status that refused it."""
    status: Status
    size: int
    """Length of the data set, bytes."""


class Begun(NamedTuple):
    """An instance that the straight path leaves to the general one."""

    operation: StoreOperation
    target: Sink | Status
    """The sink of the instance, or the status that refuses it."""
    size: int
    """Number of bytes received of its data set."""
    is_complete: bool
    """Whether that is the whole data set."""
    failure: Exception | None
    """The error of the storage or the sink."""
    status: Status | None
    """The result of the instance's commit."""


class StoreService:
    """Serves the C-STORE requests of one association."""

    def __init__(
        self,
        connection: Connection,
        data_sets: DataSetReceiver,
        settings: ServiceSettings,
        association: AssociationInfo,
        *,
        window: int,
        wake: Callable[[], None],
        counts: StoreCounts,
        log: Logger,
    ) -> None:
        """Serve up to `window` operations at once, and call `wake` when a separate task has completed an operation."""
        self.association = association
        self.pending: PendingOperations[_Completed] = PendingOperations(window, wake)
        self._core = connection.core
        self._counters = connection.counters
        self._data_sets = data_sets
        self._settings = settings
        self._counts = counts
        self._log = log

    def begin(self, context: AcceptedContext, command: CStoreRQ) -> StoreOperation:
        """Return the operation of a request."""
        return StoreOperation(self.association, context, command, self._settings.memory)

    async def serve(self, context: AcceptedContext, command: CStoreRQ) -> None:
        """Receive an instance and commit it, or start to commit it if the operations window allows another one."""
        operation = self.begin(context, command)
        self._data_sets.start(self._settings.limits.instance_bytes)
        target = await self._receive(operation, None) if command.has_data_set else _NO_DATA_SET
        await self._finish(operation, target)

    async def resume(self, begun: Begun) -> None:
        """Continue with an instance that the straight path has begun."""
        operation, target = begun.operation, begun.target
        self._data_sets.resume(begun.size, self._settings.limits.instance_bytes)
        if begun.failure is not None:
            target = await self._fail(target, begun.failure)
        if begun.status is not None:
            self.pending.put(_Completed(operation, target, begun.status, begun.size))
            return
        if not begun.is_complete:
            target = await self._receive(operation, target)
        await self._finish(operation, target)

    async def abandon(self, operation: StoreOperation, target: Sink | Status, size: int) -> None:
        """Discard an instance whose data set does not arrive completely."""
        await self._discard(target)
        self._log.warning("instance_incomplete", sop_instance_uid=operation.sop_instance_uid, size=size)

    def refusal(self, operation: StoreOperation) -> Status | None:
        """Return the status that refuses a request before its data set is received, or None."""
        return _refusal(operation, self._settings.normalized.sop_classes)

    async def _receive(self, operation: StoreOperation, target: Sink | Status | None) -> Sink | Status:
        """Write the data set of an instance to its sink; return that, or the status that refuses the instance.

        Begin with the storage's sink if there is no target yet.
        """
        data_sets, max_bytes = self._data_sets, self._settings.limits.instance_bytes
        try:
            if target is None:
                target = PROCESSING_FAILURE
                target = self.refusal(operation) or await self._begin(operation)
            last = False
            while not last:
                data, last = await data_sets.next()
                if data_sets.size > max_bytes:
                    target = await self._refuse_length(target)
                target = await self._write(target, data)
        except BaseException:
            await self.abandon(operation, target or PROCESSING_FAILURE, data_sets.size)
            raise
        return target

    async def _begin(self, operation: StoreOperation) -> Sink | Status:
        try:
            return await self._settings.storage.begin(operation)
        except BaseException as error:  # noqa: BLE001  # a storage is the user's code: any exception becomes a status
            return self._failure(as_exception(error))

    async def _refuse_length(self, target: Sink | Status) -> Status:
        """Refuse a data set that is too long, unless the instance is refused already."""
        if isinstance(target, Status):
            return target
        self._counters.limit("instance_bytes")
        await self._discard(target)
        return Status(OUT_OF_RESOURCES.code, f"longer than {self._settings.limits.instance_bytes} bytes")

    async def _write(self, target: Sink | Status, data: Buffer) -> Sink | Status:
        if isinstance(target, Status):
            return target
        try:
            await target.write(data)
        except BaseException as error:  # noqa: BLE001  # see _begin
            return await self._fail(target, as_exception(error))
        return target

    async def _finish(self, operation: StoreOperation, target: Sink | Status) -> None:
        """Commit an instance, or start to commit it if that has to wait and the operations window allows another."""
        size = self._data_sets.size
        status = target if isinstance(target, Status) else await self._commit_now(target)
        if status is not None:
            self.pending.put(_Completed(operation, target, status, size))
        elif not isinstance(target, Status):
            await self.pending.add(self._complete(operation, target, size))

    async def _commit_now(self, target: Sink) -> Status | None:
        """Commit an instance if its sink does not have to wait for that."""
        if not is_direct_sink(target):
            return None
        try:
            return target.commit_now()
        except BaseException as error:  # noqa: BLE001  # see _begin
            return await self._fail(target, as_exception(error))

    async def _complete(self, operation: StoreOperation, target: Sink, size: int) -> _Completed:
        return _Completed(operation, target, await self._commit(target), size)

    async def _commit(self, target: Sink) -> Status:
        try:
            return await target.commit()
        except BaseException as error:  # noqa: BLE001  # see _begin
            return await self._fail(target, as_exception(error))

    async def _fail(self, target: Sink | Status, error: Exception) -> Status:
        """Discard an instance whose sink has raised an error; return the status of the response."""
        await self._discard(target)
        return self._failure(error)

    async def _discard(self, target: Sink | Status) -> None:
        if isinstance(target, Status):
            return
        try:
            await target.discard()
        except BaseException as error:  # noqa: BLE001  # see _begin; the peer is answered with the first failure
            self._log.error("discard_failed", exc_info=as_exception(error))

    def _failure(self, error: Exception) -> Status:
        if isinstance(error, OSError) and not isinstance(error, DicomportError):
            self._log.error("storage_failed", reason=reason_of(error))
            return status_of(error)
        self._log.error("storage_raised", exc_info=error)
        return PROCESSING_FAILURE

    def send_responses(self) -> None:
        """Write the responses that are ready to the core. Call this only between two messages of the peer."""
        for completed in self.report():
            operation, status = completed.operation, completed.status
            self._core.send_command(operation.context.context_id, response_to(operation.command, status))

    def report(self) -> list[_Completed]:
        """Log and count the completed operations, call `on_stored` with each, and return them."""
        ready = self.pending.take()
        for completed in ready:
            self.count(*completed)
        return ready

    def count(self, operation: StoreOperation, target: Sink | Status, status: Status, size: int) -> None:
        """Log and count a completed operation, and call `on_stored` with it."""
        if self._settings.on_stored is not None:
            try:
                self._settings.on_stored(operation, status, size)
            except BaseException as error:  # noqa: BLE001  # the user's code; the result of the instance is known already
                uid = operation.sop_instance_uid
                self._log.error("on_stored_raised", sop_instance_uid=uid, exc_info=as_exception(error))
        accepted = status.accepted
        self._counts.stored += accepted
        self._counts.refused += not accepted
        deviations = deviations_of(target)
        if deviations:
            self._counts.deviations.update(deviations)
        level = logging.INFO if accepted else logging.WARNING
        if not self._log.isEnabledFor(level):
            return
        self._log.log(
            level,
            "instance_stored" if accepted else "instance_refused",
            sop_class_uid=operation.sop_class_uid,
            sop_instance_uid=operation.sop_instance_uid,
            transfer_syntax_uid=operation.transfer_syntax_uid,
            study_instance_uid=study_of(target),
            deviations=dict.fromkeys(deviations, 1) or None,
            size=size,
            status=str(status),
            quarantine_path=quarantine_path_of(target),
        )


def _refusal(operation: StoreOperation, normalized: Collection[str]) -> Status | None:
    """Return the status that refuses a request before its data set is received, or None."""
    requested, negotiated = operation.sop_class_uid, operation.context.abstract_syntax
    known = sop_classes.find(requested)
    if requested != negotiated and (known is None or known is not sop_classes.find(negotiated)):
        return WRONG_SOP_CLASS
    if negotiated == VERIFICATION or negotiated in normalized:
        return _NOT_STORAGE
    if len(operation.sop_instance_uid) > MAX_UID_LENGTH:
        return _UID_TOO_LONG
    return None

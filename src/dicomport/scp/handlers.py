"""Handlers: functions that are called with each received instance and say what becomes of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard

from dicomport.files import BLOCK_BYTES
from dicomport.logs import get_logger
from dicomport.scp.callbacks import call
from dicomport.scp.errors import UndecodableDataSetError
from dicomport.scp.requests import StoreOperation, StoreRequest
from dicomport.scp.sinks import Sink
from dicomport.scp.spool import SpooledDataSet
from dicomport.standard import (
    HANDLER_RAISED,
    HANDLER_STATUS_INVALID,
    HANDLER_STATUS_MISSING,
    UNDECODABLE_DATA_SET,
    Status,
)
from dicomport.wire import Buffer, encode_file_meta

if TYPE_CHECKING:
    import pydicom

__all__ = ["Handler", "HandlerResult", "HandlerStorage"]

HandlerResult: TypeAlias = "int | Status | pydicom.Dataset"
"""What a handler returns: a status code, a `Status`, or a data set with Status, Error Comment, Offending Element."""

Handler: TypeAlias = Callable[[StoreRequest], "HandlerResult | Awaitable[HandlerResult]"]
"""A function or a coroutine function. One that is no coroutine function is called in a thread, and may block."""

_MAX_THREADS: Final = 32
"""Handlers that are no coroutines and run at the same time."""

log = get_logger("scp")


class HandlerStorage:
    """Calls a handler for each instance, once its data set is complete."""

    def __init__(self, handler: Handler, spool_bytes: int = BLOCK_BYTES, spool_folder: Path | None = None) -> None:
        """Spool up to `spool_bytes` of a data set in memory, beyond that in a temporary file in `spool_folder`."""
        self._handler = handler
        self._spool_bytes = spool_bytes
        self._spool_folder = spool_folder
        # Threads of their own: handlers that take long must not keep instances of others from the disk.
        self._threads = ThreadPoolExecutor(_MAX_THREADS, "dicomport-handler")

    async def begin(self, operation: StoreOperation) -> Sink:
        """Take any instance: the handler decides."""
        header = encode_file_meta(operation.file_meta)
        spool = SpooledDataSet(header, self._spool_bytes, self._spool_folder, operation.memory)
        return _HandlerSink(self._handler, operation, spool, self._threads)


class _HandlerSink:
    def __init__(
        self, handler: Handler, operation: StoreOperation, spool: SpooledDataSet, threads: ThreadPoolExecutor
    ) -> None:
        self._handler = handler
        self._operation = operation
        self._spool = spool
        self._threads = threads

    async def write(self, data: Buffer) -> None:
        await self._spool.write(data)

    async def commit(self) -> Status:
        operation = self._operation
        request = StoreRequest(
            operation.association, operation.context, operation.command, operation.memory, self._spool
        )
        try:
            return _status(await call(self._handler, self._threads, request))
        except UndecodableDataSetError as error:
            log.warning("data_set_undecodable", sop_instance_uid=operation.sop_instance_uid, reason=str(error))
            return UNDECODABLE_DATA_SET
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise  # The server ends; else it is something that the handler waited for, and a failure like others.
            log.exception("handler_raised", sop_instance_uid=operation.sop_instance_uid)
            return HANDLER_RAISED
        finally:
            self._spool.close()

    async def discard(self) -> None:
        self._spool.close()


def _status(verdict: object) -> Status:
    """Make a status of what a handler returned; what it got wrong has a status of its own."""
    if isinstance(verdict, Status):
        return verdict
    if _is_code(verdict):
        return Status(verdict)
    # A handler that returns a data set has imported pydicom; nobody else needs to.
    pydicom = sys.modules.get("pydicom")
    if pydicom is None or not isinstance(verdict, pydicom.Dataset):
        log.error("handler_status_invalid", returned=type(verdict).__name__)
        return HANDLER_STATUS_INVALID
    if "Status" not in verdict:
        log.error("handler_status_missing")
        return HANDLER_STATUS_MISSING
    if not _is_code(verdict.Status):
        log.error("handler_status_invalid", returned="a data set whose Status is no number of 16 bits")
        return HANDLER_STATUS_INVALID
    return Status.of(verdict.Status, str(verdict.get("ErrorComment") or ""), _tags(verdict.get("OffendingElement")))


def _is_code(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0xFFFF


def _tags(value: Any) -> tuple[int, ...]:
    """Read Offending Element (0000,0901), which pydicom gives as one tag or as several."""
    if value is None:
        return ()
    return (int(value),) if isinstance(value, int) else tuple(int(tag) for tag in value)

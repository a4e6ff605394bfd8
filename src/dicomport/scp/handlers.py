"""Handlers: functions that are called with each received instance and return its status."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard

from dicomport.files import BLOCK_BYTES
from dicomport.logs import get_logger
from dicomport.scp.callbacks import InThread, call, in_pool
from dicomport.scp.decoding import UndecodableDataSetError
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
from dicomport.wire import Buffer

if TYPE_CHECKING:
    import pydicom


HandlerResult: TypeAlias = "int | Status | pydicom.Dataset"
"""Result of a handler: a status code, a `Status`, or a data set with Status, Error Comment and Offending Element."""

Handler: TypeAlias = Callable[[StoreRequest], "HandlerResult | Awaitable[HandlerResult]"]
"""A function that is called in a thread and may block, or a coroutine function."""

_MAX_THREADS: Final = 32
"""Maximum handlers in threads at the same time."""

log = get_logger("scp")


class HandlerStorage:
    """Calls a handler for each instance when its data set is complete."""

    def __init__(self, handler: Handler, spool_bytes: int = BLOCK_BYTES, spool_folder: Path | None = None) -> None:
        """Prepare. Data sets above `spool_bytes` are held in a temporary file in `spool_folder` (default: TMPDIR)."""
        self._handler = handler
        self._spool_bytes = spool_bytes
        self._spool_folder = spool_folder
        # Separate threads: slow handlers must not delay the writing of other instances.
        self._in_thread = in_pool(ThreadPoolExecutor(_MAX_THREADS, "dicomport-handler"))

    async def begin(self, operation: StoreOperation) -> Sink:
        """Accept any instance; the handler returns its status."""
        header = operation.file_header
        spool = SpooledDataSet(header, self._spool_bytes, self._spool_folder, operation.memory)
        return _HandlerSink(self._handler, operation, spool, self._in_thread)


class _HandlerSink:
    def __init__(self, handler: Handler, operation: StoreOperation, spool: SpooledDataSet, in_thread: InThread) -> None:
        self._handler = handler
        self._operation = operation
        self._spool = spool
        self._in_thread = in_thread

    async def write(self, data: Buffer) -> None:
        await self._spool.write(data)

    async def commit(self) -> Status:
        operation = self._operation
        request = StoreRequest(
            operation.association, operation.context, operation.command, operation.memory, self._spool
        )
        try:
            return _status(await call(self._handler, self._in_thread, request))
        except UndecodableDataSetError as error:
            log.warning("data_set_undecodable", sop_instance_uid=operation.sop_instance_uid, reason=str(error))
            return UNDECODABLE_DATA_SET
        except Exception:
            log.exception("handler_raised", sop_instance_uid=operation.sop_instance_uid)
            return HANDLER_RAISED
        finally:
            self._spool.close()

    async def discard(self) -> None:
        self._spool.close()


def _status(result: object) -> Status:
    """Convert the result of a handler to a status. An invalid result has its own status."""
    if isinstance(result, Status):
        return result
    if _is_code(result):
        return Status(result)
    # A handler that returns a data set has imported pydicom; other handlers do not need it.
    pydicom = sys.modules.get("pydicom")
    if pydicom is None or not isinstance(result, pydicom.Dataset):
        log.error("handler_status_invalid", returned=type(result).__name__)
        return HANDLER_STATUS_INVALID
    if "Status" not in result:
        log.error("handler_status_missing")
        return HANDLER_STATUS_MISSING
    if not _is_code(result.Status):
        log.error("handler_status_invalid", returned="a data set whose Status is not a 16-bit number")
        return HANDLER_STATUS_INVALID
    return Status(result.Status, str(result.get("ErrorComment") or ""), _tags(result.get("OffendingElement")))


def _is_code(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0xFFFF


def _tags(value: Any) -> tuple[int, ...]:
    """Return the tags of Offending Element (0000,0901), which pydicom represents as one tag or a list."""
    if value is None:
        return ()
    return (int(value),) if isinstance(value, int) else tuple(int(tag) for tag in value)

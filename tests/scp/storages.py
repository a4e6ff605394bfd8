"""Storages that record their calls, and fail in the configured method."""

from dataclasses import dataclass, field

from dicomport import Sink, Status, StoreOperation
from dicomport.standard import SUCCESS
from dicomport.wire import Buffer

__all__ = ["Recorder"]


@dataclass
class Recorder:
    """Keeps each data set and the calls for it in memory; `fails` names the method that raises."""

    fails: str = ""
    error: BaseException = field(default_factory=lambda: OSError("nothing"))
    refusal: Status | None = None
    calls: list[str] = field(default_factory=list)
    """In order: "begin", "write" (once for each run of them), "commit", "discard"."""
    operations: list[StoreOperation] = field(default_factory=list)
    data: dict[str, bytes] = field(default_factory=dict)
    """Committed data sets by SOP Instance UID."""

    async def begin(self, operation: StoreOperation) -> Sink | Status:
        self.called("begin")
        self.operations.append(operation)
        return self.refusal or _RecordingSink(self, operation.sop_instance_uid)

    def called(self, what: str) -> None:
        if not (what == "write" and self.calls[-1] == "write"):
            self.calls.append(what)
        if what == self.fails:
            raise self.error


class _RecordingSink:
    def __init__(self, recorder: Recorder, sop_instance_uid: str) -> None:
        self._recorder = recorder
        self._sop_instance_uid = sop_instance_uid
        self._data = bytearray()

    async def write(self, data: Buffer) -> None:
        self._recorder.called("write")
        self._data += data

    async def commit(self) -> Status:
        self._recorder.called("commit")
        self._recorder.data[self._sop_instance_uid] = bytes(self._data)
        return SUCCESS

    async def discard(self) -> None:
        self._recorder.called("discard")

"""A scripted SCU of storage commitment, and a scripted check of integrity."""

import asyncio
import contextlib
import logging
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.scp.storages import Recorder

from dicomport import Address, CommitmentLimits, CommitmentSCP, Limits, SOPReference, Status, StorageSCP
from dicomport.commitment.data_sets import CommitmentRequest, CommitmentResult
from dicomport.core import AcceptedContext
from dicomport.scp import DEFAULT_LIMITS
from dicomport.testing import Message, Peer, ScriptedSCU
from dicomport.wire import NActionRQ, NActionRSP, NEventReportRQ

COMMITMENT: Final = "1.2.840.10008.1.20.1"
INSTANCE: Final = "1.2.840.10008.1.20.1.1"
CT: Final = "1.2.840.10008.5.1.4.1.1.2"
MAX_BYTES: Final = 1 << 24
TIMEOUT: Final = 30.0


def references(*uids: str) -> tuple[SOPReference, ...]:
    return tuple(SOPReference(CT, uid) for uid in uids)


class Gate:
    """Open or closed; tasks wait until another thread opens it. The thread of a cancelled task does not wait on."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = True

    def set(self) -> None:
        self._change(is_open=True)

    def clear(self) -> None:
        self._change(is_open=False)

    def _change(self, *, is_open: bool) -> None:
        with self._changed:
            self._open = is_open
            self._changed.notify_all()

    async def passed(self) -> None:
        cancelled = False

        def wait() -> None:
            with self._changed:
                self._changed.wait_for(lambda: self._open or cancelled, TIMEOUT)

        try:
            await asyncio.to_thread(wait)
        except asyncio.CancelledError:
            with self._changed:
                cancelled = True
                self._changed.notify_all()
            raise


@dataclass
class Keeper:
    """A check with configured statuses, which waits for `may_look`."""

    lost: Mapping[str, int] = field(default_factory=dict)
    """Statuses by SOP Instance UID; other instances are committed."""
    may_look: Gate = field(default_factory=Gate)
    asked: list[tuple[str, ...]] = field(default_factory=list)
    error: BaseException | None = None

    async def look_up(self, wanted: Sequence[SOPReference]) -> list[Status]:
        self.asked.append(tuple(one.sop_instance_uid for one in wanted))
        await self.may_look.passed()
        if self.error is not None:
            raise self.error
        return [Status(self.lost.get(one.sop_instance_uid, 0)) for one in wanted]


@dataclass
class Serving:
    """A running SCP of storage commitment."""

    scp: StorageSCP
    folder: Path

    @property
    def port(self) -> int:
        return self.scp.port

    def kept(self) -> list[Path]:
        """List the requests that are not reported on yet."""
        return sorted(self.folder.rglob("*.json"))


class Log(logging.Handler):
    """Collects the log events of commitments, and waits for them."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.events: list[str] = []
        self._changed = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self.events.append(record.getMessage().split()[0])
            self._changed.notify_all()

    def await_event(self, event: str, count: int = 1) -> None:
        """Wait until an event was logged so often."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.events.count(event) >= count, TIMEOUT), self.events


@contextlib.contextmanager
def serving(
    keeper: Any,
    folder: Path,
    *,
    port: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    commitment_limits: CommitmentLimits | None = None,
    **options: Any,
) -> Iterator[Serving]:
    """Serve; `port` is where the SCU "SCRIPTED" listens."""
    report_to = {} if port is None else {"SCRIPTED": Address("127.0.0.1", port)}
    commitment = CommitmentSCP(
        keeper,
        folder,
        report_to=report_to,
        ae_title="ARCHIVE",
        limits=commitment_limits or CommitmentLimits(),
        **options,
    )
    shared = {name: options[name] for name in ("timeouts",) if name in options}
    with StorageSCP(Recorder(), port=0, commitment=commitment, limits=limits, **shared).in_thread() as scp:
        yield Serving(scp, folder)


class SCU(ScriptedSCU):
    """Asks for commitment."""

    def __init__(
        self,
        port: int,
        calling: str = "SCRIPTED",
        transfer_syntaxes: Sequence[str] = (),
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        local: str = "",
    ) -> None:
        super().__init__(host, port, tls=tls, source=local)
        self.associate(
            (COMMITMENT, transfer_syntaxes) if transfer_syntaxes else COMMITMENT, CT, calling=calling, called="ARCHIVE"
        )
        self.context: AcceptedContext = next(iter(self.contexts.values()))

    def act(self, data: bytes, **changed: Any) -> int:
        """Send an N-ACTION with any data set, and return the status of the response."""
        values: dict[str, Any] = {
            "has_data_set": True,
            "message_id": 1,
            "requested_sop_class_uid": COMMITMENT,
            "requested_sop_instance_uid": INSTANCE,
            "action_type_id": 1,
        }
        self.send_message(self.context.context_id, NActionRQ(**values | changed), data)
        return self.expect(NActionRSP).command.status

    def ask(self, transaction: str, *uids: str) -> int:
        """Request the commitment of CT images, and return the status of the response."""
        request = CommitmentRequest(transaction, references(*uids))
        return self.act(request.encode(self.context.transfer_syntax))


def expect_report(peer: Peer, status: int = 0) -> tuple[int, CommitmentResult]:
    """Read a report and answer it; return its event type and its content."""
    report = peer.expect(NEventReportRQ)
    peer.answer(report, status)
    return said(peer, report)


def said(peer: Peer, report: Message[NEventReportRQ]) -> tuple[int, CommitmentResult]:
    """Read a report's data set."""
    syntax = peer.contexts[report.context_id].transfer_syntax
    return report.command.event_type_id, CommitmentResult.decode(report.data, syntax, MAX_BYTES)


def result(transaction: str, *committed: str, **failed: int) -> CommitmentResult:
    """Make a result of CT images; failures are given as `_1_2_3=0x0112`."""
    return CommitmentResult(
        transaction,
        references(*committed),
        tuple((SOPReference(CT, uid.strip("_").replace("_", ".")), Status(code)) for uid, code in failed.items()),
    )

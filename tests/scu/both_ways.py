"""Send the same instances over the straight path and over the general one, and compare all that can be observed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias
from unittest import mock

from tests.ways import created, logged

import dicomport
from dicomport.scu import InstanceResult, RetryPolicy, Sending
from dicomport.scu.sending import straight
from dicomport.testing import acceptance, encode_message, response
from dicomport.wire import (
    COMMAND,
    LAST,
    AssociateRQ,
    CEchoRQ,
    Command,
    CStoreRQ,
    NEventReportRQ,
    PDataTF,
    Pdu,
    ProtocolError,
    RawCommand,
    ReleaseRP,
    ReleaseRQ,
    decode,
    decode_command,
)

TURNS: Final = 4
"""Turns of the event loop between two pieces, so that the sender reads them apart."""

Reply: TypeAlias = Callable[[int, CStoreRQ], bytes]
"""Returns the peer's answer to a request on a presentation context."""


def success(context_id: int, request: CStoreRQ) -> bytes:
    """Answer with success."""
    return encode_message(context_id, response(request))


def status(code: int, **fields: Any) -> Reply:
    """Return the answer with a status."""
    return lambda context_id, request: encode_message(
        context_id, dataclasses.replace(response(request, code), **fields)
    )


def _changed(old: bytes, new: bytes) -> Reply:
    return lambda context_id, request: success(context_id, request).replace(old, new, 1)


def _pdus(context_id: int, *parts: tuple[int, bytes]) -> bytes:
    """Encode PDVs with their control bytes, each in a P-DATA-TF."""
    return b"".join(
        b"\x04\0"
        + (len(data) + 6).to_bytes(4, "big")
        + (len(data) + 2).to_bytes(4, "big")
        + bytes((context_id, control))
        + data
        for control, data in parts
    )


def _in_two_fragments(context_id: int, request: CStoreRQ) -> bytes:
    command = success(context_id, request)[12:]
    return _pdus(context_id, (COMMAND, command[:30]), (COMMAND | LAST, command[30:]))


def _with_data_set(context_id: int, request: CStoreRQ) -> bytes:
    return success(context_id, request) + _pdus(context_id, (LAST, b"abcd"))


def _another_message_id(context_id: int, request: CStoreRQ) -> bytes:
    return status(0, message_id_being_responded_to=60_000)(context_id, request) + success(context_id, request)


def _padded_by_a_space(context_id: int, request: CStoreRQ) -> bytes:
    answer = success(context_id, request)
    return answer[:-1] + b" " if answer.endswith(b"\0") else answer


def _asking(command: Command, data: bytes = b"") -> Reply:
    return lambda context_id, request: encode_message(context_id, command, data) + success(context_id, request)


_EVENT: Final = NEventReportRQ(
    message_id=9,
    affected_sop_class_uid="1.2.840.10008.1.20.1",
    affected_sop_instance_uid="1.2.840.10008.1.20.1.1",
    event_type_id=1,
)

REPLIES: Final[dict[str, Reply]] = {
    "without UIDs": status(0, affected_sop_class_uid="", affected_sop_instance_uid=""),
    "another UID": status(0, affected_sop_instance_uid="1.2.3.99999"),
    "UID padded by a space": _padded_by_a_space,
    "warning": status(0xB007),
    "comment": status(0, error_comment="well done"),
    "refused": status(0xA700, error_comment="disk full"),
    "failed": status(0xC000),
    "another Message ID before": _another_message_id,
    "twice": lambda context_id, request: 2 * success(context_id, request),
    "in two fragments": _in_two_fragments,
    "with a data set": _with_data_set,
    "an echo before": _asking(CEchoRQ(message_id=7, affected_sop_class_uid="1.2.840.10008.1.1")),
    "a report before": _asking(_EVENT, b"report"),
    "another context": lambda _, request: success(3, request),
    "context that was not accepted": lambda _, request: success(99, request),
    "wrong group length": _changed(b"\4\0\0\0", b"\4\0\0\1"),
    "release": lambda *_: ReleaseRQ().encode(),
    "abort": lambda *_: b"\x07\0\0\0\0\x04\0\0\0\0",
    "unknown PDU": lambda *_: b"\x09\0\0\0\0\x04\0\0\0\0",
    "empty PDU": lambda context_id, request: b"\x04\0\0\0\0\0" + success(context_id, request),
    "not DICOM": lambda *_: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "end": lambda *_: b"",
    "end inside": lambda context_id, request: success(context_id, request)[:50],
}
"""Uncommon answers. After those of `ENDS` the peer closes the connection."""

ENDS: Final = frozenset(("end", "end inside", "not DICOM", "unknown PDU", "abort"))

SUCCESS: Final = "success"
SILENCE: Final = "silence"
"""No answer, and the connection stays open."""


@dataclass(frozen=True)
class PeerPlan:
    """The behaviour of the peer."""

    replies: tuple[str, ...] = ()
    """The answers to the requests of all associations, in order; success after these."""
    window: int | None = None
    maximum_length: int = 16384
    cuts: tuple[int, ...] = ()
    """The offsets at which each answer is cut."""
    refused: frozenset[str] = frozenset()
    """SOP Classes that are not accepted."""


@dataclass
class Sent:
    """All that can be observed of a sender."""

    streams: list[bytes] = field(default_factory=list)
    """The bytes of each association."""
    results: list[InstanceResult] = field(default_factory=list)
    """Without their times and folders."""
    report: tuple[Any, ...] = ()
    log: list[str] = field(default_factory=list)


@dataclass
class Way:
    """A sender's run."""

    sent: Sent
    straight: int
    """Number of instances that took the straight path."""


class _Peer:
    """An acceptor in the event loop of the sender."""

    def __init__(self, plan: PeerPlan, streams: list[bytes]) -> None:
        self._plan = plan
        self._streams = streams
        self._replies = iter(plan.replies)
        self._tasks: set[asyncio.Task[None]] = set()

    async def ended(self) -> None:
        """Wait for the end of all associations."""
        await asyncio.gather(*self._tasks)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve an association in a task."""
        self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve an association."""
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = len(self._streams)
        self._streams.append(b"")
        try:
            async for pdu in self._pdus(reader, number):
                match pdu:
                    case AssociateRQ():
                        plan = self._plan
                        writer.write(
                            acceptance(
                                pdu, refuse=plan.refused, window=plan.window, maximum_length=plan.maximum_length
                            ).encode()
                        )
                    case ReleaseRQ():
                        writer.write(ReleaseRP().encode())
                    case (int(context_id), CStoreRQ() as request) if not await self._answer(
                        writer, context_id, request
                    ):
                        return
        except (asyncio.IncompleteReadError, ConnectionError, ProtocolError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _pdus(
        self, reader: asyncio.StreamReader, number: int
    ) -> AsyncIterator[Pdu | tuple[int, Command | RawCommand | None]]:
        """Yield the PDUs, and each message with a data set at its end as its context ID and its command."""
        encoded, command = b"", None
        while True:
            header = await reader.readexactly(6)
            pdu = header + await reader.readexactly(int.from_bytes(header[2:], "big"))
            self._streams[number] += pdu
            decoded = decode(pdu)
            if not isinstance(decoded, PDataTF):
                yield decoded
                continue
            [value] = decoded.values
            if value.is_command:
                encoded += value.data
                if value.is_last:
                    command, encoded = decode_command(encoded), b""
            elif value.is_last:
                yield value.context_id, command

    async def _answer(self, writer: asyncio.StreamWriter, context_id: int, request: CStoreRQ) -> bool:
        """Answer a request; return whether the connection remains open."""
        name = next(self._replies, SUCCESS)
        answer = b"" if name == SILENCE else REPLIES.get(name, success)(context_id, request)
        places = sorted({place % (len(answer) or 1) for place in self._plan.cuts})
        for start, stop in zip([0, *places], [*places, len(answer)], strict=True):
            writer.write(answer[start:stop])
            for _ in range(TURNS if places else 0):
                await asyncio.sleep(0)
        return name not in ENDS


async def play(instances: Sequence[Any], plan: PeerPlan, stop_after: str = "", **options: Any) -> Way:
    """Send instances to a peer; stop after the result of an instance with a SOP Instance UID."""
    sent = Sent()
    retry = RetryPolicy(retries=options.pop("retries", 0), first_delay=0.0, max_delay=0.0)
    peer = _Peer(plan, sent.streams)
    server = await asyncio.start_server(peer.accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    options = {"associations": 1, "window": plan.window or 1, "retry": retry, **options}
    running: list[Sending] = []

    def stop(result: InstanceResult) -> None:
        if result.sop_instance_uid == stop_after:
            running[0].stop()

    if stop_after:
        options["on_result"] = stop
    running.append(dicomport.send(instances, "127.0.0.1", port, **options))
    with created(straight.StraightPath) as paths, logged("dicomport.scu", rf"\b{port}\b") as sent.log:
        try:
            report = await running[0]
        finally:
            server.close()
            await peer.ended()
    sent.results = [_comparable(result) for result in report.results]
    sent.report = report.associations, report.error.replace(str(port), "PORT"), report.not_attempted
    return Way(sent, sum(path.instances for path in paths))


def _comparable(result: InstanceResult) -> InstanceResult:
    """Return a result without its time and its folder."""
    path = Path(result.name)
    reason = result.reason.replace(str(path.parent), "FOLDER")
    return dataclasses.replace(result, seconds=0.0, name=path.name, reason=reason)


async def _no_path(_: straight.StraightPath) -> None:
    """Leave all messages to the general path."""


def general() -> Any:
    """Return a context in which no association takes the straight path."""
    return mock.patch.object(straight.StraightPath, "serve", _no_path)


def both(instances: Callable[[], Sequence[Any]], plan: PeerPlan, **options: Any) -> Way:
    """Send over the straight path and over the general one; assert that they agree, and return the first."""

    async def scenario() -> Way:
        one = await play(instances(), plan, **options)
        with general():
            other = await play(instances(), plan, **options)
        assert other.straight == 0
        assert one.sent.results == other.sent.results
        assert one.sent == other.sent
        return one

    return asyncio.run(scenario())

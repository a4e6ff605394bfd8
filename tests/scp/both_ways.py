"""Play the same bytes to a receiver with the straight path and to one without, and compare all that can be observed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from unittest import mock

from tests.ways import created, logged

from dicomport import Limits, Status, Storage, StorageSCP, StoreOperation
from dicomport.scp import straight
from dicomport.testing import association_request
from dicomport.wire import Buffer

WINDOW: Final = 3
TURNS: Final = 4
"""Turns of the event loop between two pieces, so that the receiver reads them apart."""


@dataclass
class Behaviour:
    """The behaviour of a storage with some instances, by their numbers; all others are stored at once."""

    waits: frozenset[int] = frozenset()
    """`begin` has to wait, and then `commit`."""
    slow: frozenset[int] = frozenset()
    """`write` has to wait from the second piece on."""
    refused: frozenset[int] = frozenset()
    warned: frozenset[int] = frozenset()
    begin_fails: frozenset[int] = frozenset()
    write_fails: frozenset[int] = frozenset()
    commit_fails: frozenset[int] = frozenset()
    error: BaseException = field(default_factory=lambda: OSError(28, "No space left on device"))


class Recorder:
    """A storage that keeps all calls, and behaves as asked."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.calls: list[tuple[Any, ...]] = []
        self._begun = 0

    def begin_now(self, operation: StoreOperation) -> _Sink | Status | None:
        """Begin, unless that has to wait."""
        return None if self._begun in self.behaviour.waits else self._begin(operation)

    async def begin(self, operation: StoreOperation) -> _Sink | Status:
        """Begin."""
        await asyncio.sleep(0)
        return self._begin(operation)

    def _begin(self, operation: StoreOperation) -> _Sink | Status:
        number, behaviour = self._begun, self.behaviour
        self._begun += 1
        self.calls.append(("begin", operation.command, operation.context, operation.file_meta))
        if number in behaviour.begin_fails:
            raise behaviour.error
        return Status(0xA700, "no room") if number in behaviour.refused else _Sink(self, number)


class _Sink:
    def __init__(self, recorder: Recorder, number: int) -> None:
        self._recorder = recorder
        self._behaviour = recorder.behaviour
        self._number = number
        self._data = bytearray()

    def write_now(self, data: Buffer) -> bool:
        if self._data and self._number in self._behaviour.slow:
            return False
        self._write(data)
        return True

    async def write(self, data: Buffer) -> None:
        await asyncio.sleep(0)
        self._write(data)

    def _write(self, data: Buffer) -> None:
        self._data += data
        if self._number in self._behaviour.write_fails:
            raise self._behaviour.error

    def commit_now(self) -> Status | None:
        return None if self._number in self._behaviour.waits else self._commit()

    async def commit(self) -> Status:
        await asyncio.sleep(0)
        return self._commit()

    def _commit(self) -> Status:
        self._recorder.calls.append(("commit", self._number, bytes(self._data)))
        if self._number in self._behaviour.commit_fails:
            raise self._behaviour.error
        return Status(0xB007, "padding") if self._number in self._behaviour.warned else Status(0x0000)

    async def discard(self) -> None:
        self._recorder.calls.append(("discard", self._number))


@dataclass
class Played:
    """All that can be observed of a receiver."""

    answers: list[bytes]
    """The PDUs that it sent after its A-ASSOCIATE-AC."""
    reports: list[tuple[str, Status, int]]
    counters: dict[str, int]
    log: list[str]


def _sorted(played: Played) -> Played:
    """Return the same, sorted: operations of a window may end in any order (PS3.7 D.3.3.3)."""
    return Played(sorted(played.answers), sorted(played.reports, key=str), played.counters, sorted(played.log))


@dataclass
class Way:
    """A receiver's run."""

    played: Played
    straight: int
    """Number of instances that took the straight path."""


async def play(
    storage: Storage, pieces: Sequence[bytes], *, window: int | None = None, limits: Limits | None = None
) -> Way:
    """Send an association request and then the pieces; return what the receiver did."""
    reports: list[tuple[str, Status, int]] = []
    scp = StorageSCP(
        storage,
        port=0,
        limits=limits or Limits(),
        on_stored=lambda operation, status, size: reports.append((operation.sop_instance_uid, status, size)),
    )
    with created(straight.StraightPath) as paths, logged("dicomport.scp", r"\bport=\d+") as lines:
        async with scp:
            answers = await _converse(scp.port, pieces, window)
        counters = dict(scp.counters)
    return Way(Played(list(_pdus(answers)), reports, counters, lines), sum(path.instances for path in paths))


def _pdus(stream: bytes) -> Iterator[bytes]:
    """Yield the PDUs of a stream."""
    at = 0
    while at < len(stream):
        end = at + 6 + int.from_bytes(stream[at + 2 : at + 6], "big")
        yield stream[at:end]
        at = end


async def _converse(port: int, pieces: Sequence[bytes], window: int | None) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket() as peer:
        peer.setblocking(False)
        await loop.sock_connect(peer, ("127.0.0.1", port))
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_sendall(peer, association_request(window=window).encode())
        answers = bytearray()
        while len(answers) < 6 or len(answers) < 6 + int.from_bytes(answers[2:6], "big"):
            answers += await loop.sock_recv(peer, 65536)
        del answers[:]
        listening = asyncio.create_task(_listen(peer, answers))
        try:
            for piece in pieces:
                await loop.sock_sendall(peer, piece)
                for _ in range(TURNS):
                    await asyncio.sleep(0)
            peer.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # The receiver has closed the connection.
        await listening
        return bytes(answers)


async def _listen(peer: socket.socket, answers: bytearray) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            piece = await loop.sock_recv(peer, 65536)
        except OSError:
            piece = b""
        if not piece:
            return
        answers += piece


def general() -> Any:
    """Return a context in which no association takes the straight path."""
    return mock.patch.object(straight, "_MAX_SHAPES", 0)


def both(
    storage: Callable[[], Any], observe: Callable[[Any], Any], pieces: Sequence[bytes], **options: Any
) -> tuple[Way, Way]:
    """Play on the straight path and on the general one; assert that they agree. `observe` reads the storage."""

    async def scenario() -> tuple[Way, Way]:
        first, second = storage(), storage()
        one = await play(first, pieces, **options)
        with general():
            other = await play(second, pieces, **options)
        assert other.straight == 0
        if options.get("window"):
            assert _sorted(one.played) == _sorted(other.played)
            assert sorted(observe(first), key=str) == sorted(observe(second), key=str)
        else:
            assert one.played == other.played
            assert observe(first) == observe(second)
        return one, other

    return asyncio.run(scenario())

"""Two association cores that talk to each other without a socket.

    pair = CorePair(sizes=(1, 7, 3))
    pair.associate(request, policy)
    pair.requestor.send_command(1, CEchoRQ(message_id=1, affected_sop_class_uid=VERIFICATION))
    pair.exchange()
    assert pair.take(Role.ACCEPTOR) == [CommandReceived(...)]

The link is as unkind as a socket may be: it cuts the bytes at any place, and it overwrites the receive buffer as soon
as the core has said that it needs more, so that a view which is kept for too long shows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dicomport.core import (
    AcceptorPolicy,
    Association,
    AssociationRequested,
    CoreEvent,
    DataReceived,
    Negotiation,
    Role,
    negotiate,
)
from dicomport.wire import DEFAULT_PROTOCOL_LIMITS, AssociateRQ, ProtocolLimits

__all__ = ["CorePair", "joined"]

_OVERWRITTEN = b"\xa5"


@dataclass(slots=True)
class _End:
    """One end of the link: its core, the sizes of the pieces that it receives, what it sent and what it heard."""

    core: Association
    sizes: Iterator[int]
    sent: bytearray = field(default_factory=bytearray)
    events: list[CoreEvent] = field(default_factory=list)
    taken: int = 0


class CorePair:
    """A requestor's and an acceptor's core, and the link between them.

    A test asks the cores for what it likes (`pair.requestor.release()`), lets the bytes flow with `exchange`, and looks
    at the events of either side. Where a core says `closing`, the link carries its last bytes and closes; a test closes
    it with `close` or `cut`.

    `sizes` are the sizes, in bytes, of the pieces that each side receives, over and over: none is everything as it was
    sent, `(1,)` is byte by byte. A piece never waits for bytes that are not sent yet, and then is shorter.
    """

    def __init__(self, *, sizes: Sequence[int] = (), limits: ProtocolLimits = DEFAULT_PROTOCOL_LIMITS) -> None:
        if any(size < 1 for size in sizes):
            raise ValueError(f"{sizes}: a piece has one byte or more")
        self.requestor = Association(Role.REQUESTOR, limits=limits)
        self.acceptor = Association(Role.ACCEPTOR, limits=limits)
        self.connected = False
        """Whether the transport connection is there."""
        self._ends = {
            core.role: _End(core, itertools.cycle(sizes) if sizes else itertools.repeat(0))
            for core in (self.requestor, self.acceptor)
        }

    def sent(self, role: Role) -> bytes:
        """Give all bytes that this side has sent so far."""
        return bytes(self._ends[role].sent)

    def events(self, role: Role) -> list[CoreEvent]:
        """Give all events of this side so far; the data in them are copies."""
        return list(self._ends[role].events)

    def take(self, role: Role) -> list[CoreEvent]:
        """Give the events of this side since this was last asked for."""
        end = self._ends[role]
        start, end.taken = end.taken, len(end.events)
        return end.events[start:]

    def connect(self, request: AssociateRQ) -> None:
        """Open the transport connection and ask for the association; the acceptor has not answered yet.

        Raises `StateError` on a pair that was used before.
        """
        self.requestor.request(request)
        self.connected = True
        self.requestor.transport_opened()
        self.acceptor.transport_opened()
        self.exchange()

    def associate(self, request: AssociateRQ, policy: AcceptorPolicy) -> Negotiation:
        """Connect, and answer as the policy says. The events of this are there, not yet taken.

        Raises `ValueError` where the acceptor's core did not pass the request on.
        """
        self.connect(request)
        heard = self._ends[Role.ACCEPTOR].events
        if not (heard and isinstance(heard[-1], AssociationRequested)):
            raise ValueError(f"there is no request to answer: {heard}")
        negotiation = negotiate(heard[-1].request, policy, self.acceptor.deviations)
        self.acceptor.answer(negotiation)
        self.exchange()
        return negotiation

    def exchange(self) -> None:
        """Carry bytes to and fro until neither side has any to send, or the connection is closed."""
        while any(self._carry(role) for role in Role):
            pass

    def close(self, role: Role) -> None:
        """Let this side close the transport connection in good order.

        What it had to send still arrives. What the other side had to send is lost.
        """
        self._carry(role)
        self._disconnect(role)

    def cut(self) -> None:
        """Break the transport connection: what either side had to send is lost."""
        self._disconnect(Role.REQUESTOR)

    def _carry(self, role: Role) -> bool:
        """Carry what this side has to send, and close after it if the side says so. Say whether anything happened."""
        if not self.connected:
            return False
        end = self._ends[role]
        data = b"".join(end.core.take_output())
        end.sent += data
        if data:
            self._deliver(data, _other(role))
        if end.core.closing:
            self._disconnect(role)
            return True
        return bool(data)

    def _deliver(self, data: bytes, role: Role) -> None:
        end = self._ends[role]
        start = 0
        while start < len(data):
            piece = bytearray(data[start : start + (next(end.sizes) or len(data))])
            start += len(piece)
            end.core.receive(piece)
            self._listen(role)
            piece[:] = _OVERWRITTEN * len(piece)

    def _listen(self, role: Role) -> None:
        end = self._ends[role]
        while (event := end.core.next_event()) is not None:
            if isinstance(event, DataReceived):
                event = DataReceived(bytes(event.data), event.last)
            end.events.append(event)

    def _disconnect(self, first: Role) -> None:
        if not self.connected:
            return
        self.connected = False
        for role in (first, _other(first)):
            core = self._ends[role].core
            core.take_output()
            core.transport_closed()
            self._listen(role)


def joined(events: Iterable[CoreEvent]) -> list[CoreEvent]:
    """Put the pieces of each data set together: how many there are depends on how the bytes arrived, no more."""
    whole: list[CoreEvent] = []
    for event in events:
        before = whole[-1] if whole else None
        if isinstance(event, DataReceived) and isinstance(before, DataReceived) and not before.last:
            whole[-1] = DataReceived(bytes(before.data) + bytes(event.data), event.last)
        else:
            whole.append(event)
    return whole


def _other(role: Role) -> Role:
    return Role.ACCEPTOR if role is Role.REQUESTOR else Role.REQUESTOR

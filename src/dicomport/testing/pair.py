"""Two association cores, connected without a socket.

    pair = CorePair(sizes=(1, 7, 3))
    pair.associate(request, policy)
    pair.requestor.send_command(1, CEchoRQ(message_id=1, affected_sop_class_uid=VERIFICATION))
    pair.exchange()
    assert pair.take(Role.ACCEPTOR) == [CommandReceived(...)]

The link is as difficult as a socket can be: it splits the bytes anywhere, and overwrites the receive buffer as soon as
the core needs more bytes, so that a view used too late is detected.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field

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
from dicomport.values import slotted
from dicomport.wire import DEFAULT_PROTOCOL_LIMITS, AssociateRQ, ProtocolLimits

_OVERWRITTEN = b"\xa5"


@slotted
class _End:
    """One end of the link: its core, the sizes of received pieces, the bytes sent, and the events."""

    core: Association
    sizes: Iterator[int]
    sent: bytearray = field(default_factory=bytearray)
    events: list[CoreEvent] = field(default_factory=list)
    taken: int = 0


class CorePair:
    """A requestor's and an acceptor's core, and the link between them.

    A test calls the cores (`pair.requestor.release()`), transmits the bytes with `exchange`, and checks the events of
    either side. If a core is `closing`, the link transmits its last bytes and closes; a test closes it with `close` or
    `cut`.

    `sizes` are the sizes, in bytes, of the pieces that each side receives, repeatedly: by default the bytes are not
    split; `(1,)` means byte by byte. A piece is shorter if no more bytes were sent.
    """

    def __init__(self, *, sizes: Sequence[int] = (), limits: ProtocolLimits = DEFAULT_PROTOCOL_LIMITS) -> None:
        if any(size < 1 for size in sizes):
            raise ValueError(f"sizes are {sizes}, expected 1 or more each")
        self.requestor = Association(Role.REQUESTOR, limits=limits)
        self.acceptor = Association(Role.ACCEPTOR, limits=limits)
        self.connected = False
        """Whether the transport connection is open."""
        self._ends = {
            core.role: _End(core, itertools.cycle(sizes) if sizes else itertools.repeat(0))
            for core in (self.requestor, self.acceptor)
        }

    def sent(self, role: Role) -> bytes:
        """Return all bytes that this side has sent so far."""
        return bytes(self._ends[role].sent)

    def events(self, role: Role) -> list[CoreEvent]:
        """Return all events of this side so far, with copies of the data."""
        return list(self._ends[role].events)

    def take(self, role: Role) -> list[CoreEvent]:
        """Return the events of this side since the last call."""
        end = self._ends[role]
        start, end.taken = end.taken, len(end.events)
        return end.events[start:]

    def connect(self, request: AssociateRQ) -> None:
        """Open the transport connection and request the association; `associate` also answers.

        Raises `StateError` if the pair was used before.
        """
        self.requestor.request(request)
        self.connected = True
        self.requestor.transport_opened()
        self.acceptor.transport_opened()
        self.exchange()

    def associate(self, request: AssociateRQ, policy: AcceptorPolicy) -> Negotiation:
        """Connect, answer by the policy, and return the answer; `take` returns the events.

        Raises `ValueError` if the acceptor's core did not return the request.
        """
        self.connect(request)
        heard = self._ends[Role.ACCEPTOR].events
        if not (heard and isinstance(heard[-1], AssociationRequested)):
            raise ValueError(f"expected AssociationRequested as the acceptor's last event: {heard}")
        negotiation = negotiate(heard[-1].request, policy, self.acceptor.deviations)
        self.acceptor.answer(negotiation)
        self.exchange()
        return negotiation

    def exchange(self) -> None:
        """Transmit bytes in both directions until neither side has any to send, or the connection is closed."""
        while any(self._carry(role) for role in Role):
            pass

    def close(self, role: Role) -> None:
        """Close the transport connection from this side.

        Its unsent bytes still arrive; the other side's are lost.
        """
        self._carry(role)
        self._disconnect(role)

    def cut(self) -> None:
        """Break the transport connection: the unsent bytes of both sides are lost."""
        self._disconnect(Role.REQUESTOR)

    def _carry(self, role: Role) -> bool:
        """Transmit the bytes of this side, and close if its core is closing; return whether anything changed."""
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
    """Return the events with the parts of each data set joined: their number depends only on how bytes arrived."""
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

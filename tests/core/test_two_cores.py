"""Two cores that act at random, over a link that splits anywhere, breaks at any time, and may lose bytes."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace as changed
from typing import Final

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.core.associations import ECHO, POLICY, REQUEST, policy_with_another_title
from tests.core.messages import CT, ECHO_PDU, associate_rq

from dicomport.core import (
    Aborted,
    AcceptorPolicy,
    Association,
    AssociationRejected,
    AssociationRequested,
    CommandReceived,
    ConnectionLost,
    CoreEvent,
    DataReceived,
    Role,
    State,
    negotiate,
)
from dicomport.wire import CEchoRSP, Command, CStoreRQ, CStoreRSP, NEventReportRQ, RawCommand

OTHER: Final = {Role.REQUESTOR: Role.ACCEPTOR, Role.ACCEPTOR: Role.REQUESTOR}

STORE: Final = CStoreRQ(message_id=2, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3")
REPORT: Final = NEventReportRQ(
    has_data_set=True, message_id=3, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.4", event_type_id=1
)
COMMANDS: Final = (
    *(STORE, REPORT, ECHO),
    CEchoRSP(message_id_being_responded_to=1, status=0),
    CStoreRSP(message_id_being_responded_to=2, status=0xA700, error_comment="no room"),
)

MAY_SEND: Final = frozenset((State.STA6, State.STA8))
MAY_CONFIRM: Final = frozenset((State.STA8, State.STA9, State.STA12))

turns: Final = st.integers(0, 1)
"""The side that acts if both sides can."""
maximum_lengths: Final = st.sampled_from((0, 8, 50, 127, 16384))


@dataclass
class Message:
    """A message as it was sent, or as it was received so far."""

    context_id: int
    command: Command | RawCommand
    data: bytes = b""
    complete: bool = True

    def begins(self, other: "Message") -> bool:
        """Return whether this may be the other message, incomplete."""
        return self == other or (
            not self.complete
            and (self.context_id, self.command) == (other.context_id, other.command)
            and other.data.startswith(self.data)
        )


@dataclass
class End:
    """One side: its core, the bytes in transit to it, and its user's requests and events."""

    core: Association
    coming: bytearray = field(default_factory=bytearray)
    closes_then: bool = False
    """Whether the connection closes after the bytes in transit."""
    connected: bool = True
    said: list[Message] = field(default_factory=list)
    heard: list[Message] = field(default_factory=list)
    events: list[CoreEvent] = field(default_factory=list)
    over: bool = False
    """Whether the association has ended for its user, who receives no more events."""

    @property
    def writing(self) -> bool:
        """Return whether a data set that it sends is incomplete."""
        return bool(self.said) and not self.said[-1].complete

    # Conditions of this side's actions.

    def can_say(self) -> bool:
        return self.core.state in MAY_SEND and not self.writing

    def can_go_on(self) -> bool:
        return self.core.state in MAY_SEND and self.writing

    def can_release(self) -> bool:
        return self.core.state is State.STA6 and not self.writing

    def can_confirm(self) -> bool:
        return self.core.state in MAY_CONFIRM and not self.writing

    def can_hear(self) -> bool:
        return self.connected and (bool(self.coming) or self.closes_then)

    def can_expire(self) -> bool:
        return self.core.artim != 0


def when(possible: Callable[[End], bool]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Enable a rule if it is possible on one side or both."""
    return precondition(lambda self: any(map(possible, self.ends.values())))


def in_trouble(possible: Callable[[End], bool]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Enable a rule if it is possible, after the calm phase."""
    return precondition(lambda self: self.deliveries >= self.calm and any(map(possible, self.ends.values())))


class TwoCores(RuleBasedStateMachine):
    """The two users may act in any order, and the bytes may be split anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = {role: End(Association(role)) for role in Role}
        self.unbroken = True
        """Whether there was no abort, no expired timer, and no fault of the link."""
        self.calm = 0
        """The number of deliveries before the first fault, if any."""
        self.deliveries = 0

    @initialize(theirs=maximum_lengths, ours=maximum_lengths, steps=st.integers(0, 2), calm=st.integers(0, 12))
    def begin(self, theirs: int, ours: int, steps: int, calm: int) -> None:
        """Ask for an association, which may be there already, and both sides may have asked for its release."""
        self.calm = calm
        information = changed(REQUEST.user_information, maximum_length=theirs)
        self.policy = changed(POLICY, maximum_length=ours)
        requestor, acceptor = (self.ends[role].core for role in (Role.REQUESTOR, Role.ACCEPTOR))
        requestor.request(changed(REQUEST, user_information=information))
        acceptor.transport_opened()
        requestor.transport_opened()
        self.flush(Role.REQUESTOR)
        if steps > 0:
            self.drain()
            self.accept()
            self.drain()
        if steps > 1:
            self.release_both_at_once()
            self.drain()

    @precondition(lambda self: self.ends[Role.ACCEPTOR].core.state is State.STA3)
    @rule()
    def accept(self) -> None:
        self.answer(self.policy)

    @when(End.can_say)
    @rule(turn=turns, command=st.sampled_from(COMMANDS), context_id=st.sampled_from((1, 3)))
    def say(self, turn: int, command: Command, context_id: int) -> None:
        role, end = self.on_turn(turn, End.can_say)
        end.core.send_command(context_id, command)
        end.said.append(Message(context_id, command, complete=not command.has_data_set))
        self.flush(role)

    @when(End.can_go_on)
    @rule(turn=turns, data=st.binary(max_size=200), last=st.booleans())
    def go_on(self, turn: int, data: bytes, *, last: bool) -> None:
        role, end = self.on_turn(turn, End.can_go_on)
        # Parts of a data set before the last one have an even length (PS3.8 E.1).
        data = data if last else data[: len(data) & ~1]
        message = end.said[-1]
        end.core.send_data(message.context_id, data, last=last)
        message.data += data
        message.complete = last
        self.flush(role)

    @when(End.can_release)
    @rule(turn=turns)
    def release(self, turn: int) -> None:
        role, end = self.on_turn(turn, End.can_release)
        end.core.release()
        self.flush(role)

    @precondition(lambda self: all(end.can_release() for end in self.ends.values()))
    @rule()
    def release_both_at_once(self) -> None:
        self.release(0)
        self.release(0)

    @when(End.can_confirm)
    @rule(turn=turns)
    def confirm(self, turn: int) -> None:
        role, end = self.on_turn(turn, End.can_confirm)
        end.core.confirm_release()
        self.flush(role)

    @rule(turn=turns, most=st.integers(1, 40) | st.integers(1, 2000))
    def deliver(self, turn: int, most: int) -> None:
        if not any(end.can_hear() for end in self.ends.values()):
            return
        self.deliveries += 1
        role, end = self.on_turn(turn, End.can_hear)
        piece = bytearray(end.coming[:most])
        del end.coming[:most]
        if piece:
            end.core.receive(piece)
            self.listen(role)
            piece[:] = b"\xa5" * len(piece)
            self.flush(role)
        if end.connected and end.closes_then and not end.coming:
            self.close(role)

    @precondition(lambda self: not any(end.connected for end in self.ends.values()))
    @rule()
    def nothing_comes_after_the_end(self) -> None:
        for end in self.ends.values():
            end.core.receive(associate_rq() + ECHO_PDU)
            end.core.artim_expired()
            assert (end.core.next_event(), end.core.take_output(), end.core.state) == (None, [], State.STA1)

    @invariant()
    def what_is_heard_was_said(self) -> None:
        if self.unbroken:
            for role, end in self.ends.items():
                said = self.ends[OTHER[role]].said
                assert len(end.heard) <= len(said)
                assert end.heard[:-1] == said[: len(end.heard[:-1])]
                assert not end.heard or end.heard[-1].begins(said[len(end.heard) - 1])
                assert not any(isinstance(event, Aborted | ConnectionLost) for event in end.events)

    def teardown(self) -> None:
        """Deliver all bytes, let both users finish, and let ARTIM expire: then the association has ended."""
        self.drain()
        while self.finish():
            self.drain()
        for role, end in self.ends.items():
            if not (self.unbroken or end.can_expire()):
                # A wait for lost bytes has no ARTIM: the user's timers end it.
                end.core.abort()
                self.flush(role)
        self.drain()
        while any(end.can_expire() for end in self.ends.values()):
            self.expire_artim(0)
            self.drain()
        for role, end in self.ends.items():
            assert (end.core.state, end.core.artim, end.connected) == (State.STA1, 0, False)
            if self.unbroken:
                assert end.heard == self.ends[OTHER[role]].said
        self.what_is_heard_was_said()

    # How it is done.

    def on_turn(self, turn: int, possible: Callable[[End], bool]) -> tuple[Role, End]:
        able = [(role, end) for role, end in self.ends.items() if possible(end)]
        return able[turn % len(able)]

    def answer(self, policy: AcceptorPolicy) -> None:
        event = self.ends[Role.ACCEPTOR].events[-1]
        assert isinstance(event, AssociationRequested)
        self.ends[Role.ACCEPTOR].core.answer(negotiate(event.request, policy))
        self.flush(Role.ACCEPTOR)

    def finish(self) -> bool:
        """Perform the next step towards the end; return whether there was one."""
        ends = self.ends.values()
        if self.ends[Role.ACCEPTOR].core.state is State.STA3:
            self.accept()
        elif any(end.can_go_on() for end in ends):
            self.go_on(0, b"the end", last=True)
        elif any(end.can_confirm() for end in ends):
            self.confirm(0)
        elif any(end.can_release() for end in ends):
            self.release(0)
        else:
            return False
        return True

    def expire_artim(self, turn: int) -> None:
        role, end = self.on_turn(turn, End.can_expire)
        end.core.artim_expired()
        self.flush(role)
        assert not end.connected

    def drain(self) -> None:
        while any(end.can_hear() for end in self.ends.values()):
            self.deliver(0, 1 << 20)

    def listen(self, role: Role) -> None:
        end = self.ends[role]
        while (event := end.core.next_event()) is not None:
            assert not end.over
            end.over = isinstance(event, Aborted | AssociationRejected | ConnectionLost)
            end.events.append(event)
            if isinstance(event, CommandReceived):
                context_id, command = event.context.context_id, event.command
                end.heard.append(Message(context_id, command, complete=not command.has_data_set))
            elif isinstance(event, DataReceived):
                end.heard[-1].data += bytes(event.data)
                end.heard[-1].complete = event.last

    def flush(self, role: Role) -> None:
        """Transmit the output of a core, and close afterwards if the core is closing."""
        end, other = self.ends[role], self.ends[OTHER[role]]
        data = b"".join(end.core.take_output())
        if other.connected and not other.closes_then:
            other.coming += data
        if end.connected and end.core.closing:
            self.close(role)

    def close(self, role: Role) -> None:
        """Close this side's end: its sent bytes still arrive, bytes in transit to it are lost."""
        end = self.ends[role]
        end.connected = False
        end.coming.clear()
        end.core.transport_closed()
        assert end.core.state is State.STA1
        self.listen(role)
        self.flush(role)
        self.ends[OTHER[role]].closes_then = True


class TwoCoresInTrouble(TwoCores):
    """The same, after a while with faults of the link and expired timers."""

    @in_trouble(lambda end: end.core.state is State.STA3)
    @rule()
    def reject(self) -> None:
        self.unbroken = False
        self.answer(policy_with_another_title())

    @in_trouble(lambda end: end.connected)
    @rule(turn=turns)
    def abort(self, turn: int) -> None:
        role, end = self.on_turn(turn, lambda end: end.connected)
        self.unbroken = False
        end.over = True
        end.core.abort()
        self.flush(role)

    @in_trouble(lambda end: end.connected)
    @rule(turn=turns, kept=st.integers(0, 2000))
    def cut(self, turn: int, kept: int) -> None:
        """Break the connection: some of the bytes in transit arrive at one side, none at the other."""
        role, end = self.on_turn(turn, lambda end: end.connected)
        self.unbroken = False
        del end.coming[kept:]
        end.closes_then = True
        self.close(OTHER[role])

    @in_trouble(lambda end: bool(end.coming))
    @rule(turn=turns, at=st.integers(0, 500), size=st.integers(1, 50))
    def lose(self, turn: int, at: int, size: int) -> None:
        """Lose bytes, as no transport connection does but one through something that is broken."""
        _, end = self.on_turn(turn, lambda end: bool(end.coming))
        self.unbroken = False
        at %= len(end.coming)
        del end.coming[at : at + size]

    @in_trouble(End.can_expire)
    @rule(turn=turns)
    def expire(self, turn: int) -> None:
        self.unbroken = False
        self.expire_artim(turn)


TwoCores.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TwoCoresInTrouble.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestTwoCores = TwoCores.TestCase
TestTwoCoresInTrouble = TwoCoresInTrouble.TestCase

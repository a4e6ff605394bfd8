"""The requestor's side of the exchange, over both runners: message ids, timers, unexpected messages, releases."""

import contextlib
import struct
import time
from dataclasses import replace
from typing import Any, Final, cast

import pytest
from tests.core.associations import POLICY, REQUEST
from tests.core.messages import COMMAND, DATA, LAST_DATA, p_data, pdv
from tests.scu.data import (
    CT,
    JPEG,
    MR,
    VERIFICATION,
    instance,
    pattern,
)
from tests.scu.runners import APIS, Api, Association, with_both
from tests.scu.scripts import (
    acceptance,
    messages,
    pdus,
    scripted,
    serving,
)

import dicomport
from dicomport.core import Role
from dicomport.dimse import Exchange
from dicomport.dimse.requestor import Requestor
from dicomport.net.generators import Receive
from dicomport.net.timers import Timer
from dicomport.testing import CorePair, GoneError, Peer, encode_message, response
from dicomport.wire import (
    Abort,
    AbortReason,
    AssociateRQ,
    CEchoRQ,
    CStoreRQ,
    Element,
    RawCommand,
    ReleaseRP,
    ReleaseRQ,
    encode_command,
)

HOST: Final = "127.0.0.1"
CONTEXTS: Final = (VERIFICATION, dicomport.sop_classes.CTImageStorage, (MR, JPEG))
SHORT: Final = 0.2


def raw(field: int, message_id: int, *, data_set: bool = False, sop_class: str = CT, **elements: bytes) -> RawCommand:
    """Make a request of the peer's that we know nothing of."""
    return RawCommand(
        {
            Element.AFFECTED_SOP_CLASS_UID: sop_class.encode() + b"\0" * (len(sop_class) % 2),
            Element.COMMAND_FIELD: struct.pack("<H", field),
            Element.MESSAGE_ID: struct.pack("<H", message_id),
            Element.COMMAND_DATA_SET_TYPE: struct.pack("<H", 0 if data_set else 0x0101),
            **{Element[name]: value for name, value in elements.items()},
        }
    )


def statuses(peer: Peer) -> list[tuple[int, int, int]]:
    """Return command field, message id and status of each refusal that the peer received."""
    commands = [message.command for message in messages(peer)]
    responses = [command if isinstance(command, RawCommand) else command.to_raw() for command in commands]

    def number(command: RawCommand, element: Element) -> int:
        return int.from_bytes(command.elements[element], "little")

    return [
        (
            command.command_field,
            number(command, Element.MESSAGE_ID_BEING_RESPONDED_TO),
            number(command, Element.STATUS),
        )
        for command in responses
        if command.is_response
    ]


def test_the_dimse_timer_is_not_started_anew_by_what_is_no_answer() -> None:
    """`Timeouts.dimse` runs from the moment that the request's last byte has left."""

    def script(peer: Peer) -> None:
        peer.accept()
        message = peer.expect(CEchoRQ)
        deadline = time.monotonic() + 1
        with contextlib.suppress(GoneError):
            while time.monotonic() < deadline:
                peer.answer(message, replace(response(message.command), message_id_being_responded_to=2))

    with scripted(script) as scp, pytest.raises(dicomport.TimerExpiredError, match="dimse timer"):
        APIS[0].run(_echo(APIS[0], scp.port, dicomport.Timeouts(dimse=SHORT)))


# Message ids.


@with_both
def test_message_ids_wrap_from_65535_to_1(api: Api) -> None:
    """Some peers reject the Message ID 0 (robustness C11)."""
    with scripted(serving()) as scp:

        async def scenario() -> None:
            async with api.associate(HOST, scp.port, contexts=CONTEXTS) as association:
                await association.c_echo()
                inner = getattr(association, "blocking", association)
                inner._requestor.exchange._message_id = 65533
                for _ in range(2):
                    assert (await association.c_echo()).code == 0
                assert (await association.c_store(instance())).accepted
                assert (await association.c_echo()).code == 0

        api.run(scenario())

    assert [message.command.message_id for message in messages(scp.peers[0])] == [1, 65534, 65535, 1, 2]


# Requests of the peer before its response.


async def _echo(api: Api, port: int, timeouts: dicomport.Timeouts | None = None) -> dicomport.Status:
    async with api.associate(HOST, port, contexts=CONTEXTS, timeouts=timeouts) as association:
        status: dicomport.Status = await cast("Association", association).c_echo()
        return status


def interrupted(*pdus: bytes, status: int = 0xB000) -> Any:
    """Build the script of a peer that sends these PDUs before its response."""

    def script(peer: Peer) -> None:
        peer.accept()
        message = peer.expect(CEchoRQ)
        peer.send(*pdus)
        peer.answer(message, status)
        peer.serve()

    return script


@with_both
@pytest.mark.parametrize("field", [0x0020, 0x0021, 0x0010, 0x0110, 0x0120, 0x0140, 0x0150, 0x7777])
def test_a_request_of_the_peer_s_is_refused_and_the_wait_goes_on(api: Api, field: int) -> None:
    with scripted(interrupted(encode_message(3, raw(field, 42), None))) as scp:
        assert api.run(_echo(api, scp.port)).code == 0xB000

    assert statuses(scp.peers[0]) == [(field | 0x8000, 42, 0x0211)]
    assert pdus(scp.peers[0]) == [ReleaseRQ()]


@with_both
def test_a_c_store_of_the_peer_s_is_refused_with_its_data_set_passed_over(api: Api) -> None:
    command = CStoreRQ(message_id=9, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3")
    pdus = (
        encode_message(3, command, None),
        p_data(pdv(3, DATA, pattern(5000))),
        p_data(pdv(3, LAST_DATA, pattern(100))),
    )

    with scripted(interrupted(*pdus)) as scp:
        assert api.run(_echo(api, scp.port)).code == 0xB000

    assert statuses(scp.peers[0]) == [(0x8001, 9, 0x0211)]


@with_both
def test_the_data_set_of_a_response_is_skipped(api: Api) -> None:
    """PS3.7 9.3.5.2 allows none; the association stays usable."""

    def script(peer: Peer) -> None:
        peer.accept()
        for _ in range(2):
            message = peer.expect(CEchoRQ)
            peer.send(encode_message(1, replace(response(message.command), has_data_set=True), pattern(5000)))
        peer.serve()

    async def scenario(port: int) -> None:
        async with api.associate(HOST, port, contexts=CONTEXTS) as association:
            assert [(await association.c_echo()).code for _ in range(2)] == [0, 0]

    with scripted(script) as scp:
        api.run(scenario(scp.port))


@with_both
def test_a_c_echo_of_the_peer_s_is_refused_too(api: Api) -> None:
    command = CEchoRQ(message_id=9, affected_sop_class_uid=VERIFICATION)

    with scripted(interrupted(encode_message(1, command, None))) as scp:
        assert api.run(_echo(api, scp.port)).code == 0xB000

    assert statuses(scp.peers[0]) == [(0x8030, 9, 0x0211)]


@with_both
def test_a_malformed_request_of_the_peer_s_is_refused_as_what_it_is(api: Api) -> None:
    command = raw(0x0001, 9)
    without = RawCommand({**command.elements, Element.AFFECTED_SOP_INSTANCE_UID: b""})

    with scripted(interrupted(encode_message(3, without, None))) as scp:
        assert api.run(_echo(api, scp.port)).code == 0xB000

    assert statuses(scp.peers[0]) == [(0x8001, 9, 0x0117)]


@with_both
def test_a_c_cancel_is_never_answered(api: Api) -> None:
    """PS3.7 9.3.2.3."""
    cancel = RawCommand(
        {
            Element.COMMAND_FIELD: struct.pack("<H", 0x0FFF),
            Element.MESSAGE_ID_BEING_RESPONDED_TO: struct.pack("<H", 1),
            Element.COMMAND_DATA_SET_TYPE: struct.pack("<H", 0x0101),
        }
    )

    with scripted(interrupted(encode_message(1, cancel, None))) as scp:
        assert api.run(_echo(api, scp.port)).code == 0xB000

    assert statuses(scp.peers[0]) == []


@with_both
def test_responses_to_nobody_are_passed_over(api: Api) -> None:
    """Robustness C10."""
    answer = response(CEchoRQ(message_id=1, affected_sop_class_uid=VERIFICATION), 0xA700)
    unasked = [encode_message(1, replace(answer, message_id_being_responded_to=number)) for number in (0, 2, 65535)]
    unknown = raw(0x8020, 0, STATUS=b"\0\xff", MESSAGE_ID_BEING_RESPONDED_TO=b"\1\0")

    with scripted(interrupted(*unasked, encode_message(1, unknown, None))) as scp:
        assert api.run(_echo(api, scp.port)).code == 0xB000

    assert statuses(scp.peers[0]) == []


# Releases of the peer's (PS3.8 7.2, Table 9-8).


@with_both
def test_a_release_collision_ends_well_for_the_requestor(api: Api) -> None:
    """AR-8, AR-9, AR-3: the requestor confirms first, and is confirmed then."""

    def script(peer: Peer) -> None:
        peer.accept()
        assert peer.receive() == ReleaseRQ()
        peer.send(ReleaseRQ())
        assert peer.receive() == ReleaseRP()
        peer.send(ReleaseRP())
        assert peer.receive() is None

    async def scenario(port: int) -> None:
        async with api.associate(HOST, port, contexts=CONTEXTS):
            pass

    with scripted(script) as scp:
        api.run(scenario(scp.port))

    assert pdus(scp.peers[0]) == [ReleaseRQ(), ReleaseRP()]


@with_both
def test_a_release_that_crosses_ours_on_the_way_is_a_collision_too(api: Api) -> None:
    def script(peer: Peer) -> None:
        request = peer.expect(AssociateRQ)
        peer.send(acceptance(request), ReleaseRQ())
        assert peer.receive() == ReleaseRQ()
        assert peer.receive() == ReleaseRP()
        peer.send(ReleaseRP())
        assert peer.receive() is None

    async def scenario(port: int) -> None:
        async with api.associate(HOST, port, contexts=CONTEXTS):
            pass

    with scripted(script) as scp:
        api.run(scenario(scp.port))


@with_both
def test_answers_that_come_late_do_not_disturb_the_release(api: Api) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        message = peer.expect(CEchoRQ)
        peer.answer(message)
        assert peer.receive() == ReleaseRQ()
        peer.answer(message)
        peer.send(ReleaseRP())
        assert peer.receive() is None

    with scripted(script) as scp:
        assert api.run(_echo(api, scp.port)).code == 0


@with_both
def test_a_peer_that_releases_instead_of_answering_is_told(api: Api) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect(CEchoRQ)
        peer.send(ReleaseRQ())
        assert peer.receive() == ReleaseRP()

    with (
        scripted(script) as scp,
        pytest.raises(dicomport.ConnectionLostError, match="the peer released the association"),
    ):
        api.run(_echo(api, scp.port))


@with_both
def test_a_peer_that_releases_and_goes_is_told_likewise(api: Api) -> None:
    """The connection ends before the confirmation; the RST may even discard the request."""

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect(CEchoRQ)
        peer.send(ReleaseRQ())
        peer.reset()

    for _ in range(10):
        with scripted(script) as scp, pytest.raises(dicomport.ConnectionLostError):
            api.run(_echo(api, scp.port))


@with_both
def test_a_release_request_inside_a_message_breaks_the_protocol(api: Api) -> None:
    part = p_data(pdv(1, COMMAND, encode_command(raw(0x0020, 7))[:20]))

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect(CEchoRQ)
        peer.send(part, ReleaseRQ())
        assert peer.receive() == Abort(AbortReason.UNEXPECTED_PDU)

    with scripted(script) as scp, pytest.raises(dicomport.AbortedError, match="A-RELEASE-RQ inside a message"):
        api.run(_echo(api, scp.port))


@with_both
def test_a_response_that_announces_a_data_set_and_sends_none_is_settled(api: Api) -> None:
    """The status is known with the command: the requestor does not wait for a data set."""

    def script(peer: Peer) -> None:
        peer.accept()
        message = peer.expect(CEchoRQ)
        peer.send(encode_message(1, replace(response(message.command), has_data_set=True), None))
        peer.serve()

    async def scenario(port: int) -> None:
        async with api.associate(HOST, port, contexts=CONTEXTS) as association:
            assert (await association.c_echo()).code == 0

    with scripted(script) as scp:
        api.run(scenario(scp.port))


# Several outstanding requests.


def test_each_response_restarts_the_timer_of_the_outstanding_requests() -> None:
    """The timer runs from the latest response: the peer works on one request after the other."""
    timeouts = dicomport.Timeouts(dimse=60)
    pair = CorePair()
    requestor = Requestor(REQUEST, timeouts)
    requestor.core = pair.requestor
    requestor.exchange = Exchange(pair.requestor)
    pair.associate(REQUEST, POLICY)
    pair.take(Role.REQUESTOR)
    requests = [CEchoRQ(message_id=number, affected_sop_class_uid=VERIFICATION) for number in (1, 2)]
    for request in requests:
        requestor.core.send_command(1, request)
        requestor.expect(request)
    pair.exchange()

    def respond() -> float | None:
        """Answer one request; return when the timer of the wait for the response was started."""
        steps = requestor.next_response()
        waits = [next(steps), steps.send(None)]
        request = requests.pop(0)
        pair.acceptor.send_command(1, response(request))
        requestor.core.receive(b"".join(pair.acceptor.take_output()))
        waits.append(steps.send(None))
        with pytest.raises(StopIteration) as done:
            steps.send(None)
        assert done.value.value == (request.message_id, dicomport.Status(0))
        (timer,) = [wait.timer for wait in waits if isinstance(wait, Receive)]
        assert isinstance(timer, Timer)
        return timer.since

    first, second = respond(), respond()
    assert first is not None
    assert second is not None
    assert first < second

"""Requests, responses and unexpected commands between two cores, without a socket."""

from __future__ import annotations

from typing import Final

import pytest
from tests.core.associations import POLICY, REQUEST
from tests.core.messages import CT, VERIFICATION

from dicomport.core import CommandMalformed, CommandReceived, Role
from dicomport.dimse import Exchange, Request, response_to, sop_instance_of
from dicomport.standard import SUCCESS, Status
from dicomport.testing import CorePair
from dicomport.wire import (
    CCancelRQ,
    CEchoRQ,
    CEchoRSP,
    Command,
    CStoreRQ,
    CStoreRSP,
    Deviation,
    Element,
    NActionRQ,
    NActionRSP,
    NEventReportRQ,
    NEventReportRSP,
    RawCommand,
    Response,
)

STORE: Final = CStoreRQ(message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3")
REPORT: Final = NEventReportRQ(
    message_id=3, affected_sop_class_uid="1.2", affected_sop_instance_uid="1.2.5", event_type_id=1
)
ACTION: Final = NActionRQ(
    message_id=4, requested_sop_class_uid="1.2", requested_sop_instance_uid="1.2.6", action_type_id=1
)


def echo(message_id: int) -> CEchoRQ:
    return CEchoRQ(message_id=message_id, affected_sop_class_uid=VERIFICATION)


def paired() -> tuple[CorePair, Exchange]:
    """Return two associated cores, and the exchange of the acceptor."""
    pair = CorePair()
    pair.associate(REQUEST, POLICY)
    for role in Role:
        pair.take(role)
    return pair, Exchange(pair.acceptor)


def received(pair: CorePair, command: Command | RawCommand, context_id: int = 1) -> CommandReceived | CommandMalformed:
    """Send a command from the requestor; return the acceptor's event."""
    pair.requestor.send_command(context_id, command)
    pair.exchange()
    (event,) = pair.take(Role.ACCEPTOR)
    assert isinstance(event, CommandReceived | CommandMalformed)
    return event


def answers(pair: CorePair) -> list[Command | RawCommand]:
    pair.exchange()
    events = pair.take(Role.REQUESTOR)
    return [event.command for event in events if isinstance(event, CommandReceived)]


def test_message_ids_restart_at_1_and_skip_outstanding_requests() -> None:
    _, exchange = paired()
    first = exchange.next_message_id()
    exchange.expect(echo(first))

    ids = [exchange.next_message_id() for _ in range(0xFFFF)]

    assert first == 1
    assert ids == [*range(2, 0x10000), 2]


def test_responses_settle_in_any_order() -> None:
    _, exchange = paired()
    for number in (1, 2, 3):
        exchange.expect(echo(number))

    for number, left in ((2, 2), (3, 1), (1, 0)):
        assert exchange.match_response(CEchoRSP(message_id_being_responded_to=number, status=number)) == Status(number)
        assert exchange.outstanding == left


def test_a_comment_and_offending_elements_are_part_of_the_status() -> None:
    _, exchange = paired()
    exchange.expect(STORE)

    status = exchange.match_response(
        CStoreRSP(message_id_being_responded_to=1, status=0xA900, error_comment="why", offending_element=(0x00080018,))
    )

    assert status == Status(0xA900, "why", (0x00080018,))


@pytest.mark.parametrize(
    "response",
    [
        CStoreRSP(message_id_being_responded_to=1, status=0),
        CEchoRSP(message_id_being_responded_to=2, status=0),
        CEchoRSP(message_id_being_responded_to=0, status=0),
    ],
)
def test_other_responses_are_unexpected(response: Response) -> None:
    _, exchange = paired()
    exchange.expect(echo(1))

    assert exchange.match_response(response) is None
    assert exchange.outstanding == 1


def test_a_response_settles_once_and_not_after_forget() -> None:
    _, exchange = paired()
    response = CEchoRSP(message_id_being_responded_to=1, status=0)
    exchange.expect(echo(1))

    assert [exchange.match_response(response), exchange.match_response(response)] == [SUCCESS, None]

    exchange.expect(echo(1))
    exchange.forget(echo(1))
    assert exchange.match_response(response) is None
    exchange.forget(echo(1))


@pytest.mark.parametrize(
    ("request_", "kind", "uids"),
    [
        (STORE, CStoreRSP, (CT, "1.2.3")),
        (echo(2), CEchoRSP, (VERIFICATION, "")),
        (REPORT, NEventReportRSP, ("1.2", "1.2.5")),
        (ACTION, NActionRSP, ("1.2", "1.2.6")),
    ],
)
def test_a_response_repeats_the_request(request_: Request, kind: type[Response], uids: tuple[str, str]) -> None:
    response = response_to(request_, Status(0x0110, "why", (0x00081150,)))

    assert type(response) is kind
    assert response.message_id_being_responded_to == request_.message_id
    assert (response.affected_sop_class_uid, response.affected_sop_instance_uid) == uids == sop_instance_of(request_)
    assert (response.status, response.error_comment, response.offending_element) == (0x0110, "why", (0x00081150,))


def test_an_unexpected_request_is_refused() -> None:
    pair, exchange = paired()

    reason = exchange.answer_unexpected(received(pair, ACTION), "only C-STORE")

    assert reason == "command 0130H is not served here"
    (answer,) = answers(pair)
    assert isinstance(answer, NActionRSP)
    assert (answer.message_id_being_responded_to, answer.status, answer.error_comment) == (4, 0x0211, "only C-STORE")


def test_a_malformed_request_is_refused_with_its_element() -> None:
    pair, exchange = paired()
    elements = {**STORE.to_raw().elements, Element.AFFECTED_SOP_INSTANCE_UID: b""}

    event = received(pair, RawCommand(elements), 3)
    reason = exchange.answer_unexpected(event)

    assert isinstance(event, CommandMalformed)
    assert reason == str(event.error)
    (answer,) = answers(pair)
    assert isinstance(answer, CStoreRSP)
    assert (answer.status, answer.offending_element) == (0x0117, (Element.AFFECTED_SOP_INSTANCE_UID,))


def test_an_unexpected_response_is_counted() -> None:
    pair, exchange = paired()

    event = received(pair, CEchoRSP(message_id_being_responded_to=9, status=0))

    assert exchange.answer_unexpected(event) == ""
    assert answers(pair) == []
    assert pair.acceptor.deviations == {Deviation.UNEXPECTED_RESPONSE: 1}


def test_a_c_cancel_is_ignored() -> None:
    """PS3.7 9.3.2.3."""
    pair, exchange = paired()

    assert exchange.answer_unexpected(received(pair, CCancelRQ(message_id_being_responded_to=1))) == ""
    assert answers(pair) == []
    assert not pair.acceptor.deviations

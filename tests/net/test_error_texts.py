"""The words of errors and of logged text."""

import logging

import pytest
from hypothesis import given, strategies as st

from dicomport.core import Aborted
from dicomport.logs import get_logger, printable
from dicomport.net import AbortedError, RejectedError, Timer, TimerExpiredError
from dicomport.wire import AbortReason, AssociateRJ, RejectReason


@given(st.text())
def test_any_text_is_printed_in_ascii_without_loss(text: str) -> None:
    shown = printable(text)

    assert shown.isascii()
    assert shown == "" or shown.isprintable()
    assert (shown == text) == all(" " <= char <= "~" for char in text)


def test_errors_describe_their_causes() -> None:
    rejection = AssociateRJ(RejectReason.LOCAL_LIMIT_EXCEEDED, transient=True)

    assert str(RejectedError(rejection)) == "the peer rejected the association (transient): local limit exceeded"
    assert str(AbortedError(Aborted(AbortReason.SERVICE_USER, by_peer=True))) == (
        "the peer aborted the association (service-user)"
    )
    assert str(AbortedError(Aborted(AbortReason.NOT_SPECIFIED, by_peer=False, detail="too long"))) == (
        "the peer violated the protocol and the association was aborted: too long"
    )
    assert str(TimerExpiredError(Timer("dimse", 60.0))) == "the dimse timer expired after 60 s"


def test_an_event_is_one_line_with_any_text_of_a_peer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "dicomport")

    get_logger("net").with_peer("192.0.2.1:104").info("association_ended", calling="EVIL\n\x1b[2J", stored=3)

    [record] = caplog.records
    assert record.name == "dicomport.net"
    assert record.getMessage() == 'association_ended address=192.0.2.1 port=104 calling="EVIL\\n\\u001b[2J" stored=3'
    assert record.fields == {  # type: ignore[attr-defined]
        "event": "association_ended",
        "address": "192.0.2.1",
        "port": 104,
        "calling": "EVIL\n\x1b[2J",
        "stored": 3,
    }


def test_an_exception_keeps_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ZeroDivisionError
    except ZeroDivisionError as error:
        get_logger("test").error("failed", exc_info=error)
        get_logger("test").exception("failed")

    assert [record.exc_info and record.exc_info[0] for record in caplog.records] == [ZeroDivisionError] * 2


def test_nothing_is_logged_below_the_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "dicomport")

    get_logger("test").info("nothing")

    assert caplog.records == []
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("dicomport").handlers)

"""Each return value and exception of a handler is answered, and the next C-STORE works (PS3.4 B.2.3).

The SCP's own codes are 0xC001, 0xC002, 0xC210 and 0xC211.
"""

import asyncio
import functools
import logging
import threading
from collections.abc import Callable
from typing import Any, Final

import pydicom
import pytest
from tests.scp.messages import DATA_SET, store

from dicomport import Handler, Status, StorageSCP, StoreRequest, UndecodableDataSetError
from dicomport.testing import ScriptedSCU
from dicomport.wire import CStoreRSP

ODD: Final = "1.2.3.1"
"""The instance with the tested result; all others are a success."""

FINE: Final = "1.2.3.2"
SECRET: Final = "password=hunter2"
TIMEOUT: Final = 60.0


def status_data_set(**elements: object) -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def answers(handler: Handler, data: bytes = DATA_SET) -> CStoreRSP:
    """Send an instance to `handler`, and check that the next instance reaches it too."""
    with StorageSCP(handler, port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate()
        response = peer.store(ODD, data, message_id=7)
        assert response.message_id_being_responded_to == 7
        assert response.affected_sop_instance_uid == ODD
        following = peer.store(FINE, DATA_SET, message_id=8)
        assert following.message_id_being_responded_to == 8
        assert following.status == 0x0000
        peer.release()
    return response


def verdict_for(odd: Callable[[StoreRequest], Any]) -> dict[str, Handler]:
    """Build handlers of each kind that act on one instance, and return 0 for all others."""

    def function(request: StoreRequest) -> Any:
        return odd(request) if request.sop_instance_uid == ODD else 0x0000

    async def coroutine(request: StoreRequest) -> Any:
        await asyncio.sleep(0)
        return function(request)

    class Callable_:  # noqa: N801
        def __call__(self, request: StoreRequest) -> Any:
            return function(request)

        async def method(self, request: StoreRequest) -> Any:
            return await coroutine(request)

    class AsyncCallable:
        async def __call__(self, request: StoreRequest) -> Any:
            return await coroutine(request)

    def with_more(more: int, request: StoreRequest) -> Any:
        assert more == 1
        return function(request)

    def gives_awaitable(request: StoreRequest) -> Any:
        return coroutine(request)

    return {
        "function": function,
        "coroutine function": coroutine,
        "callable object": Callable_(),
        "method that is a coroutine function": Callable_().method,
        "async callable object": AsyncCallable(),
        "partial function": functools.partial(with_more, 1),
        "partial coroutine function": functools.partial(coroutine),
        "function that gives an awaitable": gives_awaitable,
    }


KINDS: Final = list(verdict_for(lambda _request: 0))

STATUS_ONLY: Final = status_data_set(Status=0xB007)
FULL: Final = status_data_set(Status=0xA900, ErrorComment="no such class", OffendingElement=[0x00080016, 0x00080018])
ONE_OFFENDING: Final = status_data_set(Status=0xA900, OffendingElement=0x00080016)
WITHOUT_STATUS: Final = status_data_set(ErrorComment="forgot it")

VERDICTS: Final[dict[str, tuple[object, tuple[int, str, tuple[int, ...]]]]] = {
    "success": (0x0000, (0x0000, "", ())),
    "a code": (0xA700, (0xA700, "", ())),
    "the highest code": (0xFFFF, (0xFFFF, "", ())),
    "a Status": (
        Status(0xC123, "not on Sundays", (0x00100020, 0x00080018)),
        (0xC123, "not on Sundays", (0x00100020, 0x00080018)),
    ),
    "a data set with Status": (STATUS_ONLY, (0xB007, "", ())),
    "a data set with all": (FULL, (0xA900, "no such class", (0x00080016, 0x00080018))),
    "a data set with one offending element": (ONE_OFFENDING, (0xA900, "", (0x00080016,))),
    "a data set with a long comment": (
        status_data_set(Status=0xC000, ErrorComment="x" * 64),
        (0xC000, "x" * 64, ()),
    ),
    "a data set without Status": (WITHOUT_STATUS, (0xC001, "", ())),
    "an empty data set": (pydicom.Dataset(), (0xC001, "", ())),
    "a data set with an empty Status": (status_data_set(Status=None), (0xC002, "", ())),
    "text": ("0000", (0xC002, "", ())),
    "None": (None, (0xC002, "", ())),
    "True": (True, (0xC002, "", ())),
    "a float": (0.0, (0xC002, "", ())),
    "too high a number": (70000, (0xC002, "", ())),
    "a negative number": (-1, (0xC002, "", ())),
    "a dictionary": ({"Status": 0}, (0xC002, "", ())),
}


@pytest.mark.parametrize("kind", ["function", "coroutine function"])
@pytest.mark.parametrize(("verdict", "sent"), VERDICTS.values(), ids=VERDICTS)
def test_results_of_a_handler_become_statuses(
    kind: str, verdict: object, sent: tuple[int, str, tuple[int, ...]]
) -> None:
    response = answers(verdict_for(lambda _request: verdict)[kind])
    assert (response.status, response.error_comment, response.offending_element) == sent


@pytest.mark.parametrize("kind", KINDS)
def test_handlers_of_every_kind_are_called(kind: str) -> None:
    asked: list[str] = []

    def odd(request: StoreRequest) -> int:
        asked.append(request.sop_instance_uid)
        return 0xA700

    assert answers(verdict_for(odd)[kind]).status == 0xA700
    assert asked == [ODD]


ERRORS: Final = [
    RuntimeError(SECRET),
    OSError(28, SECRET),
    KeyError(SECRET),
    TimeoutError(SECRET),
    asyncio.CancelledError(SECRET),
    StopIteration(SECRET),
    AssertionError(SECRET),
    RecursionError(SECRET),
    ExceptionGroup(SECRET, [ValueError(SECRET)]),
]


@pytest.mark.parametrize("kind", ["function", "coroutine function", "function that gives an awaitable"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_exception_of_a_handler_is_c211_and_its_text_stays_here(
    kind: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def odd(_request: StoreRequest) -> int:
        raise error

    with caplog.at_level(logging.ERROR):
        response = answers(verdict_for(odd)[kind])
    assert response == CStoreRSP(
        message_id_being_responded_to=7,
        affected_sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        affected_sop_instance_uid=ODD,
        status=0xC211,
    )
    # But the log has it, with its traceback, for the handler's author.
    [record] = [record for record in caplog.records if record.getMessage().startswith("handler_raised")]
    assert record.exc_info is not None
    assert SECRET in caplog.text


def test_a_status_of_a_handler_may_have_any_comment() -> None:
    response = answers(verdict_for(lambda _request: Status(0xC000, "caf\xe9\\\n" + "x" * 65))["function"])
    assert (response.status, response.error_comment) == (0xC000, "caf???" + "x" * 58)


def test_a_status_that_cannot_be_sent_is_an_exception_of_the_handler() -> None:
    assert answers(verdict_for(lambda _request: Status(0xC000, offending=(-1,)))["function"]).status == 0xC211


def test_a_comment_that_a_command_set_cannot_hold_is_made_to_fit() -> None:
    verdict = status_data_set(Status=0xC000, ErrorComment=f"größer als {'x' * 50}")
    response = answers(verdict_for(lambda _request: verdict)["function"])
    assert (response.status, response.error_comment) == (0xC000, f"gr??er als {'x' * 50}")


UNDECODABLE: Final = {
    "truncated in its last value": DATA_SET[:-2],
    "truncated in its first value": DATA_SET[:12],
    "garbage": bytes(range(250)),
    "garbage of a kind": b"GET / HTTP/1.1\r\n\r\n",
    "empty": b"",
}


@pytest.mark.parametrize("kind", ["function", "coroutine function"])
@pytest.mark.parametrize("data", UNDECODABLE.values(), ids=UNDECODABLE)
def test_a_data_set_that_a_handler_cannot_decode_is_c210(kind: str, data: bytes) -> None:
    def odd(request: StoreRequest) -> int:
        request.dataset()
        return 0x0000

    response = answers(verdict_for(odd)[kind], data)
    assert (response.status, response.error_comment) == (0xC210, "")


def test_a_handler_may_catch_what_it_cannot_decode() -> None:
    def odd(request: StoreRequest) -> int:
        try:
            request.dataset()
        except UndecodableDataSetError:
            return 0xB000
        return 0x0000

    assert answers(verdict_for(odd)["function"], b"").status == 0xB000


def test_a_data_set_is_not_decoded_unless_the_handler_asks() -> None:
    assert answers(lambda request: 0xB000 if request.size == 3 else 0, b"\xff\xff\xff").status == 0xB000


def test_a_blocking_handler_does_not_block_other_associations() -> None:
    entered, go = threading.Event(), threading.Event()

    def handler(request: StoreRequest) -> int:
        if request.sop_instance_uid == ODD:
            entered.set()
            assert go.wait(TIMEOUT)
        return 0x0000

    with (
        StorageSCP(handler, port=0).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as held,
        ScriptedSCU("127.0.0.1", scp.port) as other,
    ):
        held.associate()
        held.send(store(1, ODD))
        assert entered.wait(TIMEOUT)
        other.associate()
        assert other.store(FINE, DATA_SET).status == 0x0000
        assert held.silent
        go.set()
        assert held.expect(CStoreRSP).command.status == 0x0000


def test_a_coroutine_that_waits_does_not_hold_up_another_association() -> None:
    entered: asyncio.Event
    go: asyncio.Event

    async def handler(request: StoreRequest) -> int:
        if request.sop_instance_uid == ODD:
            entered.set()
            await go.wait()
        return 0x0000

    async def scenario() -> None:
        nonlocal entered, go
        entered, go = asyncio.Event(), asyncio.Event()
        async with StorageSCP(handler, port=0) as scp:
            with (
                await asyncio.to_thread(ScriptedSCU, "127.0.0.1", scp.port) as held,
                await asyncio.to_thread(ScriptedSCU, "127.0.0.1", scp.port) as other,
            ):
                await asyncio.to_thread(held.associate)
                held.send(store(1, ODD))
                await entered.wait()
                await asyncio.to_thread(other.associate)
                assert (await asyncio.to_thread(other.store, FINE, DATA_SET)).status == 0x0000
                assert held.silent
                go.set()
                assert (await asyncio.to_thread(held.expect, CStoreRSP)).command.status == 0x0000

    asyncio.run(scenario())


def test_functions_run_in_threads_and_coroutines_in_the_event_loop() -> None:
    threads: dict[str, str] = {}

    def function(_request: StoreRequest) -> int:
        threads["function"] = threading.current_thread().name
        return 0

    async def coroutine(_request: StoreRequest) -> int:
        threads["coroutine"] = threading.current_thread().name
        return 0

    for handler in (function, coroutine):
        with StorageSCP(handler, port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.associate()
            assert peer.store("1.2.3.4", DATA_SET).status == 0x0000
    assert threads["coroutine"] == "dicomport-scp"
    assert threads["function"] != "dicomport-scp"

"""No exception of the user's code ends more than its own association, not even one that ends programs."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

import pytest
from tests.core.messages import CT, EXPLICIT
from tests.scp.messages import DATA_SET, context, request
from tests.scp.storages import Recorder

from dicomport import AssociationInfo, Status, StorageSCP, StoreRequest
from dicomport.scp import NormalizedOperation
from dicomport.testing import ScriptedSCU
from dicomport.wire import (
    AssociateAC,
    AssociateRJ,
    AsynchronousOperationsWindow,
    NActionRQ,
    NActionRSP,
    UserIdentityAC,
    UserIdentityRQ,
    UserInformation,
)

PUSH_MODEL: Final = "1.2.840.10008.1.20.1"


ACTION: Final = NActionRQ(
    has_data_set=False,
    message_id=1,
    requested_sop_class_uid=PUSH_MODEL,
    requested_sop_instance_uid="1.2.840.10008.1.20.1.1",
    action_type_id=1,
)


class UncommonError(BaseException):
    """An exception that `except Exception` does not catch."""


ERRORS: Final = [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit, UncommonError, StopIteration]
each_error: Final = pytest.mark.parametrize("error", ERRORS)


@pytest.fixture(autouse=True)
def _no_task_fails(caplog: pytest.LogCaptureFixture) -> Any:
    """Check that the exception was caught where the user's code was called."""
    with caplog.at_level(logging.INFO):
        yield
    events = [record.getMessage().split(" ", 1)[0] for record in caplog.get_records("call")]
    assert "connection_failed" not in events
    assert not [record for record in caplog.get_records("call") if record.name.startswith("asyncio")]


def serves(scp: StorageSCP, *, window: int = 1) -> list[int]:
    """Store two instances on one association, and return the statuses."""
    operations = AsynchronousOperationsWindow(window, 1) if window > 1 else None
    items = UserInformation(maximum_length=16384, operations_window=operations)
    with ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate(request=request(context(1, CT, EXPLICIT), items=items))
        statuses = [peer.store(uid, DATA_SET).status for uid in ("1.2.3.4", "1.2.3.5")]
        peer.release()
    return statuses


class Once:
    """Raises an exception at the first call."""

    def __init__(self, error: type[BaseException]) -> None:
        self._error: type[BaseException] | None = error

    def __call__(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error("some reason")


@pytest.mark.parametrize("kind", ["function", "coroutine", "awaitable"])
@each_error
def test_of_a_handler(error: type[BaseException], kind: str) -> None:
    fail = Once(error)

    def function(_request: StoreRequest) -> int:
        fail()
        return 0

    async def coroutine(request_: StoreRequest) -> int:
        await asyncio.sleep(0)
        return function(request_)

    def awaitable(request_: StoreRequest) -> Awaitable[int]:
        return coroutine(request_)

    handler: Any = {"function": function, "coroutine": coroutine, "awaitable": awaitable}[kind]
    with StorageSCP(handler, port=0).in_thread() as scp:
        assert serves(scp) == [0xC211, 0]
        assert serves(scp) == [0, 0]


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("fails", ["begin", "write", "commit"])
@each_error
def test_of_a_storage(error: type[BaseException], fails: str, window: int) -> None:
    storage = Recorder(fails=fails, error=error("some reason"))
    with StorageSCP(storage, port=0).in_thread() as scp:
        assert serves(scp, window=window) == [0x0110, 0x0110]
        storage.fails = ""
        assert serves(scp, window=window) == [0, 0]


@each_error
def test_of_discard(error: type[BaseException]) -> None:
    storage = Recorder(fails="discard", error=error("some reason"))
    with StorageSCP(storage, port=0).in_thread() as scp:
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.associate()
            peer.send(peer.encode_store("1.2.3.4", DATA_SET)[:-1])
        assert serves(scp) == [0, 0]


def _call(function: Callable[[], None], *_arguments: object) -> None:
    function()


@pytest.mark.parametrize("callback", ["on_stored", "on_association_end"])
@each_error
def test_of_a_callback(error: type[BaseException], callback: str, caplog: pytest.LogCaptureFixture) -> None:
    callbacks: dict[str, Any] = {callback: functools.partial(_call, Once(error))}
    with StorageSCP(Recorder(), port=0, **callbacks).in_thread() as scp:
        assert serves(scp) == [0, 0]
        assert serves(scp) == [0, 0]
    assert f"{callback}_raised" in caplog.text


@pytest.mark.parametrize("kind", ["function", "coroutine"])
@each_error
def test_of_a_check_of_user_identities(error: type[BaseException], kind: str, caplog: pytest.LogCaptureFixture) -> None:
    fail = Once(error)

    def function(_identity: UserIdentityRQ, _association: AssociationInfo) -> UserIdentityAC:
        fail()
        return UserIdentityAC()

    async def coroutine(identity: UserIdentityRQ, association: AssociationInfo) -> UserIdentityAC:
        return function(identity, association)

    check: Any = {"function": function, "coroutine": coroutine}[kind]
    items = UserInformation(maximum_length=16384, user_identity=UserIdentityRQ(2, False, b"jane", b"x"))
    replies = []
    with StorageSCP(Recorder(), port=0, user_identity=check).in_thread() as scp:
        for _ in range(2):
            with ScriptedSCU("127.0.0.1", scp.port) as peer:
                peer.send(request(items=items))
                replies.append(type(peer.receive()))
    assert replies == [AssociateRJ, AssociateAC]
    if error is not StopIteration:
        assert f"error={error.__name__}" in caplog.text


@each_error
def test_of_abstract_syntaxes(error: type[BaseException]) -> None:
    fail = Once(error)

    def decide(*_arguments: object) -> bool:
        fail()
        return True

    with StorageSCP(Recorder(), port=0, abstract_syntaxes=decide).in_thread() as scp:
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.send(request())
            assert isinstance(peer.receive(), AssociateRJ)
        assert serves(scp) == [0, 0]


class Service:
    """A service for requests of storage commitment."""

    sop_classes: Collection[str] = (PUSH_MODEL,)
    is_user = False

    def __init__(self, error: type[BaseException]) -> None:
        self._fail = Once(error)

    async def start(self) -> None:
        """Start."""

    async def stop(self, within: float) -> None:
        """Stop."""

    async def perform(self, _operation: NormalizedOperation) -> Status:
        self._fail()
        return Status(0)


@each_error
def test_of_a_service(error: type[BaseException]) -> None:
    with StorageSCP(Recorder(), port=0, commitment=Service(error)).in_thread() as scp:
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.associate(request=request(context(1, PUSH_MODEL)))
            statuses = []
            for _ in range(2):
                peer.send_message(1, ACTION)
                statuses.append(peer.expect(NActionRSP).command.status)
            peer.release()
        assert statuses == [0x0110, 0]
        assert serves(scp) == [0, 0]


class Unstartable(Service):
    async def start(self) -> None:
        self._fail()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, UncommonError])
def test_of_the_start_of_a_service_reaches_the_caller(error: type[BaseException]) -> None:
    with pytest.raises(error), StorageSCP(Recorder(), port=0, commitment=Unstartable(error)).in_thread():
        pass

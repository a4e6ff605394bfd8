"""Many requests with user identities: addresses take turns, and a user who could not be checked may try again."""

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Final

import pytest
from tests.scp.messages import request
from tests.scp.storages import Recorder

from dicomport import AssociationInfo, Limits, StorageSCP, Timeouts, TimerExpiredError
from dicomport.net import Timer
from dicomport.scp import UserIdentityCheck
from dicomport.scp.access.threads import FairThreads
from dicomport.testing import ScriptedSCU
from dicomport.wire import AssociateAC, AssociateRJ, RejectReason, UserIdentityAC, UserIdentityRQ, UserInformation

INVALID: Final = AssociateRJ(RejectReason.ACSE_NO_REASON)
NOT_IN_TIME: Final = AssociateRJ(RejectReason.TEMPORARY_CONGESTION, transient=True)
TOO_MANY: Final = AssociateRJ(RejectReason.LOCAL_LIMIT_EXCEEDED, transient=True)


class Directory:
    """A blocking check: it keeps each user "flood" until `release`, and accepts "jane" at once."""

    def __init__(self) -> None:
        self.checked: list[str] = []
        """The address of each check, in the order in which they started."""
        self._started = threading.Semaphore(0)
        self._released = threading.Semaphore(0)

    def __call__(self, identity: UserIdentityRQ, association: AssociationInfo) -> UserIdentityAC | None:
        self.checked.append(association.host)
        self._started.release()
        if identity.primary_field == b"flood":
            assert self._released.acquire(timeout=60)
            return None
        return UserIdentityAC()

    def wait_started(self, number: int = 1) -> None:
        for _ in range(number):
            assert self._started.acquire(timeout=60)

    def release(self, number: int = 1) -> None:
        self._released.release(number)


@pytest.fixture
def directory() -> Iterator[Directory]:
    made = Directory()
    yield made
    made.release(100)


@contextlib.contextmanager
def asking(scp: StorageSCP, user: bytes, source: str) -> Iterator[ScriptedSCU]:
    identity = UserIdentityRQ(2, positive_response_requested=False, primary_field=user, secondary_field=b"secret")
    with ScriptedSCU("127.0.0.1", scp.port, source=source) as peer:
        peer.send(request(items=UserInformation(maximum_length=16384, user_identity=identity)))
        yield peer


def answer(scp: StorageSCP, user: bytes, source: str = "127.0.0.1") -> object:
    with asking(scp, user, source) as peer:
        reply = peer.receive()
        if isinstance(reply, AssociateAC):
            peer.release()
            return None
        return reply


def test_a_flood_from_one_address_does_not_delay_another(directory: Directory) -> None:
    timeouts = Timeouts(acse=10)
    with (
        StorageSCP(Recorder(), port=0, user_identity=directory, timeouts=timeouts).in_thread() as scp,
        contextlib.ExitStack() as stack,
    ):
        flood = [stack.enter_context(asking(scp, b"flood", "127.0.0.2")) for _ in range(6)]
        directory.wait_started(2)
        assert answer(scp, b"jane") is None
        directory.release(6)
        assert [peer.receive() for peer in flood] == [INVALID] * 6
    assert directory.checked == ["127.0.0.2", "127.0.0.2", "127.0.0.1", *["127.0.0.2"] * 4]


def test_the_checks_of_one_address_are_limited(directory: Directory) -> None:
    limits = Limits(identity_checks_per_address=2)
    with StorageSCP(Recorder(), port=0, user_identity=directory, limits=limits).in_thread() as scp:
        with asking(scp, b"flood", "127.0.0.2") as first, asking(scp, b"flood", "127.0.0.2") as second:
            directory.wait_started(2)
            assert answer(scp, b"jane", "127.0.0.2") == TOO_MANY
            assert answer(scp, b"jane", "127.0.0.3") is None
            directory.release(2)
            assert [first.receive(), second.receive()] == [INVALID] * 2
        assert answer(scp, b"jane", "127.0.0.2") is None
        assert scp.counters == {"limit.identity_checks_per_address": 1}


def test_an_identity_that_is_not_checked_in_time_may_be_sent_again(
    directory: Directory, caplog: pytest.LogCaptureFixture
) -> None:
    timeouts = Timeouts(acse=0.2)
    with (
        caplog.at_level(logging.INFO, "dicomport"),
        StorageSCP(Recorder(), port=0, user_identity=directory, timeouts=timeouts).in_thread() as scp,
    ):
        assert answer(scp, b"flood", "127.0.0.2") == NOT_IN_TIME
        # Its thread still works for it: the address gets no more than its second one.
        assert [answer(scp, b"flood", "127.0.0.2") for _ in range(3)] == [NOT_IN_TIME] * 3
        assert answer(scp, b"jane") is None
        directory.release(2)
        assert answer(scp, b"jane", "127.0.0.2") is None
    assert "the user identity was not checked within 0.2 s" in caplog.text


def expires(_identity: UserIdentityRQ, _association: AssociationInfo) -> UserIdentityAC:
    raise TimerExpiredError(Timer("connect", 3).started())


async def expires_too(identity: UserIdentityRQ, association: AssociationInfo) -> UserIdentityAC:
    return expires(identity, association)


@pytest.mark.parametrize("check", [expires, expires_too])
def test_a_check_that_raises_a_timeout_is_not_reported_as_slow(
    check: UserIdentityCheck, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.INFO, "dicomport"),
        StorageSCP(Recorder(), port=0, user_identity=check).in_thread() as scp,
    ):
        assert answer(scp, b"jane") == INVALID
    assert "error=TimerExpiredError" in caplog.text
    assert "within" not in caplog.text


# The threads alone.


def test_keys_take_turns() -> None:
    started: list[str] = []

    async def main() -> None:
        threads = FairThreads(1, 1, "test")
        waiting = [threads.call(key, functools.partial(started.append, key)) for key in "aaaabbbc"]
        await asyncio.gather(*waiting)

    asyncio.run(main())
    assert "".join(started) == "aabcabab"


def test_a_key_uses_a_part_of_the_threads() -> None:
    lock = threading.Lock()
    calls = dict.fromkeys("ab", 0)
    running = dict.fromkeys("ab", 0)
    most = dict.fromkeys("ab", 0)

    def function(key: str) -> None:
        with lock:
            calls[key] += 1
            running[key] += 1
            most[key] = max(most[key], running[key])
        with lock:
            running[key] -= 1

    async def main() -> None:
        threads = FairThreads(3, 1, "test")
        await asyncio.gather(*(threads.call(key, functools.partial(function, key)) for key in "ab" * 50))

    asyncio.run(main())
    assert calls == {"a": 50, "b": 50}
    assert most == {"a": 1, "b": 1}


def test_a_cancelled_call_gives_its_turn_to_the_next() -> None:
    go = threading.Event()

    async def main() -> None:
        threads = FairThreads(1, 1, "test")
        running = asyncio.create_task(threads.call("a", go.wait))
        waiting = [asyncio.create_task(threads.call(key, go.is_set)) for key in ("a", "b", "b", "c")]
        await asyncio.sleep(0)
        for task in waiting[:2]:
            task.cancel()
        await asyncio.wait(waiting[:2])
        running.cancel()
        await asyncio.wait([running])
        # The cancelled call's thread still runs: no other call starts before it ends.
        assert not any(task.done() for task in waiting[2:])
        go.set()
        assert await asyncio.gather(*waiting[2:]) == [True, True]
        assert await threads.call("a", go.is_set)

    asyncio.run(main())


def test_a_call_that_is_cancelled_in_its_turn_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call is cancelled after it got its turn, and before its task continues."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        schedule = loop.call_soon_threadsafe
        threads = FairThreads(1, 1, "test")
        go = threading.Event()
        first = asyncio.create_task(threads.call("a", go.wait))
        await asyncio.sleep(0)
        second = asyncio.create_task(threads.call("b", int))
        await asyncio.sleep(0)

        def schedule_with_cancellation(callback: Callable[..., object], *arguments: object) -> object:
            return schedule(lambda: (callback(*arguments), second.cancel()))

        monkeypatch.setattr(loop, "call_soon_threadsafe", schedule_with_cancellation)
        go.set()
        await asyncio.wait([first, second])
        assert second.cancelled()
        monkeypatch.undo()
        assert await threads.call("c", int) == 0

    asyncio.run(main())

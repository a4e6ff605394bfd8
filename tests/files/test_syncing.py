"""fsync for several callers: they share its calls, and each receives the error of the call that it has joined."""

import errno
import threading
from collections.abc import Callable, Iterator

import pytest

from dicomport.files import SharedSync, SyncThreads


@pytest.fixture
def threads() -> Iterator[SyncThreads]:
    opened = SyncThreads()
    yield opened
    opened.close()


def test_calls_run_at_once_and_each_error_belongs_to_its_call(threads: SyncThreads) -> None:
    barrier = threading.Barrier(8)
    errors = {2: OSError(errno.EIO, "two"), 5: OSError(errno.ENOSPC, "five")}

    def call(number: int) -> None:
        barrier.wait(60)
        if number in errors:
            raise errors[number]

    def calling(number: int) -> Callable[[], None]:
        return lambda: call(number)

    assert threads.run([calling(number) for number in range(8)]) == [errors.get(number) for number in range(8)]


def test_a_single_call_needs_no_thread(threads: SyncThreads) -> None:
    called: list[int] = []
    assert threads.run([lambda: called.append(threading.get_ident())]) == [None]
    assert threads.run([]) == []
    assert called == [threading.get_ident()]


class Held:
    """An fsync that is held, and fails as wanted."""

    def __init__(self) -> None:
        self.count = 0
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.errors: dict[int, Exception] = {}

    def __call__(self) -> None:
        self.count += 1
        self.entered.release()
        assert self.go.acquire(timeout=60)
        if self.count in self.errors:
            raise self.errors[self.count]


class Callers:
    """Threads that share an fsync, and their results."""

    def __init__(self, shared: SharedSync) -> None:
        self._shared = shared
        self.results: dict[str, Exception | None] = {}
        self._threads: list[threading.Thread] = []

    def start(self, *names: str) -> None:
        """Start callers, and wait until each waits for an fsync or performs it."""
        for name in names:
            thread = threading.Thread(target=self._call, args=(name,))
            thread.start()
            self._threads.append(thread)
        while len(self._shared._changed._waiters) < self._waiting:  # type: ignore[attr-defined]
            threading.Event().wait(0.001)

    @property
    def _waiting(self) -> int:
        """The number of threads that do not perform the fsync themselves."""
        return len(self._threads) - len(self.results) - 1

    def _call(self, name: str) -> None:
        try:
            self._shared()
        except Exception as error:  # noqa: BLE001  # the test compares it
            self.results[name] = error
        else:
            self.results[name] = None

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)


def test_callers_that_arrive_during_an_fsync_share_the_next_one() -> None:
    held = Held()
    callers = Callers(SharedSync(held))
    callers.start("first")
    assert held.entered.acquire(timeout=60)
    callers.start(*"abcdefgh")
    assert callers.results == {}
    held.go.release()
    assert held.entered.acquire(timeout=60)
    # The first fsync may have begun before the others had created their names.
    while "first" not in callers.results:
        threading.Event().wait(0.001)
    assert set(callers.results) == {"first"}
    held.go.release()
    callers.join()
    assert callers.results == dict.fromkeys(["first", *"abcdefgh"])
    assert held.count == 2


def test_an_error_reaches_the_callers_of_its_fsync_only() -> None:
    held = Held()
    held.errors[2] = OSError(errno.EIO, "Input/output error")
    callers = Callers(SharedSync(held))
    callers.start("first")
    assert held.entered.acquire(timeout=60)
    callers.start("a", "b")
    held.go.release()
    assert held.entered.acquire(timeout=60)
    while "first" not in callers.results:
        threading.Event().wait(0.001)
    callers.start("later")
    held.go.release()
    assert held.entered.acquire(timeout=60)
    held.go.release()
    callers.join()
    assert callers.results["first"] is None
    assert callers.results["later"] is None
    errors = [callers.results[name] for name in "ab"]
    assert [(type(error), error.errno) for error in errors if isinstance(error, OSError)] == 2 * [(OSError, errno.EIO)]
    assert errors[0] is not errors[1]


def test_an_error_that_is_no_error_of_the_system_reaches_the_caller() -> None:
    def fail() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        SharedSync(fail)()

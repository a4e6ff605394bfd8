"""Step generators without a socket: their waits, and errors of the transport connection and timers."""

from collections.abc import Iterable
from typing import Final

import pytest
from tests.core.associations import established, opened, output, released_by_us
from tests.core.messages import RELEASE_RQ, associate_rq

from dicomport.core import Association, AssociationRequested, ConnectionLost, CoreEvent, ReleaseRequested, Role, State
from dicomport.net import FLUSH, Steps, Timeouts, Timer, TimerExpiredError, next_event
from dicomport.net.errors import check_deadline
from dicomport.net.generators import Receive, Wait
from dicomport.net.timers import ARTIM, ArtimTimer, Progress

TIMER: Final = Timer("dimse", 60.0)
RECEIVE: Final = Receive(TIMER)

Happening = bytes | BaseException | None
"""The result of a wait: bytes for the core, an error, or None for success."""


def run(core: Association, happenings: Iterable[Happening]) -> tuple[list[Wait], CoreEvent | None]:
    """Run `next_event` with these results of its waits, and return the waits and the event."""
    steps: Steps[CoreEvent | None] = next_event(core, TIMER)
    waits: list[Wait] = []
    endings = iter(happenings)
    try:
        waits.append(next(steps))
        while True:
            match next(endings):
                case bytes() as data:
                    core.receive(data)
                    waits.append(next(steps))
                case None:
                    waits.append(next(steps))
                case error:
                    waits.append(steps.throw(error))
    except StopIteration as done:
        event: CoreEvent | None = done.value
        return waits, event


def test_output_is_sent_before_any_wait() -> None:
    waits, event = run(established(), [None, RELEASE_RQ, None])

    assert (waits, event) == ([FLUSH, RECEIVE, FLUSH], ReleaseRequested())


def test_a_pending_event_is_returned_after_the_output_is_sent() -> None:
    core = established()
    core.receive(RELEASE_RQ)

    assert run(core, [None]) == ([FLUSH], ReleaseRequested())


def test_bytes_that_make_no_event_yet_are_waited_on() -> None:
    request = associate_rq()

    waits, event = run(opened(), [None, request[:1], None, request[1:100], None, request[100:], None])

    assert waits == [FLUSH, RECEIVE] * 3 + [FLUSH]
    assert isinstance(event, AssociationRequested)


@pytest.mark.parametrize("error", [ConnectionResetError(), BrokenPipeError(), OSError(5, "I/O error")])
def test_an_error_of_the_connection_is_its_end(error: OSError) -> None:
    assert run(established(), [None, error, None])[1] == ConnectionLost()


def test_bytes_of_a_peer_that_stopped_reading_are_received() -> None:
    waits, event = run(established(), [BrokenPipeError(), RELEASE_RQ, None])

    assert (waits, event) == ([FLUSH, RECEIVE, FLUSH], ReleaseRequested())
    assert run(established(), [BrokenPipeError(), ConnectionResetError(), None])[1] == ConnectionLost()


def test_the_end_of_a_finished_connection_is_not_an_event() -> None:
    core = released_by_us(Role.ACCEPTOR)

    assert run(core, [None, ConnectionResetError(), None])[1] is None
    assert core.state is State.STA1
    assert run(core, [None]) == ([FLUSH], None)


def test_a_timer_of_the_caller_s_is_the_caller_s_business() -> None:
    with pytest.raises(TimerExpiredError) as error:
        run(established(), [None, TimerExpiredError(TIMER)])
    assert error.value.timer is TIMER


def test_artim_is_the_core_s_business() -> None:
    """PS3.8 9.1.5, Evt18."""
    core = opened()

    _, event = run(core, [None, TimerExpiredError(Timer(ARTIM, 0.0)), None])

    assert (event, core.closing, output(core)) == (None, True, b"")


def test_artim_replaces_a_timer_while_it_runs() -> None:
    core = opened()
    clock = ArtimTimer(core, 30.0)
    first, second = clock.deadline(TIMER), clock.deadline(TIMER)

    assert (first.name, second.name) == (ARTIM, ARTIM)
    assert 0 <= second.seconds <= first.seconds <= 30.0

    core.receive(associate_rq())
    core.next_event()
    assert clock.deadline(TIMER) is TIMER


def test_an_expired_artim_leaves_zero_seconds() -> None:
    clock = ArtimTimer(opened(), 0.0)

    assert [clock.deadline(TIMER).seconds for _ in range(3)] == [0.0, 0.0, 0.0]


def test_timeouts_have_names_and_defaults() -> None:
    timeouts = Timeouts(connect=1, acse=2, dimse=3, network=4, tls=5)

    for names, seconds in (("connect", 1), ("acse artim release", 2), ("dimse", 3), ("network idle progress write", 4)):
        assert [timeouts.timer(name) for name in names.split()] == [Timer(name, seconds) for name in names.split()]
    finer = Timeouts(acse=2, network=4, artim=0, release=11, idle=12, progress=13, write=14)
    assert [finer.timer(name).seconds for name in ("artim", "release", "idle", "progress", "write")] == [
        *(0, 11, 12, 13, 14)
    ]


def test_progress_is_so_many_bytes_in_each_window_of_waiting() -> None:
    progress = Progress(10.0, 100)

    for _ in range(50):
        # Just fast enough: a window's last byte arrives in its last second.
        progress.record_wait(5.0, 1)
        assert progress.left == 5.0
        progress.record_wait(5.0, 999)
        assert progress.left == 10.0
    progress.record_wait(9.0, 999)
    assert progress.left == 1.0
    # Bytes that arrive at once need no wait.
    progress.record_wait(0.0, 1)
    assert progress.left == 10.0


def test_progress_that_is_too_slow_leaves_no_time() -> None:
    progress = Progress(10.0, 100)

    progress.record_wait(6.0, 500)
    progress.record_wait(6.0, 499)

    assert progress.left <= 0
    with pytest.raises(TimerExpiredError, match=r"^the progress timer expired after 10 s$"):
        check_deadline(progress)
    progress.restart()
    assert check_deadline(progress).left == 10.0


def test_a_rate_of_zero_still_requires_a_byte() -> None:
    progress = Progress(10.0, 0)

    progress.record_wait(9.0, 0)
    assert progress.left == 1.0
    progress.record_wait(0.5, 1)
    assert progress.left == 10.0

"""The clock of ARTIM, which the core starts and stops and the owner of the connection runs (PS3.8 9.1.5)."""

import pytest
from tests.core.associations import feed, opened
from tests.core.messages import RELEASE_RQ, associate_rq

from dicomport.net.timers import ARTIM, ArtimTimer, Timer

IDLE = Timer("idle", 60.0)


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr("time.monotonic", moved.monotonic)
    return moved


def test_artim_runs_across_all_waits_from_the_transport_connection_on(clock: Clock) -> None:
    artim = ArtimTimer(opened(), 30.0)
    first = artim.deadline(IDLE)
    assert (first.name, first.left) == (ARTIM, 30.0)
    clock.now += 12
    assert artim.deadline(IDLE).left == 18.0
    clock.now += 100
    assert artim.deadline(IDLE).left == 0.0


def test_the_default_deadline_holds_once_the_core_has_stopped_artim() -> None:
    core = opened()
    artim = ArtimTimer(core, 30.0)
    assert artim.deadline(IDLE).name == ARTIM
    feed(core, associate_rq())
    assert artim.deadline(IDLE) is IDLE


def test_a_second_start_of_artim_begins_anew(clock: Clock) -> None:
    core = opened()
    artim = ArtimTimer(core, 30.0)
    assert artim.deadline(IDLE).left == 30.0
    clock.now += 29
    feed(core, RELEASE_RQ)  # answered by A-ABORT: ARTIM starts again (Sta13)
    assert artim.deadline(IDLE).left == 30.0
    clock.now += 5
    assert artim.deadline(IDLE).left == 25.0


def test_a_timer_that_has_not_started_bounds_each_wait(clock: Clock) -> None:
    clock.now += 500
    assert IDLE.left == 60.0
    started = IDLE.started()
    clock.now += 20
    assert (started.left, IDLE.left) == (40.0, 60.0)

"""Settings handed over to workers: each answers whether it can use them, and no settings end a worker."""

from __future__ import annotations

import os
import pickle
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, cast

import click
import pytest

from dicomport.cli.receiver import handover
from dicomport.cli.receiver.handover import Handover, channel, follow_parent

PREPARED: Final = "prepared"


@dataclass
class Settings:
    """Settings that are prepared, or raise an error."""

    error: Exception | None = None
    log_level: int | None = None

    def prepare(self) -> Any:
        if self.error is not None:
            raise self.error
        return SimpleNamespace(settings=self, name=PREPARED)


class Reloading:
    """The present settings, and those that were used."""

    def __init__(self) -> None:
        self.present: Any = None
        self.used: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def apply(self, prepared: Any) -> None:
        self.used.put(prepared)


class Parent:
    """The parent of a worker that runs in this process; its reading process is a function call."""

    def __init__(self, settings: Settings) -> None:
        self.reloading, self.worker = Reloading(), Reloading()
        self.codes: list[int] = []
        reader = SimpleNamespace(read=lambda: SimpleNamespace(settings=settings))
        self.handover = Handover(cast("Any", reader), cast("Any", self.reloading))

    def reload(self, channels: dict[int, socket.socket]) -> int:
        def fork(run: Callable[[], int]) -> int:
            self.codes.append(run())
            return os.getpid()

        self.handover.begin(channels, fork)
        assert not self.handover.ended(self.codes[-1], channels)
        return self.codes[-1]


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    parent, worker = channel()
    with worker:
        with parent:
            yield parent, worker
        # The end of the parent ends the thread of the worker.
        for thread in threading.enumerate():
            if thread.name == "dicomport-reload":
                thread.join(60)


@pytest.fixture(autouse=True)
def levels(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Return the log levels that are used; those of the tests stay."""
    found: list[int | None] = []
    monkeypatch.setattr(handover, "configure_logging", found.append)
    return found


@pytest.mark.parametrize(
    ("error", "reason"),
    [(click.UsageError("the key is encrypted"), "the key is encrypted"), (KeyError("Doe^John"), "KeyError")],
)
def test_settings_that_a_worker_cannot_prepare_are_not_used(
    sockets: tuple[socket.socket, socket.socket], error: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected error ends no worker, and its text, which may quote a value, is not logged."""
    parent = Parent(Settings(error))
    follow_parent(sockets[1], cast("Any", parent.worker))
    assert parent.reload({3: sockets[0]}) == 1
    assert parent.reload({3: sockets[0]}) == 1
    assert caplog.text.count(f"worker 3 cannot use the settings: {reason}") == 2
    assert "Doe" not in caplog.text
    assert (parent.reloading.present, parent.worker.used.empty()) == (None, True)


def test_settings_that_all_workers_have_prepared_are_used_by_all(
    sockets: tuple[socket.socket, socket.socket], levels: list[int | None]
) -> None:
    parent = Parent(Settings(log_level=7))
    follow_parent(sockets[1], cast("Any", parent.worker))
    assert parent.reload({0: sockets[0]}) == 0
    assert parent.worker.used.get(timeout=60).name == PREPARED
    assert parent.reloading.present.name == PREPARED
    assert levels == [7]


def test_a_worker_that_has_died_keeps_no_other_from_the_settings(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    """A worker that replaces it starts with the settings of the parent."""
    parent = Parent(Settings())
    dead, end = channel()
    end.close()
    follow_parent(sockets[1], cast("Any", parent.worker))
    with dead:
        assert parent.reload({0: dead, 1: sockets[0]}) == 0
    assert parent.worker.used.get(timeout=60).name == PREPARED
    assert parent.reloading.present.name == PREPARED


def test_a_late_answer_to_an_earlier_reload_is_skipped(
    sockets: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    parent = Parent(Settings())
    sockets[1].send(b"0 the key is encrypted")
    follow_parent(sockets[1], cast("Any", parent.worker))
    assert parent.reload({0: sockets[0]}) == 0
    assert "encrypted" not in caplog.text


def test_a_parent_that_cannot_prepare_the_settings_continues(caplog: pytest.LogCaptureFixture) -> None:
    """The reading process only reads them; the parent prepares them for workers that start later."""
    parent = Parent(Settings(KeyError("Doe^John")))
    assert parent.reload({}) == 0
    assert parent.reloading.present is None
    assert "reload_failed" in caplog.text


def test_a_worker_without_a_parent_ends_its_thread(sockets: tuple[socket.socket, socket.socket]) -> None:
    worker = Reloading()
    thread = threading.Thread(target=handover._follow, args=(sockets[1], worker), daemon=True)
    thread.start()
    sockets[0].close()
    thread.join(60)
    assert not thread.is_alive()
    assert worker.used.empty()


def test_settings_are_read_from_the_start_of_the_memory() -> None:
    """Processes share the position in the file."""
    memory = os.memfd_create("settings")
    try:
        os.write(memory, pickle.dumps(Settings(log_level=7)))
        assert cast("Any", handover._load(memory)).log_level == 7
        assert cast("Any", handover._load(memory)).log_level == 7
    finally:
        os.close(memory)

"""The check for leftovers of a test finds each kind."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from tests.left_behind import nothing_left_behind


def _descriptor() -> Callable[[], None]:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    return lambda: os.close(descriptor)


def _port() -> Callable[[], None]:
    return socket.create_server(("127.0.0.1", 0)).close


def _process() -> Callable[[], None]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

    def end() -> None:
        process.kill()
        process.communicate()

    return end


def _thread() -> Callable[[], None]:
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()

    def end() -> None:
        event.set()
        thread.join()

    return end


@pytest.mark.parametrize("start", [_descriptor, _port, _process, _thread], ids=lambda start: start.__name__)
def test_each_kind_is_found(start: Callable[[], Callable[[], None]]) -> None:
    ends: list[Callable[[], None]] = []

    def leave() -> Iterator[None]:
        with nothing_left_behind():
            ends.append(start())
            yield

    with pytest.raises(AssertionError):
        list(leave())
    with nothing_left_behind():
        ends[0]()


def test_a_listening_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        named = f"listening on port {server.getsockname()[1]}"
        with pytest.raises(AssertionError, match=named), nothing_left_behind():
            duplicate = server.dup()
        duplicate.close()

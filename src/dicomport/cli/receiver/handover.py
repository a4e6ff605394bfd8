"""Reloads with workers: all of them use the new settings, or none.

Theory of operation
-------------------
On SIGHUP the parent forks a reading process, which may wait for a slow file system while the parent keeps handling
signals. It reads and checks all files once, and writes the settings, with the contents of the files, to a file in
memory: no private key is written to a disk. It hands over this file through a pair of sockets for each worker. A worker
prepares the settings in a separate thread, without reading other files, and answers. If all workers are ready, the
reading process succeeds; otherwise it logs the reason and fails, and nothing has changed. The parent then keeps the
settings for workers that start later, and sends all workers the command to use them.

No worker starts while settings are read, so that none has the old ones at the end. Therefore the time is limited: the
parent kills a reading process that is too slow. A worker that dies meanwhile is replaced by one with the parent's
settings. Each message has the number of its reload, which distinguishes late answers to an earlier one.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import click

from dicomport.cli.options.common import ExitCode, configure_logging
from dicomport.cli.receiver.reloading import (
    MAX_READING_SECONDS,
    TOO_SLOW,
    PreparedSettings,
    ReloadableSettings,
    Reloader,
    SettingsReader,
    log_failure,
)
from dicomport.files import system, write_all
from dicomport.logs import get_logger

log = get_logger("cli")

_ANSWER_SECONDS: Final = 10.0
"""Time for a worker to prepare settings, which takes it milliseconds."""

_MAX_MESSAGE_BYTES: Final = 1 << 12

_PREPARE: Final = b"prepare"
_USE: Final = b"use"

Channels: TypeAlias = Mapping[int, socket.socket]
"""The parent's sockets to the running workers, by number of the worker."""


def channel() -> tuple[socket.socket, socket.socket]:
    """Return the sockets of the parent and of a worker; they preserve the limits of messages."""
    parent, worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent.settimeout(_ANSWER_SECONDS)
    return parent, worker


class Handover:
    """Reads the settings in a separate process, and hands them over to the workers."""

    def __init__(self, reader: SettingsReader, reloader: Reloader) -> None:
        self._reader = reader
        self._reloader = reloader
        self._reload = 0
        """Number of the reload."""
        self._reads_again = False
        self._killed_because = ""
        self._memory = -1
        self.process = 0
        """The reading process, or 0."""
        self.deadline = 0.0
        """Time by which the reading process must have ended."""

    def begin(self, workers: Channels, fork: Callable[[Callable[[], int]], int]) -> None:
        """Start the reading process; if there is one already, read again after its end.

        `fork` runs a function in a new process, and returns the number of the process.
        """
        if self.process:
            self._reads_again = True
            return
        self._reads_again = False
        self._killed_because = ""
        self._reload += 1
        self._memory = system.memfd_create("dicomport-settings")
        self.deadline = time.monotonic() + MAX_READING_SECONDS
        self.process = fork(lambda: ExitCode.OK if self._read_and_prepare(workers) else ExitCode.FAILED)

    def ended(self, code: int, workers: Channels) -> bool:
        """Handle the end of the reading process; return whether to begin again."""
        self.process = 0
        try:
            if code == ExitCode.OK:
                self._use(_load(self._memory).prepare(), workers)
            elif self._killed_because:
                log_failure(self._killed_because)
            elif code != ExitCode.FAILED:
                log_failure(f"the process that reads the settings ended with exit code {code}")
        except Exception as error:  # a reload must never end the receiver
            log.error("reload_failed", exc_info=error)  # noqa: TRY400
        finally:
            system.close(self._memory)
        return self._reads_again

    def _use(self, prepared: PreparedSettings, workers: Channels) -> None:
        for sock in workers.values():
            # A worker that has died is replaced.
            with contextlib.suppress(OSError):
                sock.send(b"%d %s" % (self._reload, _USE))
        self._reloader.present = prepared
        # Each worker logs that it uses the settings.
        configure_logging(prepared.settings.log_level)

    def check_deadline(self) -> None:
        """End a reading process that is too slow."""
        if self.process and time.monotonic() >= self.deadline:
            self.kill(TOO_SLOW)

    def kill(self, reason: str) -> None:
        """End the reading process, if there is one."""
        if self.process:
            self._killed_because = reason
            os.kill(self.process, signal.SIGKILL)

    def _read_and_prepare(self, workers: Channels) -> bool:
        """Return whether the settings are valid and all workers are ready to use them; otherwise log the reason."""
        prepared = self._reader.read()
        if prepared is None:
            return False
        write_all(self._memory, pickle.dumps(prepared.settings))
        request = b"%d %s" % (self._reload, _PREPARE)
        for number, sock in workers.items():
            try:
                with contextlib.suppress(ConnectionError):  # it has died
                    socket.send_fds(sock, [request], [self._memory])
                problem = self._answer(sock)
            except TimeoutError:
                problem = f"it did not answer within {_ANSWER_SECONDS:g} s"
            if problem:
                log_failure(f"worker {number} cannot use the settings: {problem}")
                return False
        return True

    def _answer(self, sock: socket.socket) -> str:
        """Return why a worker is not ready, or "" if it is, or has died. Raises `TimeoutError`."""
        with contextlib.suppress(ConnectionError):
            while answer := sock.recv(_MAX_MESSAGE_BYTES):
                number, _, problem = answer.partition(b" ")
                if int(number) == self._reload:
                    return problem.decode(errors="replace")
        return ""


def follow_parent(sock: socket.socket, reloader: Reloader) -> None:
    """Prepare and use settings that the parent hands over, in a thread that nothing waits for."""
    threading.Thread(target=_follow, args=(sock, reloader), name="dicomport-reload", daemon=True).start()


def _follow(sock: socket.socket, reloader: Reloader) -> None:
    ready: dict[bytes, PreparedSettings] = {}
    # If the parent has died, the worker ends too.
    with contextlib.suppress(ConnectionError):
        while True:
            message, descriptors, _, _ = socket.recv_fds(sock, _MAX_MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
            if not message:
                return
            number, _, action = message.partition(b" ")
            if action == _USE:
                reloader.apply(ready.pop(number))
                continue
            ready.clear()
            problem = ""
            try:
                ready[number] = _load(descriptors[0]).prepare()
            except click.ClickException as error:
                problem = error.format_message()
            except Exception as error:  # noqa: BLE001  # the worker must not end, and its parent logs it
                problem = type(error).__name__
            finally:
                system.close(descriptors[0])
            sock.send(b"%s %s" % (number, problem.encode()[: _MAX_MESSAGE_BYTES // 2]))


def _load(memory: int) -> ReloadableSettings:
    # Without the position in the file, which processes share.
    data = system.pread(memory, system.fstat(memory).st_size, 0)
    settings: ReloadableSettings = pickle.loads(data)  # noqa: S301  # a process of this receiver has written it
    return settings

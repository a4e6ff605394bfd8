"""What holds whatever is done to a receiver, looked at from outside: the criteria that all rows have in common.

A test of a row takes the fixture `attack`. It has a real `dicomport storescp` with its archive, one for each module:

    def test_p14_a_pdu_of_no_known_type_ends_the_association(attack: Attack) -> None:
        with attack.associated() as peer:
            peer.send(bytes.fromhex("08 00 00000004 00000000"))
            assert peer.expect(Abort).reason is AbortReason.UNRECOGNIZED_PDU
        assert "08H" in attack.end_of(peer)["how"]

`connect` and `associated` give a `ScriptedSCU`; when such a block ends, and before its connection is closed, another
association, which was open before, stores an instance (`others_go_on` does so in the middle). What the row has had
stored it says with `keep`. When the test is over, `attack` sees that

- the receiver runs, the other association still stores, and a new one is answered a C-ECHO;
- the log's lines are events, and none tells of an error or an exception (`expected_errors` names those that may);
- no memory was taken that is worth mentioning (`MAX_MEMORY`), not even for a moment;
- nothing is left: no descriptor, no temporary file, no thread but those of asyncio's pool, which stay;
- the archive holds what was acknowledged, byte for byte, and nothing else.

Whoever is sent an A-ABORT has to close: the receiver waits for that as long as ARTIM runs (PS3.8 9.2, Sta13), so a row
that waits for the connection's end instead takes two seconds.

And when the module's tests are over, that the receiver ends in good order, with no connection to be cut, its memory as
it was, and an archive that verifies. The time that an answer takes is not looked at: it would be the machine's.

Where a receiver needs other options, `receiver(root, *options)` and `Attack(target)` are context managers. What
concerns the sender runs `sent`, a real `dicomport storescu`, against a `ScriptedSCP`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from tests.archive.sending import CT, bytes_of, files, findings, instance, left_over, stored_bytes
from tests.cli.commands import dicomport, start
from tests.encoding.encode import EXPLICIT

from dicomport import blocking
from dicomport.standard import VERIFICATION
from dicomport.testing import ScriptedSCU
from dicomport.testing.messages import Proposal

__all__ = ["MAX_MEMORY", "Attack", "Sent", "Target", "data_set", "receiver", "sent"]

Facts: TypeAlias = dict[str, Any]
"""One line of the log."""

MAX_MEMORY: Final = 16 << 20
"""By how much a row may let the receiver's memory grow, bytes."""

OPTIONS: Final = ("--artim-timeout", "2")
"""So that a row can wait for it. Nobody else is so slow with a request."""

_PATIENCE: Final = 30.0
_ROUND_TRIPS: Final = 3000
"""So many times the receiver is asked something, until what it does in the background is done."""

_SETTLING: Final = 100
"""Round trips until what a first instance has taken is over."""

_POOL: Final = min(32, (os.cpu_count() or 1) + 4)
"""Threads that asyncio keeps for work that blocks, once there was any."""

_ERRORS: Final = ("error", "critical")

_numbers: Final = itertools.count(1)


def data_set(uid: str, pixels: bytes = b"\1\2\3\4", *, study: str = "1.2.3") -> bytes:
    """Make the data set of a CT image in Explicit VR Little Endian."""
    return bytes_of(instance(uid, pixels, study=study))


class Log:
    """What a process writes to its stderr with `--log-format json`, as it comes. What is no event is a critical one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.events: list[Facts] = []
        self._arrived = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._thread.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            with self._arrived:
                self.events.append(event_of(line))
                self._arrived.notify_all()

    def end(self) -> None:
        """Wait until the process has closed it."""
        self._thread.join(_PATIENCE)

    def wait_for(self, since: int, **facts: str | int) -> Facts:
        """Give the first event with such facts, once it has come, but none before the one of that number."""
        number = since
        with self._arrived:
            while True:
                while number == len(self.events):
                    assert self._arrived.wait(_PATIENCE), f"no {facts} among {self.events[since:]}"
                event = self.events[number]
                if all(event.get(name) == value for name, value in facts.items()):
                    return event
                number += 1


def event_of(line: str) -> Facts:
    """Read a line of the log."""
    with contextlib.suppress(ValueError):
        event = json.loads(line)
        if isinstance(event, dict) and line.isascii() and "event" in event:
            return event
    return {"event": "", "level": "critical", "line": line}


class Target:
    """A running `dicomport storescp` with its archive, that has been used and is idle again."""

    def __init__(self, root: Path, *options: str | Path, tls: ssl.SSLContext | None = None) -> None:
        """Start it; `tls` is what a client needs where the options have it speak TLS."""
        self.archive = root
        self.max_memory = MAX_MEMORY
        """By how much the memory may grow, bytes."""
        self._tls = tls
        self.process = start(
            "storescp", "0", "--archive", root, "-v", "--log-format", "json", *OPTIONS, *map(str, options)
        )
        try:
            self.log = Log(self.process)
            listening = self.log.wait_for(0, event="message")
            self.port = int(re.findall(r":(\d+), storing", listening["text"])[0])
            self._warm_up()
        except BaseException:
            self.kill()
            raise

    def _warm_up(self) -> None:
        with self.association("WARMING-UP") as association:
            assert association.c_store(instance("2.25.1")).status.code == 0
            # What it opens once and keeps, it has now; what it opens for a moment, it has not.
            self.descriptors = min(self.open_files() for _ in range(_SETTLING) if association.c_echo().accepted) - 1
        self.threads = self.status("Threads")
        self.memory = self.status("VmRSS")

    @contextlib.contextmanager
    def association(self, calling: str) -> Iterator[blocking.BlockingAssociation]:
        """Open an association as anybody does."""
        with blocking.associate(
            "127.0.0.1", self.port, contexts=[VERIFICATION, (CT, EXPLICIT)], ae_title=calling, tls=self._tls
        ) as association:
            yield association

    def status(self, what: str) -> int:
        """Read one of the system's figures about the process; memory in bytes."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        number, *unit = re.findall(rf"^{what}:\s+(\d+)( kB)?$", text, re.MULTILINE)[0]
        return int(number) * (1024 if unit[0] else 1)

    def forget_peak(self) -> None:
        """Let VmHWM, the most memory that the process has had, count from now (proc_pid_clear_refs(5))."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def cpu_seconds(self) -> float:
        """Tell how much the process has computed so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self) -> int:
        """Count the file descriptors."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208  # no paths are wanted

    def close(self) -> None:
        """Stop it, and see that it has held its ground."""
        grown = self.status("VmRSS") - self.memory
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(_PATIENCE) == 0
        self.log.end()
        cut = [
            facts for facts in self.log.events if facts["event"] == "connection_timed_out" and "shutdown" in str(facts)
        ]
        assert not cut
        assert grown < self.max_memory
        assert findings(self.archive) == []

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.log.end()
        # Nothing is read here that the log has not.
        with self.process:
            pass


@contextlib.contextmanager
def receiver(root: Path, *options: str | Path, tls: ssl.SSLContext | None = None) -> Iterator[Target]:
    """Run a receiver, and see that it ends as it should."""
    target = Target(root, *options, tls=tls)
    try:
        yield target
        target.close()
    finally:
        target.kill()


class Attack:
    """One row's doings with a receiver, see above."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.port = target.port
        self.expected_errors: set[str] = set()
        """Events of the log that are errors, and meant to come."""
        self._number = next(_numbers)
        self._since = 0
        self._uids = (f"2.25.9.{self._number}.{count}" for count in itertools.count(1))
        self._kept: Counter[bytes] = Counter()
        self._before: frozenset[str] = frozenset()
        self._peers: dict[ScriptedSCU, Facts] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._since = len(self.target.log.events)
        self._before = frozenset(files(self.target.archive))
        self.target.forget_peak()
        self._memory = self.target.status("VmRSS")
        self._other = self._stack.enter_context(self.target.association("SOMEBODY-ELSE"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if error is None:
                self.others_go_on()
        if error is None:
            self._check()

    # What a row does.

    @contextlib.contextmanager
    def connect(self, *, receive_buffer: int | None = None) -> Iterator[ScriptedSCU]:
        """Connect. At the end of the block others go on, and then the connection is closed."""
        with self._connected(receive_buffer) as peer:
            yield peer
            self.others_go_on()

    @contextlib.contextmanager
    def crowd(self, count: int) -> Iterator[list[ScriptedSCU]]:
        """Connect so many times, and see only then that others go on."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(self._connected()) for _ in range(count)]
            self.others_go_on()

    def _connected(self, receive_buffer: int | None = None) -> ScriptedSCU:
        peer = ScriptedSCU("127.0.0.1", self.port, receive_buffer=receive_buffer)
        self._peers[peer] = dict(zip(("address", "port"), peer.socket.getsockname(), strict=False))
        return peer

    @contextlib.contextmanager
    def associated(self, *proposals: Proposal, window: int | None = None) -> Iterator[ScriptedSCU]:
        """Connect and have an association, by default with Verification as 1 and CT images as 3."""
        with self.connect() as peer:
            peer.associate(*proposals, window=window)
            yield peer

    def uid(self) -> str:
        """Give a UID that no instance has."""
        return next(self._uids)

    def others_go_on(self) -> None:
        """Let the other association store an instance."""
        sent = instance(self.uid())
        assert self._other.c_store(sent).status.code == 0
        self.keep(bytes_of(sent))

    def keep(self, *data_sets: bytes) -> None:
        """Say that these have been stored, once for each time that they are given."""
        self._kept.update(data_sets)

    # What the receiver says.

    def end_of(self, peer: ScriptedSCU) -> Facts:
        """Give the log's line of how a connection ended that had said something, once it has come."""
        return self.line(peer, "association_ended")

    def line(self, peer: ScriptedSCU, event: str) -> Facts:
        """Give a connection's first line of an event, once it has come."""
        return self.target.log.wait_for(self._since, event=event, **self._peers[peer])

    def lines(self, peer: ScriptedSCU) -> list[Facts]:
        """Give all that has come about a connection so far."""
        wanted = self._peers[peer].items()
        return [facts for facts in self.target.log.events[self._since :] if wanted <= facts.items()]

    # What is seen to when it is over.

    def _check(self) -> None:
        target = self.target
        after = f"AFTER-{self._number}"
        with target.association(after) as association:
            assert association.c_echo().code == 0
            self._settle(association)
            peak = target.status("VmHWM") - self._memory
        target.log.wait_for(self._since, event="association_ended", calling=after)
        errors, threads, stored = self._errors(), target.status("Threads"), self._stored()
        assert target.process.poll() is None, "it has ended"
        assert not errors, errors
        assert peak < target.max_memory, f"{peak} bytes more memory"
        assert threads <= target.threads + _POOL, f"{threads} threads instead of {target.threads}"
        missing, added = (self._kept - stored).total(), (stored - self._kept).total()
        assert missing + added == 0, f"{missing} missing, {added} that nobody sent"

    def _settle(self, association: blocking.BlockingAssociation) -> None:
        """Wait until nothing is left: with each round trip the receiver has had a turn."""
        for _ in range(_ROUND_TRIPS):
            # The association's own.
            if target_is_idle(self.target, but_for=1):
                return
            association.c_echo()
        raise AssertionError(
            f"{self.target.open_files() - 1} descriptors instead of {self.target.descriptors}, "
            f"and {left_over(self.target.archive)}"
        )

    def _errors(self) -> list[Facts]:
        return [
            facts
            for facts in self.target.log.events[self._since :]
            if (facts["level"] in _ERRORS or "at" in facts) and facts["event"] not in self.expected_errors
        ]

    def _stored(self) -> Counter[bytes]:
        there = frozenset(files(self.target.archive))
        assert self._before <= there
        return Counter(stored_bytes(self.target.archive / name) for name in there - self._before)


def target_is_idle(target: Target, *, but_for: int) -> bool:
    """Tell whether it has no more files open than when it was idle, but for so many, and nothing half written."""
    return target.open_files() - but_for <= target.descriptors and not left_over(target.archive)


@dataclass(frozen=True)
class Sent:
    """What a `dicomport storescu` has said of its run."""

    code: int
    results: list[Facts] = field(default_factory=list)
    """One for each file, as `--json` has it."""
    log: list[Facts] = field(default_factory=list)

    @property
    def reasons(self) -> list[str]:
        return [result["reason"] for result in self.results]

    @property
    def statuses(self) -> list[int | None]:
        return [result["status"] for result in self.results]


def sent(port: int, *arguments: str | Path) -> Sent:
    """Run `dicomport storescu` to its end with options and paths; it must not stumble, whatever its peer does."""
    done = dicomport("storescu", "--json", "--log-format", "json", "-v", "127.0.0.1", str(port), *arguments)
    log = [event_of(line) for line in done.stderr.splitlines()]
    assert not [facts for facts in log if facts["level"] in _ERRORS or "at" in facts]
    return Sent(done.returncode, [json.loads(line) for line in done.stdout.splitlines()], log)

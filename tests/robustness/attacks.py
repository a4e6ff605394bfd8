"""The criteria for a receiver after each attack, checked from outside: all rows share them.

A test of a row uses the fixture `attack`. Each module runs one real `dicomport storescp` with its archive:

    def test_p14_a_pdu_of_no_known_type_ends_the_association(attack: Attack) -> None:
        with attack.associated() as peer:
            peer.send(bytes.fromhex("08 00 00000004 00000000"))
            assert peer.expect(Abort).reason is AbortReason.UNRECOGNIZED_PDU
        assert "08H" in attack.end_of(peer)["how"]

`connect` and `associated` yield a `ScriptedSCU`. At the end of such a block, before its connection is closed, another
association, which was open before, stores an instance (`others_go_on` does so inside the block). The row lists the
instances that it stored with `keep`. At the end of the test, `attack` checks that

- the receiver runs, the other association still stores, and a C-ECHO on a new association succeeds;
- the log's lines are events without errors or exceptions (`expected_errors` names the exceptions to this rule);
- the memory did not grow by more than `MAX_MEMORY`, not even briefly;
- no descriptor, no temporary file and no thread is left, except those of asyncio's pool;
- the archive holds exactly the acknowledged instances, byte for byte.

After an A-ABORT the peer must close: the receiver waits for that until ARTIM expires (PS3.8 9.2, Sta13). A row that
waits for the receiver to close therefore takes two seconds.

At the end of the module's tests the receiver must stop in order, without a connection to cut, with its memory as
before, and with an archive that verifies. Response times are not checked: they depend on the machine.

For a receiver with other options, use the context managers `receiver(root, *options)` and `Attack(target)`. Rows
about the sender call `sent`, which runs a real `dicomport storescu` against a `ScriptedSCP`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import ssl
import stat
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
"""Limit for the growth of the receiver's memory in one row, bytes."""

OPTIONS: Final = ("--artim-timeout", "2")
"""Short, so that a row can wait for it. No other peer is that slow with a request."""

_TIMEOUT: Final = 30.0
_MAX_FOLDERS: Final = 33
"""Limit of the folders that a receiver holds open: those of the archive, and one while its content is listed."""

_ROUND_TRIPS: Final = 3000
"""So many times the receiver is asked something, until what it does in the background is done."""

_SETTLING: Final = 100
"""Round trips until the memory of the first instance is released."""

_POOL: Final = min(32, (os.cpu_count() or 1) + 4) + 8
"""Threads that asyncio and the archive keep for work that blocks and for fsync, once there was any."""

_ERRORS: Final = ("error", "critical")

_numbers: Final = itertools.count(1)


def data_set(uid: str, pixels: bytes = b"\1\2\3\4", *, study: str = "1.2.3") -> bytes:
    """Make the data set of a CT image in Explicit VR Little Endian."""
    return bytes_of(instance(uid, pixels, study=study))


class Log:
    """Events that a process logs on stderr with `--log-format json`. Any other line counts as a critical event."""

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
        self._thread.join(_TIMEOUT)

    def wait_for(self, since: int, **facts: str | int) -> Facts:
        """Wait for the first event with these fields, from the event with that number on, and return it."""
        number = since
        with self._arrived:
            while True:
                while number == len(self.events):
                    assert self._arrived.wait(_TIMEOUT), f"no {facts} among {self.events[since:]}"
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
        """Start the receiver; `tls` is the client's context if the options turn TLS on."""
        self.archive = root
        self.max_memory = MAX_MEMORY
        """Limit for the growth of the memory, bytes."""
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
            # Now the receiver has its permanent descriptors and no temporary ones.
            self.descriptors = min(self.open_files() for _ in range(_SETTLING) if association.c_echo().accepted) - 1
        self.threads = self.status("Threads")
        self.memory = self.status("VmRSS")

    @contextlib.contextmanager
    def association(self, calling: str) -> Iterator[blocking.BlockingAssociation]:
        """Open an ordinary association."""
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
        """Reset VmHWM, the process's maximum resident memory (proc_pid_clear_refs(5))."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def cpu_seconds(self) -> float:
        """Return the CPU time of the process."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self) -> int:
        """Count the file descriptors, without those of folders, of which an archive holds some open."""
        folders = files = 0
        for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # It has been closed meanwhile.
                is_folder = stat.S_ISDIR(descriptor.stat().st_mode)
                folders += is_folder
                files += not is_folder
        assert folders <= _MAX_FOLDERS, f"{folders} folders"
        return files

    def close(self) -> None:
        """Stop the receiver, and check its criteria."""
        grown = self.status("VmRSS") - self.memory
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(_TIMEOUT) == 0
        self.log.end()
        cut = [
            facts for facts in self.log.events if facts["event"] == "connection_timed_out" and "shutdown" in str(facts)
        ]
        assert not cut
        assert grown < self.max_memory
        assert findings(self.archive) == []

    def kill(self) -> None:
        """Kill the receiver in any state."""
        self.process.kill()
        self.log.end()
        # Nothing is read here that the log has not.
        with self.process:
            pass


@contextlib.contextmanager
def receiver(root: Path, *options: str | Path, tls: ssl.SSLContext | None = None) -> Iterator[Target]:
    """Run a receiver, stop it, and check its criteria."""
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
        """Error events that the test expects in the log."""
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

    # Actions of a row.

    @contextlib.contextmanager
    def connect(self, *, receive_buffer: int | None = None) -> Iterator[ScriptedSCU]:
        """Connect. At the end of the block, check that others still store, then close the connection."""
        with self._connected(receive_buffer) as peer:
            yield peer
            self.others_go_on()

    @contextlib.contextmanager
    def crowd(self, count: int) -> Iterator[list[ScriptedSCU]]:
        """Connect `count` times; check only at the end that others still store."""
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
        """Return an unused SOP Instance UID."""
        return next(self._uids)

    def others_go_on(self) -> None:
        """Store an instance over the other association."""
        sent = instance(self.uid())
        assert self._other.c_store(sent).status.code == 0
        self.keep(bytes_of(sent))

    def keep(self, *data_sets: bytes) -> None:
        """Expect these instances in the archive, once for each mention."""
        self._kept.update(data_sets)

    # The receiver's log.

    def end_of(self, peer: ScriptedSCU) -> Facts:
        """Wait for the log's line about the end of a connection that had sent data, and return it."""
        return self.line(peer, "association_ended")

    def line(self, peer: ScriptedSCU, event: str) -> Facts:
        """Wait for a connection's first line of an event, and return it."""
        return self.target.log.wait_for(self._since, event=event, **self._peers[peer])

    def lines(self, peer: ScriptedSCU) -> list[Facts]:
        """Return all events of a connection so far."""
        wanted = self._peers[peer].items()
        return [facts for facts in self.target.log.events[self._since :] if wanted <= facts.items()]

    # Checks at the end.

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
    """Check that the receiver has at most `but_for` more files open than when idle, and no partly written file."""
    return target.open_files() - but_for <= target.descriptors and not left_over(target.archive)


@dataclass(frozen=True)
class Sent:
    """The output of a `dicomport storescu`."""

    code: int
    results: list[Facts] = field(default_factory=list)
    """One result for each file, as in the output of `--json`."""
    log: list[Facts] = field(default_factory=list)

    @property
    def reasons(self) -> list[str]:
        return [result["reason"] for result in self.results]

    @property
    def statuses(self) -> list[int | None]:
        return [result["status"] for result in self.results]


def sent(port: int, *arguments: str | Path) -> Sent:
    """Run `dicomport storescu` to its end with options and paths; the sender must not fail with an exception."""
    done = dicomport("storescu", "--json", "--log-format", "json", "-v", "127.0.0.1", str(port), *arguments)
    log = [event_of(line) for line in done.stderr.splitlines()]
    assert not [facts for facts in log if facts["level"] in _ERRORS or "at" in facts]
    return Sent(done.returncode, [json.loads(line) for line in done.stdout.splitlines()], log)

"""Peers of other vendors, started and stopped for a test, and the instances that they deliver as comparable values."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import socket
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import pydicom
import pytest
from tests.certificates import Files, Identity
from tests.requirements import require_program
from tests.scu.inputs.scanning import scan

from dicomport import (
    AssociationInfo,
    RetryPolicy,
    Status,
    StoreRequest,
    TLSProfile,
    tls_client_context,
    tls_server_context,
)
from dicomport.files import read_part10
from dicomport.scu import Instance, Plan
from dicomport.scu.inputs.locations import FileRegion
from dicomport.scu.sending.send import SendOptions

HOST: Final = "127.0.0.1"
TEST_FILES: Final = Path(pydicom.__file__).parent / "data" / "test_files"
"""The files in pydicom's package itself, without those that pydicom downloads."""

_DCMTK: Final = ("storescp", "storescu", "dcmsend", "echoscu", "dcmdump", "dcmftest")
_STARTS: Final = 5
"""Number of ports to try: another process may have taken the free one."""


class Copy(NamedTuple):
    """One instance as it arrived somewhere: equal where every byte of the data set is."""

    sop_instance_uid: str
    transfer_syntax_uid: str
    sha256: str


Copies: TypeAlias = Counter[Copy]
"""Instances with their counts: pydicom's files hold several instances twice, and several under one UID."""


def copy_of(sop_instance_uid: str, transfer_syntax_uid: str, data_set: bytes) -> Copy:
    return Copy(sop_instance_uid, transfer_syntax_uid, hashlib.sha256(data_set).hexdigest())


@functools.cache
def sendable() -> tuple[Instance, ...]:
    """Every instance among pydicom's files."""
    return scan((TEST_FILES,)).instances


ONE_BY_ONE: Final[SendOptions] = {
    "associations": 1,
    "window": 1,
    "retry": RetryPolicy(retries=0, first_delay=0.01),
}
"""Over one association at a time, one instance after the other, and each of them once."""


def contexts_for(instances: Iterable[Instance]) -> list[tuple[str, str]]:
    """Return the contexts for these instances, few enough for one association."""
    plan = Plan()
    for instance in instances:
        plan.add(instance)
    [planned] = plan.associations
    return list(planned.contexts)


def paths(instances: Iterable[Instance]) -> list[Path]:
    return [instance.path for instance in instances if instance.path is not None]


def data_set_of(instance: Instance) -> bytes:
    """Read the data set by other means than those that send it; an odd deflated one gets its NUL (PS3.5 A.5)."""
    assert isinstance(instance.source, FileRegion)
    data = Path(instance.source.path).read_bytes()[instance.source.offset :]
    return data + b"\0" * (len(data) % 2)


def copies_of(instances: Iterable[Instance]) -> Copies:
    """Return the instances that must arrive."""
    return Counter(
        copy_of(instance.sop_instance_uid, instance.transfer_syntax_uid, data_set_of(instance))
        for instance in instances
    )


def copies_in(folder: Path) -> Copies:
    """Return the instances that a peer has written as Part 10 files."""
    found: Copies = Counter()
    for path in folder.iterdir():
        part10 = read_part10(path)
        data_set = path.read_bytes()[part10.offset :]
        found[copy_of(part10.meta.media_storage_sop_instance_uid, part10.meta.transfer_syntax_uid, data_set)] += 1
    return found


class Recorder:
    """A handler that records each instance, and answers all with the same status."""

    def __init__(self, verdict: int | Status | pydicom.Dataset = 0x0000) -> None:
        self.copies: Copies = Counter()
        self.associations: dict[str, AssociationInfo] = {}
        """Associations with at least one instance, by the peer's address."""
        self._verdict = verdict
        self._lock = threading.Lock()

    def __call__(self, request: StoreRequest) -> int | Status | pydicom.Dataset:
        copy = copy_of(request.sop_instance_uid, request.transfer_syntax_uid, request.encoded())
        with self._lock:
            self.copies[copy] += 1
            self.associations[request.association.address] = request.association
        return self._verdict


@dataclass(frozen=True)
class StoreSCP:
    """A running storescp of DCMTK."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def copies(self) -> Copies:
        return copies_in(self.folder)


class DCMTK:
    """DCMTK's tools, each without Nagle's algorithm: it costs 44 ms an instance, which is unrelated to dicomport."""

    def __init__(self) -> None:
        self._environment = {**os.environ, "TCP_NODELAY": "1"}

    def run(self, tool: str, *arguments: str | Path | int) -> subprocess.CompletedProcess[str]:
        """Run a tool to its end, its two outputs as one."""
        return subprocess.run(
            [tool, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="backslashreplace",
            env=self._environment,
            timeout=60,
            check=False,
        )

    def to(self, port: int, tool: str, *options: str, files: Iterable[Path] = ()) -> subprocess.CompletedProcess[str]:
        """Run one of the senders against a port of this machine."""
        return self.run(tool, *options, HOST, port, *files)

    @contextlib.contextmanager
    def storescp(self, folder: Path, *options: str) -> Iterator[StoreSCP]:
        """Run a storescp that writes each instance into a separate file of a folder."""
        folder.mkdir()
        for _ in range(_STARTS):
            port = free_port()
            process = subprocess.Popen(
                ["storescp", "+uf", *options, "-od", folder, str(port)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=self._environment,
            )
            try:
                if _listens(process, port):
                    yield StoreSCP(port, folder, process)
                    return
            finally:
                process.kill()
                process.wait()
        pytest.fail("storescp did not start")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until a server listens; False where it has ended instead."""
    for _ in range(500):
        try:
            socket.create_connection((HOST, port), timeout=5).close()
        except ConnectionRefusedError:
            # This waits for the end of the process: poll often.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
                return False
        else:
            return process.poll() is None
    return False


@pytest.fixture(autouse=True)
def nothing_breaks_inside(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Faults of a peer are logged as information or warning: an error in the log is a failure of dicomport."""
    yield
    errors = [
        record.getMessage()
        for record in caplog.get_records("call")
        if record.name.startswith("dicomport") and record.levelno >= logging.ERROR
    ]
    assert errors == []


@pytest.fixture(scope="session")
def dcmtk() -> DCMTK:
    """Return DCMTK's tools; without them the test is skipped, or fails if they are required."""
    for tool in _DCMTK:
        require_program(tool, "DCMTK")
    return DCMTK()


@dataclass(frozen=True)
class TLS:
    """Files of one certification authority, and options for DCMTK's tools with a certificate of theirs."""

    authority: Path
    ours: Identity
    options: tuple[str, ...]

    def server(self, profile: TLSProfile = TLSProfile.RFC8996) -> ssl.SSLContext:
        """Make a context for us that insists on the other side's certificate, and shows ours."""
        return tls_server_context(self.ours.certificate, self.ours.key, authorities=self.authority, profile=profile)

    def client(self, profile: TLSProfile = TLSProfile.RFC8996) -> ssl.SSLContext:
        """Make one for the other role."""
        return tls_client_context(
            certificate=self.ours.certificate, key=self.ours.key, authorities=self.authority, profile=profile
        )


@pytest.fixture
def tls(tmp_path: Path) -> TLS:
    files = Files(tmp_path / "certificates")
    theirs = files.issue("dcmtk.example", HOST)
    options = ("+tls", theirs.key, theirs.certificate, "+cf", files.authority)
    return TLS(files.authority, files.issue("dicomport.example", HOST), tuple(map(str, options)))


StartStoreSCP: TypeAlias = Callable[..., StoreSCP]


@pytest.fixture
def storescp(dcmtk: DCMTK, tmp_path: Path) -> Iterator[StartStoreSCP]:
    """Start storescps with the given options; stop them at the end of the test."""
    with contextlib.ExitStack() as running:

        def start(*options: str) -> StoreSCP:
            number = sum(1 for _ in tmp_path.iterdir())
            return running.enter_context(dcmtk.storescp(tmp_path / f"storescp-{number}", *options))

        yield start

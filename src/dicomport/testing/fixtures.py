"""pytest fixtures for tests of what sends.

A test suite asks for them in its `conftest.py`: `pytest_plugins = ["dicomport.testing.fixtures"]`.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest

from dicomport.scp import StorageSCP, StoreRequest
from dicomport.wire import FileMeta, encode_file_meta

if TYPE_CHECKING:
    import pydicom

__all__ = ["ReceivedInstance", "ReceivingSCP", "dicomport_scp", "dicomport_scp_options"]

PATIENCE: Final = 30.0
"""Seconds that a test waits for what does not come."""


@dataclass(frozen=True, slots=True)
class ReceivedInstance:
    """One instance, as it came."""

    file_meta: FileMeta
    """With the UIDs of class, instance and transfer syntax, and the AE titles of the association."""
    data: bytes = field(repr=False)
    """The encoded data set."""
    status: int
    """What it was answered with."""

    @property
    def sop_instance_uid(self) -> str:
        """The SOP Instance UID, as the C-STORE request named it."""
        return self.file_meta.media_storage_sop_instance_uid

    @property
    def part10(self) -> bytes:
        """A file with this data set (PS3.10 7.1)."""
        return encode_file_meta(self.file_meta) + self.data

    def dataset(self) -> pydicom.FileDataset:
        """Decode it with pydicom."""
        import pydicom

        return pydicom.dcmread(io.BytesIO(self.part10))


class ReceivingSCP:
    """A Storage SCP that is running, and what it has received."""

    def __init__(self, host: str, ae_title: str) -> None:
        self.host = host
        self.port = 0
        self.ae_title = ae_title
        self.statuses: list[int] = []
        """What the next C-STORE requests are answered with, in turn; where none is left, with success."""
        self._instances: list[ReceivedInstance] = []
        self._change = threading.Condition()

    @property
    def instances(self) -> list[ReceivedInstance]:
        """All instances so far, in the order in which they were answered."""
        with self._change:
            return list(self._instances)

    def wait_for(self, count: int, seconds: float = PATIENCE) -> list[ReceivedInstance]:
        """Wait for code under test that sends in the background, until so many instances are there.

        Raises `TimeoutError`.
        """
        with self._change:
            if not self._change.wait_for(lambda: len(self._instances) >= count, seconds):
                raise TimeoutError(f"{count} instances were awaited for {seconds:g} s, {len(self._instances)} came")
            return list(self._instances)

    def handle(self, request: StoreRequest) -> int:
        """Take an instance."""
        with self._change:
            status = self.statuses.pop(0) if self.statuses else 0
            self._instances.append(ReceivedInstance(request.file_meta, request.encoded(), status))
            self._change.notify_all()
            return status


@pytest.fixture
def dicomport_scp_options() -> Mapping[str, Any]:
    """Give the arguments of the `StorageSCP`, by name; override this fixture to change them."""
    return {}


@pytest.fixture
def dicomport_scp(dicomport_scp_options: Mapping[str, Any]) -> Iterator[ReceivingSCP]:
    """Run a Storage SCP on a free port of loopback for one test, in a thread of its own."""
    options = {"ae_title": "DICOMPORT", "host": "127.0.0.1", "port": 0, **dicomport_scp_options}
    receiving = ReceivingSCP(options["host"], options["ae_title"])
    with StorageSCP(receiving.handle, **options).in_thread() as scp:
        receiving.port = scp.port
        yield receiving

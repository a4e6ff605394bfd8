"""pytest fixtures for tests of senders.

Enable them in a `conftest.py`: `pytest_plugins = ["dicomport.testing.fixtures"]`.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, Final

import pytest

from dicomport.scp import StorageSCP, StoreRequest
from dicomport.values import frozen
from dicomport.wire import FileMeta, encode_file_meta

if TYPE_CHECKING:
    import pydicom


TIMEOUT: Final = 30.0
"""Default timeout in seconds."""


@frozen
class ReceivedInstance:
    """One received instance."""

    file_meta: FileMeta
    """The UIDs of SOP Class, instance and transfer syntax, and the AE titles of the association."""
    data: bytes = field(repr=False)
    """The encoded data set."""
    status: int
    """The status of the response."""

    @property
    def sop_instance_uid(self) -> str:
        """The SOP Instance UID of the C-STORE request."""
        return self.file_meta.media_storage_sop_instance_uid

    @property
    def part10(self) -> bytes:
        """A file with this data set (PS3.10 7.1)."""
        return encode_file_meta(self.file_meta) + self.data

    def dataset(self) -> pydicom.FileDataset:
        """Decode the instance with pydicom."""
        import pydicom

        return pydicom.dcmread(io.BytesIO(self.part10))


class ReceivingSCP:
    """A running Storage SCP, with its received instances."""

    def __init__(self, host: str, ae_title: str) -> None:
        self.host = host
        self.port = 0
        self.ae_title = ae_title
        self.statuses: list[int] = []
        """The statuses of the next C-STORE responses, in order; then success."""
        self._instances: list[ReceivedInstance] = []
        self._change = threading.Condition()

    @property
    def instances(self) -> list[ReceivedInstance]:
        """All instances so far, in the order of the responses."""
        with self._change:
            return list(self._instances)

    def wait_for(self, count: int, seconds: float = TIMEOUT) -> list[ReceivedInstance]:
        """Wait until so many instances are received, and return all; for code that sends in the background.

        Raises `TimeoutError`.
        """
        with self._change:
            if not self._change.wait_for(lambda: len(self._instances) >= count, seconds):
                raise TimeoutError(f"expected {count} instances, received {len(self._instances)} in {seconds:g} s")
            return list(self._instances)

    def handle(self, request: StoreRequest) -> int:
        """Record an instance, and return the next status."""
        with self._change:
            status = self.statuses.pop(0) if self.statuses else 0
            self._instances.append(ReceivedInstance(request.file_meta, request.encoded(), status))
            self._change.notify_all()
            return status


@pytest.fixture
def dicomport_scp_options() -> Mapping[str, Any]:
    """Return the keyword arguments of the `StorageSCP`; override this fixture to change them."""
    return {}


@pytest.fixture
def dicomport_scp(dicomport_scp_options: Mapping[str, Any]) -> Iterator[ReceivingSCP]:
    """Run a Storage SCP on a free port of loopback for one test, in a separate thread."""
    options = {"ae_title": "DICOMPORT", "host": "127.0.0.1", "port": 0, **dicomport_scp_options}
    receiving = ReceivingSCP(options["host"], options["ae_title"])
    with StorageSCP(receiving.handle, **options).in_thread() as scp:
        receiving.port = scp.port
        yield receiving

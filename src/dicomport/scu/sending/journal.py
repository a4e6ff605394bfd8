"""Journal of accepted instances on disk, so that the next run continues after an interrupted one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any, Final, Self

from dicomport.errors import DicomportError
from dicomport.files import system
from dicomport.net import Address
from dicomport.scu.inputs.instance import Instance
from dicomport.standard import Status

_MAX_LINE: Final = 1 << 20
"""Maximum length of a line, bytes: more than any path needs, so a file without line ends takes little memory."""


class JournalError(DicomportError):
    """The file cannot be used as a journal, for the reason in the message."""


class Journal:
    """A file with one line (JSON) for each instance that a peer has accepted.

    Instances are identified by the path, size and modification time of their file, so that a changed file is sent
    again, and by the peer: one journal can serve several. A line is written to the operating system before the result
    is reported, so no line is lost if the process is killed. A line that is incomplete after a power failure is
    ignored, and its instance sent again.
    """

    def __init__(self, path: Path, address: Address, called_ae_title: str) -> None:
        """Open or create a journal. Raises `JournalError` if the file is not one or is in use, and `OSError`."""
        self._peer = f"{called_ae_title}@{address}"
        self._accepted: dict[bytes, int] = {}
        self._descriptor = system.open_descriptor(path, system.CREATE | system.APPEND, 0o666)
        try:
            if not stat.S_ISREG(system.fstat(self._descriptor).st_mode):
                raise JournalError("expected a regular file")
            try:
                system.lock(self._descriptor, wait=False)
            except BlockingIOError:
                raise JournalError("in use by another run; wait for its end or choose another file") from None
            self._load()
        except BaseException:
            system.close(self._descriptor)
            raise

    def status_of(self, instance: Instance) -> Status | None:
        """Return the status with which this peer accepted an instance in an earlier run; None if it did not."""
        key = _key(instance)
        code = None if key is None else self._accepted.get(_digest(self._peer, *key))
        return None if code is None else Status(code)

    def add(self, instance: Instance, status: Status) -> None:
        """Record that the peer has accepted an instance. Raises `OSError`."""
        key = _key(instance)
        if key is not None:
            path, uid, size, changed = key
            line = {
                "peer": self._peer,
                "path": path,
                "sop_instance_uid": uid,
                "size": size,
                "mtime_ns": changed,
                "status": status.code,
            }
            self._write(json.dumps(line).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        written = system.write(self._descriptor, line)
        if written < len(line):
            # Part of a line would make the next line invalid.
            system.ftruncate(self._descriptor, system.fstat(self._descriptor).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file."""
        system.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self) -> None:
        line = b"\n"
        with open(self._descriptor, "rb", closefd=False) as file:
            while part := file.readline(_MAX_LINE):
                line = part
                try:
                    entry = json.loads(line)
                    key = (entry["peer"], entry["path"], entry["sop_instance_uid"], entry["size"], entry["mtime_ns"])
                    self._accepted[_digest(*key)] = int(entry["status"])
                except (ValueError, KeyError, TypeError, RecursionError):
                    if not line.startswith(b"{"):
                        raise JournalError("not a journal: a line is not a JSON object") from None
        if not line.endswith(b"\n"):
            system.write(self._descriptor, b"\n")


def _key(instance: Instance) -> tuple[str, str, int, int] | None:
    if instance.path is None or instance.stamp is None:
        return None
    return (str(instance.path.absolute()), instance.sop_instance_uid, *instance.stamp)


def _digest(*key: Any) -> bytes:
    """Return a short key for an entry, to keep a million of them in memory."""
    return hashlib.blake2b(json.dumps(key).encode(), digest_size=16).digest()

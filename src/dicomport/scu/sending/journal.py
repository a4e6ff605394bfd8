"""What a peer has accepted, kept on disk, so that a run that was cut short goes on where it stood."""

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

__all__ = ["Journal", "JournalError"]

_MAX_LINE: Final = 1 << 20
"""More than any path takes, bytes: what has no line's end within that is not collected in memory."""


class JournalError(DicomportError):
    """A file can't be a journal; the message says why, for a person."""


class Journal:
    """A file to which a line is added for each instance that the peer has accepted.

    An instance is known by the file that it came from, with its size and the time of its last change, so a file that
    has changed is sent again; and by the peer: the same journal can serve several. A line reaches the system before
    the next instance is answered for, so a process that is killed loses none; one that was torn by the power supply is
    passed over, and its instance sent again.
    """

    def __init__(self, path: Path, address: Address, called_ae_title: str) -> None:
        """Open a journal, or begin one. Raises `JournalError` for another kind of file, or one in use; `OSError`."""
        self._peer = f"{called_ae_title}@{address}"
        self._accepted: dict[bytes, int] = {}
        self._descriptor = system.open_descriptor(path, system.CREATE | system.APPEND, 0o666)
        try:
            if not stat.S_ISREG(system.fstat(self._descriptor).st_mode):
                raise JournalError("it is no regular file")
            try:
                system.lock(self._descriptor, wait=False)
            except BlockingIOError:
                raise JournalError("another run has it open") from None
            self._load()
        except BaseException:
            system.close(self._descriptor)
            raise

    def status_of(self, instance: Instance) -> Status | None:
        """Give the status with which this peer has accepted an instance in an earlier run, if it has."""
        key = _key(instance)
        code = None if key is None else self._accepted.get(_digest(self._peer, *key))
        return None if code is None else Status.of(code)

    def add(self, instance: Instance, status: Status) -> None:
        """Note that the peer has accepted an instance. Raises `OSError`."""
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
            # Half a line would spoil the next one, for which there may be room again.
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
                except (ValueError, KeyError, TypeError):
                    if not line.startswith(b"{"):
                        raise JournalError("it holds something else than a journal") from None
        if not line.endswith(b"\n"):
            system.write(self._descriptor, b"\n")


def _key(instance: Instance) -> tuple[str, str, int, int] | None:
    if instance.path is None or instance.stamp is None:
        return None
    return (str(instance.path.absolute()), instance.sop_instance_uid, *instance.stamp)


def _digest(*key: Any) -> bytes:
    """Stand for an entry in memory: a million of them are kept."""
    return hashlib.blake2b(json.dumps(key).encode(), digest_size=16).digest()

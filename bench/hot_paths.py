"""The hot paths alone: receiving and sending instances in this process.

The other side is a thread that sends prepared bytes, or answers each request without reading its content.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from bench.data import CT, SMALL, Data, Stock

from dicomport import Durability, FolderStorage, Storage, StorageSCP, send
from dicomport.archive import Archive, ArchiveOptions
from dicomport.scu import Instance, instance_from_path
from dicomport.standard import EXPLICIT_VR_LITTLE_ENDIAN, sop_classes
from dicomport.testing import acceptance, association_request, encode_message
from dicomport.testing.messages import response
from dicomport.wire import AssociateRQ, CStoreRQ, ReleaseRQ, decode

__all__ = ["PATHS", "HotPath"]

_MAX_PDU: Final = 131072
"""Maximum length of a P-DATA-TF's body, bytes: DCMTK's maximum."""
_PDU_HEADER: Final = struct.Struct(">BxL")
_P_DATA: Final = 4
_CONTEXT: Final = 1
_LAST_OF_DATA: Final = 2
"""The message control header of a data set's last fragment (PS3.8 E.2)."""
_CT: Final = sop_classes.CTImageStorage.uid


Work: TypeAlias = Callable[[Path], None]
"""Performs the prepared work in an empty folder."""


@dataclass(frozen=True, slots=True)
class HotPath:
    """Work that is repeated for each instance."""

    name: str
    data: Data
    instances: int
    """Enough to make the fixed costs negligible."""
    prepare: Callable[[Sequence[Path]], Work]

    def work(self, stock: Stock, times: int) -> Callable[[], None]:
        """Prepare the work for `times` as many instances."""
        work = self.prepare(sorted(stock.folder(self.data).iterdir())[: self.instances * times])

        def do() -> None:
            with tempfile.TemporaryDirectory(dir=stock.root) as folder:
                work(Path(folder))

        return do


def _commands(files: Sequence[Path]) -> Iterator[tuple[CStoreRQ, Instance]]:
    for number, path in enumerate(files, 1):
        instance = instance_from_path(path)
        command = CStoreRQ(
            message_id=number,
            affected_sop_class_uid=instance.sop_class_uid,
            affected_sop_instance_uid=instance.sop_instance_uid,
        )
        yield command, instance


def _read_pdu(sock: socket.socket) -> bytes:
    header = sock.recv(_PDU_HEADER.size, socket.MSG_WAITALL)
    return header + sock.recv(_PDU_HEADER.unpack(header)[1], socket.MSG_WAITALL)


def _receive(storage: Storage, requests: Sequence[bytes]) -> None:
    with (
        StorageSCP(storage, port=0).in_thread() as scp,
        socket.create_connection(("127.0.0.1", scp.port)) as sock,
    ):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(association_request((_CT, [EXPLICIT_VR_LITTLE_ENDIAN.uid])).encode())
        _read_pdu(sock)
        for request in requests:
            sock.sendall(request)
            _read_pdu(sock)


def _receive_on_associations(storage: Storage, requests: Sequence[bytes]) -> None:
    """Receive each instance on a separate association."""
    proposal = association_request((_CT, [EXPLICIT_VR_LITTLE_ENDIAN.uid])).encode()
    release = ReleaseRQ().encode()
    with StorageSCP(storage, port=0).in_thread() as scp:
        for request in requests:
            with socket.create_connection(("127.0.0.1", scp.port)) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for pdus in (proposal, request, release):
                    sock.sendall(pdus)
                    _read_pdu(sock)


def _encoded(files: Sequence[Path]) -> list[bytes]:
    return [
        encode_message(_CONTEXT, command, b"".join(map(bytes, instance.chunks(1 << 20))), maximum_length=_MAX_PDU)
        for command, instance in _commands(files)
    ]


def _to_folder(files: Sequence[Path]) -> Work:
    requests = _encoded(files)
    return lambda folder: _receive(FolderStorage(folder, Durability.FLUSH), requests)


def _to_folder_on_associations(files: Sequence[Path]) -> Work:
    requests = _encoded(files)
    return lambda folder: _receive_on_associations(FolderStorage(folder, Durability.FLUSH), requests)


def _to_archive(files: Sequence[Path]) -> Work:
    requests = _encoded(files)

    def work(folder: Path) -> None:
        with contextlib.closing(Archive(folder, ArchiveOptions(durability=Durability.FLUSH))) as archive:
            _receive(archive, requests)

    return work


def _answer(sock: socket.socket, answers: Iterator[bytes]) -> None:
    """Accept an association, and answer every complete message."""
    request = decode(_read_pdu(sock))
    assert isinstance(request, AssociateRQ)
    sock.sendall(acceptance(request, maximum_length=_MAX_PDU).encode())
    while (pdu := _read_pdu(sock))[0] == _P_DATA:
        if pdu[11] == _LAST_OF_DATA:
            sock.sendall(next(answers))


def _send(files: Sequence[Path]) -> Work:
    answers = [encode_message(_CONTEXT, response(command)) for command, _ in _commands(files)]

    def work(_: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:

            def serve() -> None:
                sock, _ = listening.accept()
                with sock:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    _answer(sock, iter(answers))

            serving = threading.Thread(target=serve)
            serving.start()
            report = asyncio.run(send(files, *listening.getsockname(), associations=1, window=1))
            serving.join()
        if len(report.accepted) != len(files):
            raise RuntimeError(str(report.failed or report.error))

    return work


PATHS: Final = (
    HotPath("receive 512 KiB into a folder", CT, 40, _to_folder),
    HotPath("receive 512 KiB into an archive", CT, 40, _to_archive),
    HotPath("receive 10 KB into a folder", SMALL, 100, _to_folder),
    HotPath("receive 10 KB into an archive", SMALL, 100, _to_archive),
    HotPath("associate and receive 10 KB", SMALL, 50, _to_folder_on_associations),
    HotPath("send 10 KB", SMALL, 100, _send),
)

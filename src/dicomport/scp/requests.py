"""What a peer asks to be stored."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicomport.core import IMPLEMENTATION, AcceptedContext, ImplementationInfo
from dicomport.files import Durability, MemoryBudget, PartialFile
from dicomport.scp.spool import SpooledDataSet
from dicomport.wire import CStoreRQ, FileMeta

if TYPE_CHECKING:
    import pydicom

__all__ = ["AssociationInfo", "StoreOperation", "StoreRequest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationInfo:
    """Who sends. All of it is the peer's own word but the address and the TLS certificate."""

    calling_ae_title: str
    called_ae_title: str
    address: str
    """The peer's address and port, "192.0.2.7:49152" or "[2001:db8::7]:49152"."""
    tls_certificate: Mapping[str, Any] | None = field(hash=False)
    """The peer's certificate as `ssl.SSLSocket.getpeercert` gives it; None where it has shown none."""
    tls_fingerprint: str = ""
    """SHA-256 of that certificate: "sha256:" and hexadecimal digits; empty where there is none."""
    implementation: ImplementationInfo
    """The peer's Implementation Class UID and Version Name."""

    @property
    def host(self) -> str:
        """The peer's address without its port, which means nothing once the association is over."""
        return self.address.rpartition(":")[0]


@dataclass(frozen=True, slots=True)
class StoreOperation:
    """One C-STORE request before its data set has come: what a sink decides on."""

    association: AssociationInfo
    context: AcceptedContext
    command: CStoreRQ
    """With the message id, the priority and, in a C-MOVE sub-operation, the move originator (PS3.7 9.3.1.1)."""
    memory: MemoryBudget = field(repr=False, compare=False)
    """What the server has for data sets on their way to disk; see `dicomport.files.BlockWriter`."""

    @property
    def sop_class_uid(self) -> str:
        """Affected SOP Class UID, as the peer sent it."""
        return self.command.affected_sop_class_uid

    @property
    def sop_instance_uid(self) -> str:
        """Affected SOP Instance UID, as the peer sent it: not a file name, see `dicomport.files.file_name`."""
        return self.command.affected_sop_instance_uid

    @property
    def transfer_syntax_uid(self) -> str:
        """How the data set is encoded: the presentation context's transfer syntax."""
        return self.context.transfer_syntax

    @property
    def file_meta(self) -> FileMeta:
        """File Meta Information for the instance (PS3.10 7.1)."""
        return FileMeta(
            media_storage_sop_class_uid=self.sop_class_uid,
            media_storage_sop_instance_uid=self.sop_instance_uid,
            transfer_syntax_uid=self.transfer_syntax_uid,
            implementation_class_uid=IMPLEMENTATION.class_uid,
            implementation_version_name=IMPLEMENTATION.version_name,
            source_ae_title=self.association.calling_ae_title,
            sending_ae_title=self.association.calling_ae_title,
            receiving_ae_title=self.association.called_ae_title,
            source_presentation_address=f"dicom:{self.association.host}",
        )


@dataclass(frozen=True, slots=True)
class StoreRequest(StoreOperation):
    """One C-STORE request with its whole data set: what a handler gets. It is good until the handler returns."""

    spool: SpooledDataSet

    @property
    def size(self) -> int:
        """Length of the data set, bytes."""
        return self.spool.size

    def chunks(self) -> Iterator[memoryview]:
        """Give the data set's bytes as they were received; a piece is dead once the next is asked for.

        Raises `OSError`, and `ValueError` once the handler has returned, as everything does that reads the data set.
        """
        return self.spool.chunks()

    def encoded(self) -> bytes:
        """Give the data set's bytes as they were received, all at once."""
        return self._copied(b"").getvalue()

    async def save(self, folder: str | Path, durability: Durability = Durability.FSYNC) -> Path:
        """Write a Part 10 file into `folder` and return its path, as `save_blocking` does, but from a thread."""
        return await asyncio.to_thread(self.save_blocking, folder, durability)

    def save_blocking(self, folder: str | Path, durability: Durability = Durability.FSYNC) -> Path:
        """Write a Part 10 file into `folder` and return its path: the way for handlers that are no coroutines.

        The file holds the received bytes, appears whole or not at all, and is on stable storage when this returns.
        Its name is made of the SOP Instance UID; another instance of that name is never overwritten. Raises
        `OSError`.
        """
        partial = PartialFile(Path(folder), self.file_meta, durability)
        try:
            for chunk in self.chunks():
                partial.write(chunk)
        except BaseException:
            partial.discard()
            raise
        return Path(partial.commit(self.sop_instance_uid))

    def dataset(self) -> pydicom.FileDataset:
        """Decode the data set with pydicom, pixel data included, and give it with its file meta.

        It is slow, and storing needs none of it. Raises `UndecodableDataSetError` for a data set that is truncated or
        that pydicom can't decode.
        """
        from dicomport.scp.decoding import decode

        return decode(self._copied(self.spool.header), self.transfer_syntax_uid)

    def _copied(self, header: bytes) -> io.BytesIO:
        copy = io.BytesIO()
        copy.write(header)
        copy.writelines(self.chunks())
        copy.seek(0)
        return copy

"""The association and the C-STORE request of an instance."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import io
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dicomport.core import IMPLEMENTATION, AcceptedContext, ImplementationInfo
from dicomport.files import Durability, MemoryBudget, PartialFile
from dicomport.scp.decoding import decode
from dicomport.scp.spool import SpooledDataSet
from dicomport.values import frozen
from dicomport.wire import CStoreRQ, FileMeta, encode_uid, file_meta_around_uid

if TYPE_CHECKING:
    import pydicom


@frozen(kw_only=True)
class AssociationInfo:
    """The peer of an association. The peer chooses all of it except the address and the TLS certificate."""

    calling_ae_title: str
    called_ae_title: str
    address: str
    """The peer's address and port, "192.0.2.7:49152" or "[2001:db8::7]:49152"."""
    tls_certificate: Mapping[str, Any] | None = field(hash=False)
    """The peer's verified certificate as from `ssl.SSLSocket.getpeercert`, None without one."""
    tls_fingerprint: str = ""
    """SHA-256 of that certificate: "sha256:" and hexadecimal digits; empty without one."""
    implementation: ImplementationInfo
    """The peer's Implementation Class UID and Version Name."""

    @property
    def host(self) -> str:
        """The peer's address without the port."""
        return self.address.rpartition(":")[0]


@frozen
class StoreOperation:
    """One C-STORE request before its data set is received: the argument of `Storage.begin`."""

    association: AssociationInfo
    context: AcceptedContext
    command: CStoreRQ
    """The command set, with Priority and, in a C-MOVE sub-operation, the move originator (PS3.7 9.3.1.1)."""
    memory: MemoryBudget = field(repr=False, compare=False)
    """The server's memory for data sets that are being received; see `dicomport.files.BlockWriter`."""

    @property
    def sop_class_uid(self) -> str:
        """Affected SOP Class UID, as the peer sent it."""
        return self.command.affected_sop_class_uid

    @property
    def sop_instance_uid(self) -> str:
        """Affected SOP Instance UID, as the peer sent it. For a file name, use `dicomport.files.file_name`."""
        return self.command.affected_sop_instance_uid

    @property
    def transfer_syntax_uid(self) -> str:
        """Transfer syntax of the data set: that of the presentation context."""
        return self.context.transfer_syntax

    @property
    def file_meta(self) -> FileMeta:
        """File Meta Information for the instance (PS3.10 7.1)."""
        template = self._template(len(encode_uid(self.sop_instance_uid)))
        return dataclasses.replace(template.meta, media_storage_sop_instance_uid=self.sop_instance_uid)

    @property
    def file_header(self) -> bytes:
        """The bytes before the data set in the instance's file: preamble and File Meta Information (PS3.10 7.1)."""
        uid = encode_uid(self.command.affected_sop_instance_uid)
        template = self._template(len(uid))
        return b"".join((template.before, uid, template.after))

    def _template(self, uid_bytes: int) -> _MetaTemplate:
        association = self.association
        return _meta_template(
            self.command.affected_sop_class_uid,
            uid_bytes,
            self.context.transfer_syntax,
            association.calling_ae_title,
            association.called_ae_title,
            association.host,
        )


class _MetaTemplate(NamedTuple):
    """The File Meta Information of instances that differ in their SOP Instance UIDs, and its bytes around the UID."""

    meta: FileMeta
    before: bytes
    after: bytes


@functools.lru_cache(maxsize=256)
def _meta_template(  # noqa: PLR0917  # the key of the cache: with names, a look-up takes twice as long
    sop_class_uid: str, uid_bytes: int, transfer_syntax_uid: str, calling: str, called: str, host: str
) -> _MetaTemplate:
    """Return the template of instances whose encoded SOP Instance UIDs have `uid_bytes`."""
    meta = FileMeta(
        media_storage_sop_class_uid=sop_class_uid,
        media_storage_sop_instance_uid="0" * uid_bytes,
        transfer_syntax_uid=transfer_syntax_uid,
        implementation_class_uid=IMPLEMENTATION.class_uid,
        implementation_version_name=IMPLEMENTATION.version_name,
        source_ae_title=calling,
        sending_ae_title=calling,
        receiving_ae_title=called,
        source_presentation_address=f"dicom:{host}",
    )
    return _MetaTemplate(meta, *file_meta_around_uid(meta))


@frozen
class StoreRequest(StoreOperation):
    """One C-STORE request with its data set: the argument of a handler, valid until the handler returns."""

    spool: SpooledDataSet

    @property
    def size(self) -> int:
        """Length of the data set, bytes."""
        return self.spool.size

    def chunks(self) -> Iterator[memoryview]:
        """Yield the data set's bytes as received. Each chunk, up to 1 MiB, is valid until the next one is read.

        All methods that read the data set raise `OSError`, and `ValueError` after the handler has returned.
        """
        return self.spool.chunks()

    def encoded(self) -> bytes:
        """Return the data set's bytes as received."""
        return self._copied(b"").getvalue()

    async def save(self, folder: str | Path, durability: Durability = Durability.FSYNC) -> Path:
        """Run `save_blocking` in a thread, and return the path."""
        return await asyncio.to_thread(self.save_blocking, folder, durability)

    def save_blocking(self, folder: str | Path, durability: Durability = Durability.FSYNC) -> Path:
        """Write a Part 10 file (PS3.10 7) into `folder`, and return its path. For handlers without a coroutine.

        The file has the received bytes and gets its name, made of the SOP Instance UID, when it is complete and, by
        default, on stable storage. An existing file is never overwritten. Raises `OSError`: `FileExistsError` if 100
        files with this UID and other data sets exist.
        """
        partial = PartialFile(Path(folder), self.file_header, durability)
        try:
            for chunk in self.chunks():
                partial.write(chunk)
        except BaseException:
            partial.discard()
            raise
        return Path(partial.commit(self.sop_instance_uid))

    def dataset(self) -> pydicom.FileDataset:
        """Decode the data set with pydicom, including Pixel Data, and return it with File Meta Information.

        This is slow, and storing does not need it. Raises `UndecodableDataSetError` for a data set that is truncated
        or that pydicom cannot decode.
        """
        return decode(self._copied(self.spool.header), self.transfer_syntax_uid)

    def _copied(self, header: bytes) -> io.BytesIO:
        copy = io.BytesIO()
        copy.write(header)
        copy.writelines(self.chunks())
        copy.seek(0)
        return copy

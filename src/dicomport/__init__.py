"""The DICOM Storage Service for Python (PS3.4 Annex B): send and receive instances by C-STORE, byte for byte.

StorageSCP      receive: calls a handler for each instance, or fills a folder
send            send files, folders and data sets, and learn the fate of each
associate       an association of one's own, for C-STORE and C-ECHO
commit          ask for storage commitment, and learn the fate of each instance
CommitmentSCP   give it, from an archive
blocking        `associate`, `send` and `commit` for programs without asyncio
sop_classes     the storage SOP Classes, by keyword or UID
Status          what a C-STORE is answered with
wire            PDUs, command sets and file meta as values: `wire.decode`, `wire.encode`
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dicomport import blocking, wire
    from dicomport.commitment import Commitment, CommitmentReport, CommitmentSCP, Integrity, commit
    from dicomport.core import ContextOutcome, NegotiationResult
    from dicomport.errors import DicomportError
    from dicomport.files import Durability
    from dicomport.net import (
        AbortedError,
        Address,
        AssociationError,
        ConnectError,
        ConnectionLostError,
        RejectedError,
        Timeouts,
        TimerExpiredError,
        TLSProfile,
        tls_client_context,
        tls_server_context,
    )
    from dicomport.scp import (
        AssociationInfo,
        FolderStorage,
        Handler,
        PeerRule,
        Sink,
        Storage,
        StorageSCP,
        StoreOperation,
        StoreRequest,
        UndecodableDataSetError,
    )
    from dicomport.scu import (
        ClientAssociation,
        InstanceResult,
        NoContextError,
        NotSendableError,
        RetryPolicy,
        Sending,
        SendReport,
        Source,
        StoreResponse,
        Transform,
        associate,
        send,
    )
    from dicomport.scu.sending.journal import Journal, JournalError
    from dicomport.standard import (
        Category,
        SOPClass,
        Status,
        TransferSyntax,
        sop_classes,
        transfer_syntaxes,
    )
    from dicomport.wire import Limits, Priority
    from dicomport.wire.commitment import SOPReference

__version__ = "0.1.0"

__all__ = [
    "AbortedError",
    "Address",
    "AssociationError",
    "AssociationInfo",
    "Category",
    "ClientAssociation",
    "Commitment",
    "CommitmentReport",
    "CommitmentSCP",
    "ConnectError",
    "ConnectionLostError",
    "ContextOutcome",
    "DicomportError",
    "Durability",
    "FolderStorage",
    "Handler",
    "InstanceResult",
    "Integrity",
    "Journal",
    "JournalError",
    "Limits",
    "NegotiationResult",
    "NoContextError",
    "NotSendableError",
    "PeerRule",
    "Priority",
    "RejectedError",
    "RetryPolicy",
    "SOPClass",
    "SOPReference",
    "SendReport",
    "Sending",
    "Sink",
    "Source",
    "Status",
    "Storage",
    "StorageSCP",
    "StoreOperation",
    "StoreRequest",
    "StoreResponse",
    "TLSProfile",
    "Timeouts",
    "TimerExpiredError",
    "TransferSyntax",
    "Transform",
    "UndecodableDataSetError",
    "__version__",
    "associate",
    "blocking",
    "commit",
    "send",
    "sop_classes",
    "tls_client_context",
    "tls_server_context",
    "transfer_syntaxes",
    "wire",
]

_ROOMS: Final = {
    "dicomport.commitment": ("Commitment", "CommitmentReport", "CommitmentSCP", "Integrity", "commit"),
    "dicomport.core": ("ContextOutcome", "NegotiationResult"),
    "dicomport.errors": ("DicomportError",),
    "dicomport.files": ("Durability",),
    "dicomport.net": (
        "AbortedError",
        "Address",
        "AssociationError",
        "ConnectError",
        "ConnectionLostError",
        "RejectedError",
        "TLSProfile",
        "Timeouts",
        "TimerExpiredError",
        "tls_client_context",
        "tls_server_context",
    ),
    "dicomport.scp": (
        "AssociationInfo",
        "FolderStorage",
        "Handler",
        "PeerRule",
        "Sink",
        "Storage",
        "StorageSCP",
        "StoreOperation",
        "StoreRequest",
        "UndecodableDataSetError",
    ),
    "dicomport.scu": (
        "ClientAssociation",
        "InstanceResult",
        "NoContextError",
        "NotSendableError",
        "Transform",
        "RetryPolicy",
        "SendReport",
        "Source",
        "Sending",
        "StoreResponse",
        "associate",
        "send",
    ),
    "dicomport.scu.sending.journal": ("Journal", "JournalError"),
    "dicomport.standard": ("Category", "SOPClass", "Status", "TransferSyntax", "sop_classes", "transfer_syntaxes"),
    "dicomport.wire": ("Limits", "Priority"),
    "dicomport.wire.commitment": ("SOPReference",),
}
"""Where each name is. It is imported when it is first asked for: a sender does not wait for a receiver, nor a receiver
for a sender."""

_MODULES: Final = ("blocking", "wire")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"dicomport.{name}")
    for room, names in _ROOMS.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(room), name)
            return value
    raise AttributeError(f"module 'dicomport' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

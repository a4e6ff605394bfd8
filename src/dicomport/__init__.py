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

from dicomport import wire
from dicomport.core import ContextOutcome, Outcome
from dicomport.files import Durability
from dicomport.net import (
    AbortedError,
    Address,
    AssociationError,
    ConnectError,
    LostError,
    RejectedError,
    Timeouts,
    TimerExpiredError,
    TLSProfile,
    tls_client_context,
    tls_server_context,
)
from dicomport.scu import (
    ClientAssociation,
    InstanceResult,
    NoContextError,
    NotSendableError,
    Preparation,
    RetryPolicy,
    Sendable,
    Sending,
    SendReport,
    StoreResponse,
    associate,
    send,
)
from dicomport.standard import Category, SOPClass, Status, TransferSyntax, sop_classes, transfer_syntaxes
from dicomport.wire import Limits, Priority, SOPReference

if TYPE_CHECKING:
    from dicomport import blocking
    from dicomport.commitment import Commitment, CommitmentReport, CommitmentSCP, Custody, commit
    from dicomport.scp import (
        AssociationInfo,
        FolderStorage,
        Handler,
        Peer,
        Sink,
        Storage,
        StorageSCP,
        StoreOperation,
        StoreRequest,
        UndecodableDataSetError,
    )
    from dicomport.scu.journal import Journal, JournalError

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
    "ContextOutcome",
    "Custody",
    "Durability",
    "FolderStorage",
    "Handler",
    "InstanceResult",
    "Journal",
    "JournalError",
    "Limits",
    "LostError",
    "NoContextError",
    "NotSendableError",
    "Outcome",
    "Peer",
    "Preparation",
    "Priority",
    "RejectedError",
    "RetryPolicy",
    "SOPClass",
    "SOPReference",
    "SendReport",
    "Sendable",
    "Sending",
    "Sink",
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

_LATER: Final = {
    "dicomport.commitment": ("Commitment", "CommitmentReport", "CommitmentSCP", "Custody", "commit"),
    "dicomport.scp": (
        "AssociationInfo",
        "FolderStorage",
        "Handler",
        "Peer",
        "Sink",
        "Storage",
        "StorageSCP",
        "StoreOperation",
        "StoreRequest",
        "UndecodableDataSetError",
    ),
    "dicomport.scu.journal": ("Journal", "JournalError"),
}
"""What a plain sender does not need. Its process is a short one, so this is imported when it is first asked for."""


def __getattr__(name: str) -> Any:
    if name == "blocking":
        return importlib.import_module("dicomport.blocking")
    for room, names in _LATER.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(room), name)
            return value
    raise AttributeError(f"module 'dicomport' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

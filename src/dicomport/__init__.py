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

from dicomport import blocking, wire
from dicomport.commitment import Commitment, CommitmentReport, CommitmentSCP, Custody, commit
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
from dicomport.scu import (
    ClientAssociation,
    InstanceResult,
    Journal,
    JournalError,
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

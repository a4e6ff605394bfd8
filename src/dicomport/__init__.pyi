# The public names, each with its home: the one list of them, for type checkers and for __init__.py.

from typing import Final

from dicomport import blocking as blocking, wire as wire
from dicomport.commitment import (
    Commitment as Commitment,
    CommitmentLimits as CommitmentLimits,
    CommitmentReport as CommitmentReport,
    CommitmentSCP as CommitmentSCP,
    Integrity as Integrity,
    commit as commit,
)
from dicomport.commitment.data_sets import SOPReference as SOPReference
from dicomport.core import ContextOutcome as ContextOutcome, NegotiationResult as NegotiationResult
from dicomport.dimse import NoContextError as NoContextError
from dicomport.errors import DicomportError as DicomportError
from dicomport.files import Durability as Durability
from dicomport.net import (
    AbortedError as AbortedError,
    Address as Address,
    AssociationError as AssociationError,
    ConnectError as ConnectError,
    ConnectionLostError as ConnectionLostError,
    RejectedError as RejectedError,
    Timeouts as Timeouts,
    TimerExpiredError as TimerExpiredError,
    TLSProfile as TLSProfile,
    tls_client_context as tls_client_context,
    tls_server_context as tls_server_context,
)
from dicomport.scp import (
    AssociationInfo as AssociationInfo,
    FolderStorage as FolderStorage,
    Handler as Handler,
    Limits as Limits,
    PeerRule as PeerRule,
    Sink as Sink,
    Storage as Storage,
    StorageSCP as StorageSCP,
    StoreOperation as StoreOperation,
    StoreRequest as StoreRequest,
    UndecodableDataSetError as UndecodableDataSetError,
)
from dicomport.scu import (
    ClientAssociation as ClientAssociation,
    InstanceResult as InstanceResult,
    NotSendableError as NotSendableError,
    RetryPolicy as RetryPolicy,
    Sending as Sending,
    SendReport as SendReport,
    Source as Source,
    StoreResponse as StoreResponse,
    Transform as Transform,
    associate as associate,
    send as send,
)
from dicomport.scu.sending.journal import Journal as Journal, JournalError as JournalError
from dicomport.standard import (
    Category as Category,
    SOPClass as SOPClass,
    Status as Status,
    TransferSyntax as TransferSyntax,
    sop_classes as sop_classes,
    transfer_syntaxes as transfer_syntaxes,
)
from dicomport.wire import Priority as Priority

__version__: Final[str]

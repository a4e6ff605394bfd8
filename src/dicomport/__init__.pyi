# The public names, each with its home: the one list of them, for type checkers and for __init__.py.

from typing import Final

from dicomport import blocking as blocking
from dicomport import wire as wire
from dicomport.commitment import Commitment as Commitment
from dicomport.commitment import CommitmentLimits as CommitmentLimits
from dicomport.commitment import CommitmentReport as CommitmentReport
from dicomport.commitment import CommitmentSCP as CommitmentSCP
from dicomport.commitment import Integrity as Integrity
from dicomport.commitment import commit as commit
from dicomport.core import ContextOutcome as ContextOutcome
from dicomport.core import NegotiationResult as NegotiationResult
from dicomport.dimse import NoContextError as NoContextError
from dicomport.errors import DicomportError as DicomportError
from dicomport.files import Durability as Durability
from dicomport.net import AbortedError as AbortedError
from dicomport.net import Address as Address
from dicomport.net import AssociationError as AssociationError
from dicomport.net import ConnectError as ConnectError
from dicomport.net import ConnectionLostError as ConnectionLostError
from dicomport.net import RejectedError as RejectedError
from dicomport.net import Timeouts as Timeouts
from dicomport.net import TimerExpiredError as TimerExpiredError
from dicomport.net import TLSProfile as TLSProfile
from dicomport.net import tls_client_context as tls_client_context
from dicomport.net import tls_server_context as tls_server_context
from dicomport.scp import AssociationInfo as AssociationInfo
from dicomport.scp import FolderStorage as FolderStorage
from dicomport.scp import Handler as Handler
from dicomport.scp import Limits as Limits
from dicomport.scp import PeerRule as PeerRule
from dicomport.scp import Sink as Sink
from dicomport.scp import Storage as Storage
from dicomport.scp import StorageSCP as StorageSCP
from dicomport.scp import StoreOperation as StoreOperation
from dicomport.scp import StoreRequest as StoreRequest
from dicomport.scp import UndecodableDataSetError as UndecodableDataSetError
from dicomport.scu import ClientAssociation as ClientAssociation
from dicomport.scu import InstanceResult as InstanceResult
from dicomport.scu import NotSendableError as NotSendableError
from dicomport.scu import RetryPolicy as RetryPolicy
from dicomport.scu import Sending as Sending
from dicomport.scu import SendReport as SendReport
from dicomport.scu import Source as Source
from dicomport.scu import StoreResponse as StoreResponse
from dicomport.scu import Transform as Transform
from dicomport.scu import associate as associate
from dicomport.scu import send as send
from dicomport.scu.sending.journal import Journal as Journal
from dicomport.scu.sending.journal import JournalError as JournalError
from dicomport.standard import Category as Category
from dicomport.standard import SOPClass as SOPClass
from dicomport.standard import Status as Status
from dicomport.standard import TransferSyntax as TransferSyntax
from dicomport.standard import sop_classes as sop_classes
from dicomport.standard import transfer_syntaxes as transfer_syntaxes
from dicomport.wire import Priority as Priority
from dicomport.wire.commitment import SOPReference as SOPReference

__version__: Final[str]

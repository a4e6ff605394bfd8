"""Receiving: the SCP of verification and storage, with handlers, folders and other storages."""

from dicomport.scp.access.passwords import Passwords as Passwords, hash_password as hash_password
from dicomport.scp.access.peers import PeerRule as PeerRule, network as network
from dicomport.scp.access.user_identity import UserIdentityCheck as UserIdentityCheck
from dicomport.scp.decoding import UndecodableDataSetError as UndecodableDataSetError
from dicomport.scp.dimse_n import NormalizedOperation as NormalizedOperation, NormalizedService as NormalizedService
from dicomport.scp.folder import FolderStorage as FolderStorage
from dicomport.scp.handlers import Handler as Handler, HandlerResult as HandlerResult, HandlerStorage as HandlerStorage
from dicomport.scp.limits import DEFAULT_LIMITS as DEFAULT_LIMITS, Limits as Limits
from dicomport.scp.requests import (
    AssociationInfo as AssociationInfo,
    StoreOperation as StoreOperation,
    StoreRequest as StoreRequest,
)
from dicomport.scp.server import (
    StorageSCP as StorageSCP,
    any_storage_class as any_storage_class,
    is_loopback as is_loopback,
)
from dicomport.scp.sinks import Sink as Sink, Storage as Storage, status_of as status_of

"""Receiving: the SCP of verification and storage, with handlers, folders and other storages."""

from dicomport.scp.access.passwords import Passwords, hash_password
from dicomport.scp.access.peers import PeerRule, network
from dicomport.scp.access.user_identity import UserIdentityCheck
from dicomport.scp.dimse_n import NormalizedOperation, NormalizedService
from dicomport.scp.errors import UndecodableDataSetError
from dicomport.scp.folder import FolderStorage
from dicomport.scp.handlers import Handler, HandlerResult, HandlerStorage
from dicomport.scp.limits import DEFAULT_LIMITS, Limits
from dicomport.scp.requests import AssociationInfo, StoreOperation, StoreRequest
from dicomport.scp.server import StorageSCP, any_storage_class, is_loopback
from dicomport.scp.sinks import Sink, Storage, status_of

__all__ = [
    "DEFAULT_LIMITS",
    "AssociationInfo",
    "FolderStorage",
    "Handler",
    "HandlerResult",
    "HandlerStorage",
    "Limits",
    "NormalizedOperation",
    "NormalizedService",
    "Passwords",
    "PeerRule",
    "Sink",
    "Storage",
    "StorageSCP",
    "StoreOperation",
    "StoreRequest",
    "UndecodableDataSetError",
    "UserIdentityCheck",
    "any_storage_class",
    "hash_password",
    "is_loopback",
    "network",
    "status_of",
]

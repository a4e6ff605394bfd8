"""Settings that all associations of one server share."""

from __future__ import annotations

import dataclasses

from dicomport.files import MemoryBudget
from dicomport.scp.access.acceptance import AccessControl
from dicomport.scp.access.peers import PeerRule
from dicomport.scp.callbacks import OnAssociationEnd, OnStored
from dicomport.scp.dimse_n import DataSetMemory, NormalizedService
from dicomport.scp.limits import Limits
from dicomport.scp.sinks import Storage
from dicomport.values import frozen


@frozen(kw_only=True)
class ServiceSettings:
    """Settings of the service on an association."""

    access: AccessControl
    storage: Storage
    normalized: NormalizedService
    limits: Limits
    memory: MemoryBudget
    """Shared by all data sets that are on their way to disk."""
    dimse_n_memory: DataSetMemory
    """Shared by the data sets of DIMSE-N; a part of `memory`."""
    on_stored: OnStored | None
    on_association_end: OnAssociationEnd | None

    def for_peer(self, rule: PeerRule) -> ServiceSettings:
        """Return the settings for a peer that a rule allows: its storage, and its maximum length of a data set."""
        if rule.storage is None and rule.instance_bytes is None:
            return self
        storage = self.storage if rule.storage is None else rule.storage
        limits = self.limits
        if rule.instance_bytes is not None:
            limits = dataclasses.replace(limits, instance_bytes=rule.instance_bytes)
        return dataclasses.replace(self, storage=storage, limits=limits)

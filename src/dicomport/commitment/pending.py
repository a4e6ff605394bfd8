"""The commitment requests without a report, and their limits."""

from __future__ import annotations

import asyncio
import enum
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from dicomport.commitment.limits import CommitmentLimits
from dicomport.logs import Logger, get_logger
from dicomport.scp import NormalizedOperation
from dicomport.standard import Status

log: Final = get_logger("commitment")


class PeerKey(NamedTuple):
    """The requestor of a transaction. A Transaction UID identifies a transaction of this peer only."""

    ae_title: str
    host: str
    """Address, without the port."""
    tls_fingerprint: str
    """SHA-256 of the verified certificate, empty without one."""


class ScopeKind(enum.Enum):
    """The transactions that share a limit; the value is the end of the limit's name in `CommitmentLimits`."""

    ALL = ""
    ADDRESS = "_per_address"
    AE_TITLE = "_per_ae_title"


class Scope(NamedTuple):
    """All transactions, or those of one address or AE title."""

    kind: ScopeKind
    name: str = ""
    """The address or the AE title."""


@dataclass(eq=False, slots=True)
class Pending:
    """A transaction that has not been reported yet. Its references stay on the disk."""

    path: Path
    uid: str
    peer: PeerKey
    size: int
    """Number of references."""
    requested: float
    is_duplicate: bool
    """Whether another pending request of the peer had the same UID."""
    looked_up: int = 0
    """Number of references that have been looked up."""
    failures: dict[int, Status] = field(default_factory=dict)
    """Statuses of the references that cannot be committed, by index."""
    operation: NormalizedOperation | None = None
    """The request, until its association has been used for the report."""
    task: asyncio.Task[None] | None = None

    @property
    def log(self) -> Logger:
        """A logger that names the transaction."""
        return log.bind(transaction_uid=self.uid, calling=self.peer.ae_title, instances=self.size)

    @property
    def is_waiting(self) -> bool:
        """Whether its task has ended, because the report could not be sent: the requestor may ask again."""
        return self.task is not None and self.task.done()


class PendingCommitments:
    """All pending transactions, counted by AE title and by address."""

    def __init__(self, limits: CommitmentLimits) -> None:
        self._limits = limits
        self._all: dict[Path, Pending] = {}
        self._by_uid: dict[tuple[str, PeerKey], dict[Path, Pending]] = {}
        self._commitments: Counter[Scope] = Counter()
        """Numbers of transactions."""
        self._references: Counter[Scope] = Counter()

    def __iter__(self) -> Iterator[Pending]:
        """Iterate over a copy, the oldest first."""
        return iter([*self._all.values()])

    def add(self, pending: Pending) -> None:
        """Add a transaction, or do nothing if it is there."""
        if pending.path in self._all:
            return
        self._all[pending.path] = pending
        self._by_uid.setdefault((pending.uid, pending.peer), {})[pending.path] = pending
        for scope in _scopes(pending.peer):
            self._commitments[scope] += 1
            self._references[scope] += pending.size

    def remove(self, pending: Pending) -> None:
        """Remove a transaction, or do nothing if it is not there."""
        if self._all.pop(pending.path, None) is None:
            return
        same = self._by_uid[pending.uid, pending.peer]
        del same[pending.path]
        if not same:
            del self._by_uid[pending.uid, pending.peer]
        for scope in _scopes(pending.peer):
            self._commitments[scope] -= 1
            self._references[scope] -= pending.size
        self._commitments += Counter()
        self._references += Counter()

    def clear(self) -> None:
        """Remove all transactions."""
        for pending in self:
            self.remove(pending)

    def find(self, uid: str, peer: PeerKey) -> Pending | None:
        """Return the oldest transaction of a peer with this Transaction UID."""
        return next(iter(self._by_uid.get((uid, peer), {}).values()), None)

    def exceeded(self, peer: PeerKey, size: int) -> tuple[str, Scope] | None:
        """Return the limit that one more transaction would exceed, and the scope of the limit; None if it fits."""
        limits = self._limits
        bounds = {
            ScopeKind.ALL: (limits.pending_commitments, limits.pending_references),
            ScopeKind.ADDRESS: (limits.pending_commitments_per_address, limits.pending_references_per_address),
            ScopeKind.AE_TITLE: (limits.pending_commitments_per_ae_title, limits.pending_references_per_ae_title),
        }
        for scope in _scopes(peer):
            commitments, references = bounds[scope.kind]
            if self._commitments[scope] >= commitments:
                return f"pending_commitments{scope.kind.value}", scope
            if self._references[scope] + size > references:
                return f"pending_references{scope.kind.value}", scope
        return None

    def fits_alone(self, size: int) -> bool:
        """Return whether a transaction with so many references would fit if there were no other."""
        limits = self._limits
        return size <= min(
            limits.pending_references, limits.pending_references_per_address, limits.pending_references_per_ae_title
        )

    def first_to_drop(self, scope: Scope) -> Pending | None:
        """Return the oldest transaction in a scope that waits, of the address with the most transactions; or None."""
        waiting = (pending for pending in self._all.values() if pending.is_waiting and scope in _scopes(pending.peer))
        return max(waiting, key=lambda pending: self._commitments[_address(pending.peer)], default=None)


def _scopes(peer: PeerKey) -> tuple[Scope, ...]:
    """Return the scopes that the transactions of a peer belong to."""
    return Scope(ScopeKind.ALL), _address(peer), Scope(ScopeKind.AE_TITLE, peer.ae_title)


def _address(peer: PeerKey) -> Scope:
    return Scope(ScopeKind.ADDRESS, peer.host)

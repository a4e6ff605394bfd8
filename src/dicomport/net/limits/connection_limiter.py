"""Who is there: connections without an association, and associations, each within limits of its own.

Whoever has not said who it is can't keep others out: when there are too many of those, the oldest is closed for the one
that comes. Whoever has an association keeps it; one too many is rejected at once, for now.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import NamedTuple

from dicomport.logs import get_logger
from dicomport.net.limits.association_counts import AssociationCounts
from dicomport.net.limits.connection_limits import ConnectionLimits
from dicomport.net.limits.counters import Counters

__all__ = ["ConnectionLimiter", "ConnectionSlot", "Quota"]

log = get_logger("net")


class Quota(NamedTuple):
    """A bound on the associations of some of the visitors, beside those on the associations of all."""

    key: str
    """By which they are counted."""
    whose: str
    """In words, for the log."""
    most: int


class ConnectionSlot:
    """One connection to a server. It waits, for its request or for its end, but while it has an association."""

    __slots__ = ("_admission", "address", "ae_title", "host", "quota", "task")

    def __init__(self, admission: ConnectionLimiter, address: str) -> None:
        self.address = address
        """The peer's address and port, "192.0.2.7:49152" or "[2001:db8::7]:49152"."""
        self.host = address.rpartition(":")[0].strip("[]")
        """The peer's address alone."""
        self.ae_title: str | None = None
        """The calling AE title, while there is an association."""
        self.quota: Quota | None = None
        """The one that the association counts for."""
        self.task: asyncio.Task[None] | None = None
        """Serves the connection; cancelled where it has to make room."""
        self._admission = admission

    def admit(self, ae_title: str, quota: Quota | None = None) -> str:
        """Count the visitor as one with an association; where a limit or the quota does not allow that, say which."""
        return self._admission.admit(self, ae_title, quota)

    def release(self) -> None:
        """Count the visitor as one without an association again."""
        self._admission.release(self)


class ConnectionLimiter:
    """Counts the visitors of one server."""

    def __init__(self, limits: ConnectionLimits, counters: Counters, associations: AssociationCounts) -> None:
        self._limits = limits
        self._counters = counters
        self._associations = associations
        self._waiting: dict[ConnectionSlot, None] = {}
        """In the order in which they came."""

    def enter(self, address: str) -> ConnectionSlot:
        """Let a connection in, and have another one make room if there is none."""
        visitor = ConnectionSlot(self, address)
        self._wait(visitor)
        return visitor

    def leave(self, visitor: ConnectionSlot) -> None:
        """Forget a connection that is over."""
        self._end(visitor)
        self._waiting.pop(visitor, None)

    def admit(self, visitor: ConnectionSlot, ae_title: str, quota: Quota | None) -> str:
        """See `Visitor.admit`."""
        for limit, value in _kinds(visitor.host, ae_title):
            number = self._associations.of(limit, value)
            if number >= getattr(self._limits, limit):
                self._counters.limit(limit)
                return f"there are {number} associations {_WHOSE[limit]} already (limit {limit})"
        if quota is not None and (number := self._associations.of(_QUOTA, quota.key)) >= quota.most:
            self._counters.limit("associations")
            return f"there are {number} associations {quota.whose} already (limit associations)"
        self._waiting.pop(visitor, None)
        visitor.ae_title, visitor.quota = ae_title, quota
        self._count(visitor, 1)
        return ""

    def release(self, visitor: ConnectionSlot) -> None:
        """See `Visitor.dismiss`."""
        if self._end(visitor):
            self._wait(visitor)

    def make_room(self) -> bool:
        """Have the oldest connection without an association closed, of the address that has most; give if there is one.

        So one address that opens many keeps none of the others out, however fast it is.
        """
        if not self._waiting:
            return False
        [(crowded, _)] = Counter(visitor.host for visitor in self._waiting).most_common(1)
        oldest = next(visitor for visitor in self._waiting if visitor.host == crowded)
        del self._waiting[oldest]
        self._counters.limit("half_open")
        log.with_peer(oldest.address).info("connection_evicted", limit="half_open")
        if oldest.task is not None:
            oldest.task.cancel()
        return True

    def _wait(self, visitor: ConnectionSlot) -> None:
        if len(self._waiting) >= self._limits.half_open:
            self.make_room()
        self._waiting[visitor] = None

    def _end(self, visitor: ConnectionSlot) -> bool:
        if visitor.ae_title is None:
            return False
        self._count(visitor, -1)
        visitor.ae_title = visitor.quota = None
        return True

    def _count(self, visitor: ConnectionSlot, by: int) -> None:
        for limit, value in _kinds(visitor.host, visitor.ae_title or ""):
            self._associations.change(limit, value, by)
        if visitor.quota is not None:
            self._associations.change(_QUOTA, visitor.quota.key, by)


_QUOTA = "quota"


def _kinds(host: str, ae_title: str) -> tuple[tuple[str, str], ...]:
    """Give the limits that an association counts for, by the name of the field, and whose they are."""
    return ("associations", ""), ("associations_per_address", host), ("associations_per_ae_title", ae_title)


_WHOSE = {
    "associations": "in all",
    "associations_per_address": "from that address",
    "associations_per_ae_title": "with that calling AE title",
}

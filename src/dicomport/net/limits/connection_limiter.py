"""Limits of connections without an association, and of associations.

Peers without an association cannot keep other peers out: at the limit, a new connection closes the oldest of them. An
association is never closed for another; a request above a limit is rejected at once, as transient.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import NamedTuple

from dicomport.logs import get_logger
from dicomport.net.limits.association_counts import AssociationCounts
from dicomport.net.limits.connection_limits import ConnectionLimits
from dicomport.net.limits.counters import Counters

log = get_logger("net")


class Quota(NamedTuple):
    """A limit on the associations of some peers, beside the limits for all."""

    key: str
    """The name under which they are counted."""
    description: str
    """The peers, for messages: "by rule LAB"."""
    maximum: int


class ConnectionSlot:
    """One connection to a server. Without an association, it counts as waiting: for its request or for its end."""

    __slots__ = ("_limiter", "address", "ae_title", "host", "quota", "task")

    def __init__(self, limiter: ConnectionLimiter, address: str) -> None:
        self.address = address
        """The peer's address and port, "192.0.2.7:49152" or "[2001:db8::7]:49152"."""
        self.host = address.rpartition(":")[0].strip("[]")
        """The peer's address alone."""
        self.ae_title: str | None = None
        """The calling AE title during an association."""
        self.quota: Quota | None = None
        """The quota of the association."""
        self.task: asyncio.Task[None] | None = None
        """The task that serves the connection; cancelled if a new connection needs the slot."""
        self._limiter = limiter

    def admit(self, ae_title: str, quota: Quota | None = None) -> str:
        """Count an association and return ""; if a limit or the quota does not allow it, return the reason."""
        return self._limiter.admit(self, ae_title, quota)

    def release(self) -> None:
        """Count the connection as waiting again, after its association."""
        self._limiter.release(self)


class ConnectionLimiter:
    """Counts the connections and associations of one server."""

    def __init__(self, limits: ConnectionLimits, counters: Counters, associations: AssociationCounts) -> None:
        self._limits = limits
        self._counters = counters
        self._associations = associations
        self._waiting: dict[ConnectionSlot, None] = {}
        """In the order of arrival."""

    def add(self, address: str) -> ConnectionSlot:
        """Count a new connection; at the limit, close a waiting one."""
        slot = ConnectionSlot(self, address)
        self._wait(slot)
        return slot

    def remove(self, slot: ConnectionSlot) -> None:
        """Stop counting a closed connection."""
        self._end(slot)
        self._waiting.pop(slot, None)

    def admit(self, slot: ConnectionSlot, ae_title: str, quota: Quota | None) -> str:
        """Count an association, as `ConnectionSlot.admit` describes."""
        for limit, value in _kinds(slot.host, ae_title):
            number = self._associations.of(limit, value)
            if number >= getattr(self._limits, limit):
                self._counters.limit(limit)
                return f"there are {number} associations {_DESCRIPTIONS[limit]} already (limit {limit})"
        if quota is not None and (number := self._associations.of(_QUOTA, quota.key)) >= quota.maximum:
            self._counters.limit("associations")
            return f"there are {number} associations {quota.description} already (limit associations)"
        self._waiting.pop(slot, None)
        slot.ae_title, slot.quota = ae_title, quota
        self._count(slot, 1)
        return ""

    def release(self, slot: ConnectionSlot) -> None:
        """Count the end of an association, as `ConnectionSlot.release` describes."""
        if self._end(slot):
            self._wait(slot)

    def make_room(self) -> bool:
        """Close the oldest waiting connection of the address that has most of them; return whether there was one.

        So one address that opens many connections keeps no other address out, even if it is fast.
        """
        if not self._waiting:
            return False
        [(crowded, _)] = Counter(slot.host for slot in self._waiting).most_common(1)
        oldest = next(slot for slot in self._waiting if slot.host == crowded)
        del self._waiting[oldest]
        self._counters.limit("half_open")
        log.with_peer(oldest.address).info("connection_evicted", limit="half_open")
        if oldest.task is not None:
            oldest.task.cancel()
        return True

    def _wait(self, slot: ConnectionSlot) -> None:
        if len(self._waiting) >= self._limits.half_open:
            self.make_room()
        self._waiting[slot] = None

    def _end(self, slot: ConnectionSlot) -> bool:
        if slot.ae_title is None:
            return False
        self._count(slot, -1)
        slot.ae_title = slot.quota = None
        return True

    def _count(self, slot: ConnectionSlot, by: int) -> None:
        for limit, value in _kinds(slot.host, slot.ae_title or ""):
            self._associations.change(limit, value, by)
        if slot.quota is not None:
            self._associations.change(_QUOTA, slot.quota.key, by)


_QUOTA = "quota"


def _kinds(host: str, ae_title: str) -> tuple[tuple[str, str], ...]:
    """Return the limits that an association counts towards, by the name of the field, each with its value."""
    return ("associations", ""), ("associations_per_address", host), ("associations_per_ae_title", ae_title)


_DESCRIPTIONS = {
    "associations": "in all",
    "associations_per_address": "from that address",
    "associations_per_ae_title": "with that calling AE title",
}

"""Which association each instance goes over, known as soon as the instance is found."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from dicomport.scu.contexts import MAX_CONTEXTS, uncompressed_default
from dicomport.scu.inputs.instance import Instance

__all__ = ["Alternatives", "AssociationPlan", "ContextLoad", "Plan", "QueuedInstance"]

Pair: TypeAlias = tuple[str, str]
"""A SOP Class UID and a transfer syntax UID."""

Alternatives: TypeAlias = Callable[[str], tuple[str, ...]]
"""Gives the transfer syntaxes that are proposed beside an instance's own, in the order of preference."""


@dataclass(slots=True)
class QueuedInstance:
    """One instance on its way."""

    instance: Instance
    attempts: int = 0
    """How often it was sent, whole or in part."""
    since: float = 0.0
    """When it was sent first, on the monotonic clock."""
    lost: bool = False
    """Whether an association was lost with it."""


@dataclass(slots=True)
class ContextLoad:
    """What goes over one Presentation Context."""

    instances: int = 0
    size: int = 0
    """Length of the data sets, bytes."""


@dataclass(slots=True)
class AssociationPlan:
    """The Presentation Contexts of one association, and what waits to go over it or others like it."""

    loads: dict[Pair, ContextLoad] = field(default_factory=dict)
    """The contexts: each has one pair of abstract and transfer syntax, so that no peer can choose a syntax that an
    instance is not in."""
    waiting: deque[QueuedInstance] = field(default_factory=deque)
    sealed: bool = False
    """Whether it was proposed to the peer: from then on no context can be added."""
    open: int = 0
    """Associations that are being asked for or established with these contexts."""


class Plan:
    """Assigns instances to associations, one look-up for each, with as many contexts as an association may have."""

    def __init__(self, alternatives: Alternatives = uncompressed_default) -> None:
        self.associations: list[AssociationPlan] = []
        self._alternatives = alternatives
        self._by_pair: dict[Pair, AssociationPlan] = {}

    def add(self, instance: Instance) -> None:
        """Let an instance wait for its association."""
        pair = (instance.sop_class_uid, instance.transfer_syntax_uid)
        planned = self._by_pair.get(pair)
        if planned is None:
            planned = self._by_pair[pair] = self._with_room(pair)
        load = planned.loads[pair]
        load.instances += 1
        load.size += instance.sent_size
        planned.waiting.append(QueuedInstance(instance))

    def put_back(self, delivery: QueuedInstance) -> None:
        """Let an instance that was not accepted be the next to go."""
        self._by_pair[delivery.instance.sop_class_uid, delivery.instance.transfer_syntax_uid].waiting.appendleft(
            delivery
        )

    def _with_room(self, pair: Pair) -> AssociationPlan:
        """Give the association that takes a new pair of syntaxes."""
        needed = dict.fromkeys((pair, *((pair[0], syntax) for syntax in self._alternatives(pair[1]))))
        latest = self.associations[-1] if self.associations else None
        if latest is None or latest.sealed or len(latest.loads.keys() | needed.keys()) > MAX_CONTEXTS:
            latest = AssociationPlan()
            self.associations.append(latest)
        for one in needed:
            latest.loads.setdefault(one, ContextLoad())
        return latest

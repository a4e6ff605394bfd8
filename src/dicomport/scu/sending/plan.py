"""The plan: the association that sends each instance, known as soon as the instance is found."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import field
from typing import TypeAlias

from dicomport.scu.contexts import MAX_CONTEXTS, uncompressed_default
from dicomport.scu.inputs.instance import Instance
from dicomport.values import slotted

Pair: TypeAlias = tuple[str, str]
"""A SOP Class UID and a transfer syntax UID."""

Alternatives: TypeAlias = Callable[[str], tuple[str, ...]]
"""Returns the transfer syntaxes to propose in addition to an instance's own, in the order of preference."""


@slotted
class QueuedInstance:
    """An instance to send, with its attempts so far."""

    instance: Instance
    attempts: int = 0
    """Number of times that it was sent, completely or in part."""
    since: float = 0.0
    """Time when it was first sent, on the monotonic clock."""
    lost: bool = False
    """Whether an association was lost while it was in flight."""


@slotted
class ContextLoad:
    """The instances planned for one presentation context."""

    instances: int = 0
    size: int = 0
    """Length of the data sets, bytes."""


@slotted
class AssociationPlan:
    """The presentation contexts of one association, and the instances that wait for it or for others like it."""

    contexts: dict[Pair, ContextLoad] = field(default_factory=dict)
    """The contexts. Each proposes one transfer syntax: the peer cannot choose one that the instances are not in."""
    waiting: deque[QueuedInstance] = field(default_factory=deque)
    proposed: bool = False
    """Whether an association was requested with it: from then on, no context can be added."""
    open: int = 0
    """Number of associations that are requested or established with these contexts."""


class Plan:
    """Assigns instances to associations, with as many contexts in each as an association may have."""

    def __init__(self, alternatives: Alternatives = uncompressed_default) -> None:
        self.associations: list[AssociationPlan] = []
        self._alternatives = alternatives
        self._by_pair: dict[Pair, AssociationPlan] = {}

    def add(self, instance: Instance) -> None:
        """Queue an instance for its association."""
        pair = (instance.sop_class_uid, instance.transfer_syntax_uid)
        plan = self._by_pair.get(pair)
        if plan is None:
            plan = self._by_pair[pair] = self._with_room(pair)
        context = plan.contexts[pair]
        context.instances += 1
        context.size += instance.sent_size
        plan.waiting.append(QueuedInstance(instance))

    def requeue(self, queued: QueuedInstance) -> None:
        """Queue an instance again, as the first of its association."""
        instance = queued.instance
        self._by_pair[instance.sop_class_uid, instance.transfer_syntax_uid].waiting.appendleft(queued)

    def _with_room(self, pair: Pair) -> AssociationPlan:
        """Return the association for a new pair of syntaxes, with the contexts that the pair needs."""
        needed = dict.fromkeys((pair, *((pair[0], syntax) for syntax in self._alternatives(pair[1]))))
        latest = self.associations[-1] if self.associations else None
        if latest is None or latest.proposed or len(latest.contexts.keys() | needed.keys()) > MAX_CONTEXTS:
            latest = AssociationPlan()
            self.associations.append(latest)
        for one in needed:
            latest.contexts.setdefault(one, ContextLoad())
        return latest

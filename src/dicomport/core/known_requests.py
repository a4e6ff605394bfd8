"""Association requests that a server has decoded and answered before.

Requestors repeat their requests byte for byte. A server remembers some: the decoded request, the deviations found in
it, and the last negotiation with its encoded reply. All of these follow from the bytes of the request, the limits of
decoding and the policy. Anything else, such as the rules for peers, the limits of associations and the user identity,
is checked for each request.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final

from dicomport.core.negotiation import AcceptorPolicy, Negotiation, negotiate
from dicomport.wire import (
    DEFAULT_PROTOCOL_LIMITS,
    AssociateRQ,
    Deviation,
    Pdu,
    ProtocolLimits,
    UserIdentityAC,
    decode,
)

_MAX_REQUESTS: Final = 64
"""Maximum requests that are remembered: those of the peers that send often. The one unused for longest is dropped."""

_MAX_BYTES: Final = 1 << 18
"""Maximum length in bytes of all of them together: a decoded request takes some times its length."""

_MAX_REQUEST_BYTES: Final = 1 << 15
"""Maximum length in bytes of each: 128 presentation contexts take 25 KB."""


class _Known:
    """A request, and its last negotiation: the policy by identity, the result, and the deviations found by it."""

    __slots__ = ("deviations", "found", "negotiation", "policy", "request")

    def __init__(self, request: AssociateRQ, deviations: Counter[Deviation]) -> None:
        self.request = request
        self.deviations = deviations
        self.policy: AcceptorPolicy | None = None
        self.negotiation: Negotiation | None = None
        self.found: Counter[Deviation] = Counter()


class KnownRequests:
    """The requests that one server remembers. It has no lock: only the server's event loop uses it."""

    def __init__(self, limits: ProtocolLimits = DEFAULT_PROTOCOL_LIMITS) -> None:
        self.decoded = 0
        """Number of requests that were decoded."""
        self.negotiated = 0
        """Number of requests that were negotiated."""
        self._limits = limits
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._by_request: dict[int, _Known] = {}
        """The same by the identity of the request, which is alive as long as it is in here."""
        self._bytes = 0

    def decode(self, data: bytes, notes: Counter[Deviation]) -> Pdu:
        """Return the PDU, as `wire.decode` does; an A-ASSOCIATE-RQ that is known is not decoded again."""
        known = self._known.get(data)
        if known is not None:
            self._known.move_to_end(data)
            notes.update(known.deviations)
            return known.request
        self.decoded += 1
        deviations: Counter[Deviation] = Counter()
        try:
            request = decode(data, limits=self._limits, notes=deviations)
        finally:
            notes.update(deviations)
        # A password is not kept for longer than its association.
        if isinstance(request, AssociateRQ) and request.user_information.user_identity is None:
            self._remember(data, _Known(request, deviations))
        return request

    def negotiate(
        self,
        request: AssociateRQ,
        policy: AcceptorPolicy,
        notes: Counter[Deviation] | None = None,
        *,
        user_identity_response: UserIdentityAC | None = None,
    ) -> Negotiation:
        """Return the negotiation, as `core.negotiate` does; the last one of a known request is not done again.

        That needs a `policy.is_constant`.
        """
        notes = Counter() if notes is None else notes
        known = self._by_request.get(id(request)) if policy.is_constant and user_identity_response is None else None
        if known is not None and known.policy is policy and known.negotiation is not None:
            notes.update(known.found)
            return known.negotiation
        self.negotiated += 1
        found: Counter[Deviation] = Counter()
        try:
            negotiation = negotiate(request, policy, found, user_identity_response=user_identity_response)
        finally:
            notes.update(found)
        if known is not None:
            negotiation = negotiation._replace(encoded=negotiation.reply.encode())
            known.policy, known.negotiation, known.found = policy, negotiation, found
        return negotiation

    def _remember(self, data: bytes, known: _Known) -> None:
        if len(data) > _MAX_REQUEST_BYTES:
            return
        self._known[data] = self._by_request[id(known.request)] = known
        self._bytes += len(data)
        while len(self._known) > _MAX_REQUESTS or self._bytes > _MAX_BYTES:
            dropped, old = self._known.popitem(last=False)
            del self._by_request[id(old.request)]
            self._bytes -= len(dropped)

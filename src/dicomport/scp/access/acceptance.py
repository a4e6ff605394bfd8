"""The answer to a request for an association: who may connect, who the user is, and then what is agreed on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dicomport.core import AcceptorPolicy, Negotiation, negotiate
from dicomport.net import ConnectionSlot, Quota
from dicomport.scp.access.peers import PeerRule, Rejection, certificate_names, match_rule
from dicomport.scp.access.user_identity import UserIdentities
from dicomport.scp.requests import AssociationInfo
from dicomport.wire import AssociateRJ, AssociateRQ, Deviation, RejectReason, UserIdentityAC, UserIdentityRQ

__all__ = ["AccessControl"]


class AccessControl:
    """Lets requestors in by the rules of an SCP."""

    def __init__(self, peers: Sequence[PeerRule], identities: UserIdentities | None, policy: AcceptorPolicy) -> None:
        self._peers = peers
        self._identities = identities
        self._policy = policy
        self._quotas = {
            id(peer): Quota(str(number), f"by rule {peer.rule}", peer.associations)
            for number, peer in enumerate(peers)
            if peer.associations is not None
        }
        """By the identity of the rule: two may be equal."""

    async def answer(
        self, request: AssociateRQ, association: AssociationInfo, slot: ConnectionSlot, notes: Counter[Deviation]
    ) -> tuple[PeerRule, Negotiation]:
        """Give the rule that the requestor falls under, and the answer. `notes` counts tolerated deviations."""
        names = certificate_names(association.tls_certificate, association.tls_fingerprint)
        peer = match_rule(self._peers, request, association.host.strip("[]"), names)
        if isinstance(peer, Rejection):
            return _NOBODY, peer.negotiation
        # Before anything is done for the peer that takes long.
        if too_many := slot.admit(request.calling_ae_title, self._quotas.get(id(peer))):
            return peer, Negotiation(_NO_MORE, None, too_many)
        response = await self._identify(request.user_information.user_identity, association, peer)
        if isinstance(response, Rejection):
            return peer, response.negotiation
        return peer, negotiate(request, peer.policy(self._policy), notes, user_identity_response=response)

    async def _identify(
        self, identity: UserIdentityRQ | None, association: AssociationInfo, peer: PeerRule
    ) -> UserIdentityAC | Rejection | None:
        return None if self._identities is None else await self._identities.authenticate(identity, association, peer)


_NOBODY = PeerRule()
_NO_MORE = AssociateRJ(RejectReason.LOCAL_LIMIT_EXCEEDED, transient=True)

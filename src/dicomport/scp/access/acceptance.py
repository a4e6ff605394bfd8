"""The response to an association request: the rule for the peer, its limit, the user identity, then negotiation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dicomport.core import AcceptorPolicy, Negotiation, negotiate
from dicomport.net import ConnectionSlot, Quota
from dicomport.scp.access.peers import PeerRule, Rejection, certificate_names, match_rule
from dicomport.scp.access.user_identity import UserIdentityAuthenticator
from dicomport.scp.requests import AssociationInfo
from dicomport.wire import AssociateRJ, AssociateRQ, Deviation, RejectReason, UserIdentityAC, UserIdentityRQ


class AccessControl:
    """Accepts and rejects association requests by the rules of a server."""

    def __init__(
        self, rules: Sequence[PeerRule], user_identity: UserIdentityAuthenticator | None, policy: AcceptorPolicy
    ) -> None:
        self._rules = rules
        self._user_identity = user_identity
        self._policy = policy
        self._quotas = {
            id(rule): Quota(str(number), f"by rule {rule.rule}", rule.associations)
            for number, rule in enumerate(rules)
            if rule.associations is not None
        }
        """Quotas by `id` of the rule, because two rules may be equal."""

    async def answer(
        self, request: AssociateRQ, association: AssociationInfo, slot: ConnectionSlot, deviations: Counter[Deviation]
    ) -> tuple[PeerRule, Negotiation]:
        """Return the first rule that matches the peer, and the response. `deviations` counts tolerated deviations."""
        names = certificate_names(association.tls_certificate, association.tls_fingerprint)
        rule = match_rule(self._rules, request, association.host.strip("[]"), names)
        if isinstance(rule, Rejection):
            return _NO_RULE, rule.negotiation
        # The check of the user identity may be expensive: check the limits first.
        if exceeded := slot.admit(request.calling_ae_title, self._quotas.get(id(rule))):
            return rule, Negotiation(_LIMIT_EXCEEDED, None, exceeded)
        response = await self._authenticate(request.user_information.user_identity, association, rule)
        if isinstance(response, Rejection):
            return rule, response.negotiation
        return rule, negotiate(request, rule.policy(self._policy), deviations, user_identity_response=response)

    async def _authenticate(
        self, identity: UserIdentityRQ | None, association: AssociationInfo, rule: PeerRule
    ) -> UserIdentityAC | Rejection | None:
        if self._user_identity is None:
            return None
        return await self._user_identity.authenticate(identity, association, rule)


_NO_RULE = PeerRule()
_LIMIT_EXCEEDED = AssociateRJ(RejectReason.LOCAL_LIMIT_EXCEEDED, transient=True)

"""The response to an association request: the rule for the peer, its limit, the user identity, then negotiation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dicomport.containment import as_exception
from dicomport.core import AcceptorPolicy, KnownRequests, Negotiation
from dicomport.logs import get_logger
from dicomport.net import ConnectionSlot, Quota
from dicomport.scp.access.peers import PeerRule, Rejection, certificate_names, match_rule
from dicomport.scp.access.user_identity import UserIdentityAuthenticator
from dicomport.scp.requests import AssociationInfo
from dicomport.wire import AssociateRJ, AssociateRQ, Deviation, RejectReason, UserIdentityAC


class _Rules:
    """The rules at one time; a reload replaces all of them at once."""

    def __init__(
        self, rules: Sequence[PeerRule], user_identity: UserIdentityAuthenticator | None, policy: AcceptorPolicy
    ) -> None:
        self.rules = rules
        self.policies = {id(rule): rule.policy(policy) for rule in rules}
        """The server's policy with the restrictions of each rule, by its `id` as below."""
        self.user_identity = user_identity
        self.quotas: dict[int, Quota] = {}
        """Quotas by `id` of the rule, because two rules may be equal."""
        names: Counter[str] = Counter()
        for rule in rules:
            names[rule.rule] += 1
            if rule.associations is not None:
                # The key is not the rule's position: after a reload, the rule still counts its open associations.
                key = f"{rule.rule} {names[rule.rule]}"
                self.quotas[id(rule)] = Quota(key, f"by rule {rule.rule}", rule.associations)


class AccessControl:
    """Accepts and rejects association requests by the rules of a server."""

    def __init__(
        self,
        rules: Sequence[PeerRule],
        user_identity: UserIdentityAuthenticator | None,
        policy: AcceptorPolicy,
        known_requests: KnownRequests,
    ) -> None:
        self._current = _Rules(rules, user_identity, policy)
        self._policy = policy
        self._known_requests = known_requests

    def reload(self, rules: Sequence[PeerRule], user_identity: UserIdentityAuthenticator | None) -> None:
        """Use other rules for later requests; each request is answered by the rules of one time."""
        self._current = _Rules(rules, user_identity, self._policy)

    async def answer(
        self, request: AssociateRQ, association: AssociationInfo, slot: ConnectionSlot, deviations: Counter[Deviation]
    ) -> tuple[PeerRule, Negotiation]:
        """Return the first rule that matches the peer, and the response. `deviations` counts tolerated deviations."""
        current = self._current
        names = certificate_names(association.tls_certificate, association.tls_fingerprint)
        rule = match_rule(current.rules, request, association.host.strip("[]"), names)
        if isinstance(rule, Rejection):
            return _NO_RULE, rule.negotiation
        # The check of the user identity may be expensive: check the limits first.
        if exceeded := slot.admit(request.calling_ae_title, current.quotas.get(id(rule))):
            return rule, Negotiation(_LIMIT_EXCEEDED, None, exceeded)
        response: UserIdentityAC | Rejection | None = None
        if current.user_identity is not None:
            identity = request.user_information.user_identity
            response = await current.user_identity.authenticate(identity, association, rule)
        if isinstance(response, Rejection):
            return rule, response.negotiation
        try:
            return rule, self._known_requests.negotiate(
                request, current.policies[id(rule)], deviations, user_identity_response=response
            )
        except BaseException as error:  # noqa: BLE001  # the policy calls `abstract_syntaxes`, which is the user's code
            log.with_peer(association.address).error("abstract_syntaxes_raised", exc_info=as_exception(error))
            return rule, _NOT_NEGOTIATED


log = get_logger("scp")

_NO_RULE = PeerRule()
_LIMIT_EXCEEDED = AssociateRJ(RejectReason.LOCAL_LIMIT_EXCEEDED, transient=True)
_NOT_NEGOTIATED = Negotiation(
    AssociateRJ(RejectReason.TEMPORARY_CONGESTION, transient=True), None, "abstract_syntaxes raised an exception"
)

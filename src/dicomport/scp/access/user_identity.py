"""Checking the user identity of a requestor before the association is negotiated (PS3.7 D.3.3.7)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

from dicomport.logs import get_logger
from dicomport.scp.access.peers import PeerRule, Rejection
from dicomport.scp.callbacks import call
from dicomport.scp.requests import AssociationInfo
from dicomport.wire import RejectReason, UserIdentityAC, UserIdentityRQ

UserIdentityCheck: TypeAlias = Callable[
    [UserIdentityRQ, AssociationInfo], UserIdentityAC | Awaitable[UserIdentityAC | None] | None
]
"""A function that returns the response to a valid identity, and None for an invalid one.

It is a coroutine function, or it is called in a thread and may block. The response is empty for types 1 and 2; for the
other types, it is a ticket, an assertion or a token. It is sent if the requestor asks for it (PS3.7 D.3.3.7.2)."""

_MAX_THREADS: Final = 2
"""Checks at the same time. The check of a password needs some memory, and any peer can cause it."""

log = get_logger("scp")


class UserIdentityAuthenticator:
    """Checks the user identities of association requests with the user's function."""

    def __init__(self, check: UserIdentityCheck, seconds: float) -> None:
        """Reject a request if `check` takes longer than `seconds`."""
        self._check = check
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(_MAX_THREADS, "dicomport-identity")

    async def authenticate(
        self, identity: UserIdentityRQ | None, association: AssociationInfo, rule: PeerRule
    ) -> UserIdentityAC | Rejection | None:
        """Return the response to a valid identity, a rejection, or None if the identity is absent and not required."""
        if identity is None:
            return (
                _rejection("the request has no user identity, which its rule requires")
                if rule.user_identity_required
                else None
            )
        reason = f"user identity of type {identity.identity_type} is not accepted"
        try:
            async with asyncio.timeout(self._seconds):
                response = await call(self._check, self._threads, identity, association)
        except TimeoutError:
            return _rejection(f"{reason}: the check took longer than {self._seconds:g} s")
        except Exception as error:  # noqa: BLE001  # the user's code; an identity that it could not check is rejected
            # The text and the traceback may quote the secrets: log the type alone.
            peer_log = log.with_peer(association.address)
            peer_log.error("identity_check_raised", error=type(error).__name__)
            return _rejection(reason)
        return response if isinstance(response, UserIdentityAC) else _rejection(reason)


def _rejection(reason: str) -> Rejection:
    # PS3.7 D.3.3.7.3: the provider's ACSE function rejects, without a reason.
    return Rejection(RejectReason.ACSE_NO_REASON, reason)

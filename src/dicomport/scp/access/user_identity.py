"""Checking who the requestor's user is, before the association is negotiated (PS3.7 D.3.3.7)."""

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

__all__ = ["UserIdentities", "UserIdentityCheck"]

UserIdentityCheck: TypeAlias = Callable[
    [UserIdentityRQ, AssociationInfo], UserIdentityAC | Awaitable[UserIdentityAC | None] | None
]
"""A function or a coroutine function. It gives the response for an identity that is good, None for any other.

A function that is no coroutine function is called in a thread, and may block. The response is empty for types 1 and 2,
a ticket, an assertion or a token for the others, and sent where the requestor has asked for it (PS3.7 D.3.3.7.2)."""

_MAX_THREADS: Final = 2
"""Checks that run at the same time: a pass phrase takes some memory, and anybody may try one."""

log = get_logger("scp")


class UserIdentities:
    """Holds requests against a check of user identities."""

    def __init__(self, check: UserIdentityCheck, seconds: float) -> None:
        """Refuse whoever's check has not ended within so many seconds."""
        self._check = check
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(_MAX_THREADS, "dicomport-identity")

    async def authenticate(
        self, identity: UserIdentityRQ | None, association: AssociationInfo, peer: PeerRule
    ) -> UserIdentityAC | Rejection | None:
        """Give the response for a good identity, a refusal for any other, and None where there is and need be none."""
        if identity is None:
            return _refusal("it gives no user identity, and has to") if peer.user_identity_required else None
        kind = f"its user identity, of type {identity.identity_type}, is not accepted"
        try:
            async with asyncio.timeout(self._seconds):
                response = await call(self._check, self._threads, identity, association)
        except TimeoutError:
            return _refusal(f"{kind}: the check took longer than {self._seconds:g} s")
        except Exception as error:  # noqa: BLE001  # it is the user's code, and whom it could not check is not let in
            # Neither its text nor its traceback: they may quote the secrets.
            peer_log = log.with_peer(association.address)
            peer_log.error("identity_check_raised", error=type(error).__name__)
            return _refusal(kind)
        return response if isinstance(response, UserIdentityAC) else _refusal(kind)


def _refusal(why: str) -> Rejection:
    # PS3.7 D.3.3.7.3: the provider's ACSE function rejects, without a reason.
    return Rejection(RejectReason.ACSE_NO_REASON, why)

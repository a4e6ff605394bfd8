"""Checking the user identity of a requestor before the association is negotiated (PS3.7 D.3.3.7)."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from dicomport.containment import raised_class
from dicomport.logs import get_logger
from dicomport.net import Counters
from dicomport.scp.access.peers import PeerRule, Rejection
from dicomport.scp.access.threads import FairThreads
from dicomport.scp.callbacks import call
from dicomport.scp.requests import AssociationInfo
from dicomport.wire import RejectReason, UserIdentityAC, UserIdentityRQ

UserIdentityCheck: TypeAlias = Callable[
    [UserIdentityRQ, AssociationInfo], UserIdentityAC | Awaitable[UserIdentityAC | None] | None
]
"""A function that returns the response to a valid identity, and None for an invalid one.

It is a coroutine function, or it is called in a thread and may block. The response is empty for types 1 and 2; for the
other types, it is a ticket, an assertion or a token. It is sent if the requestor asks for it (PS3.7 D.3.3.7.2)."""

_MAX_THREADS: Final = 3
"""Checks at the same time. The check of a password needs 16 MiB of memory, and any peer can cause it."""

_MAX_THREADS_PER_ADDRESS: Final = 2
"""Checks of one address at the same time: one that blocks for long does not block all users behind a gateway."""

log = get_logger("scp")


class UserIdentityAuthenticator:
    """Checks the user identities of association requests with the user's function.

    A peer whose identity was not checked in time is rejected as transient, because its identity may be valid
    (PS3.8 9.3.4); a peer with an invalid identity is rejected as permanent (PS3.7 D.3.3.7.3).
    """

    def __init__(self, check: UserIdentityCheck, seconds: float, per_address: int, counters: Counters) -> None:
        """Reject a request if `check` takes longer than `seconds`, or if its address has `per_address` checks."""
        self._check = check
        self._seconds = seconds
        self._per_address = per_address
        self._counters = counters
        self._threads = FairThreads(_MAX_THREADS, _MAX_THREADS_PER_ADDRESS, "dicomport-identity")
        self._checking: Counter[str] = Counter()
        """Checks that run or wait, by address."""

    async def authenticate(
        self, identity: UserIdentityRQ | None, association: AssociationInfo, rule: PeerRule
    ) -> UserIdentityAC | Rejection | None:
        """Return the response to a valid identity, a rejection, or None if the identity is absent and not required."""
        if identity is None:
            return (
                _invalid("the request has no user identity, which its rule requires")
                if rule.user_identity_required
                else None
            )
        host = association.host
        if self._checking[host] >= self._per_address:
            self._counters.limit("identity_checks_per_address")
            text = f"{self._per_address} user identities from that address are being checked already"
            return Rejection(
                RejectReason.LOCAL_LIMIT_EXCEEDED, f"{text} (limit identity_checks_per_address)", transient=True
            )
        self._checking[host] += 1
        try:
            return await self._examine(identity, association)
        finally:
            self._checking[host] -= 1
            if not self._checking[host]:
                del self._checking[host]

    async def _examine(self, identity: UserIdentityRQ, association: AssociationInfo) -> UserIdentityAC | Rejection:
        hint = _HINTS.get(identity.identity_type, "")
        reason = f"user identity of type {identity.identity_type} is not accepted{hint}"
        response: object = None
        error: Exception | None = None
        # The wait for a thread counts, because the peer waits all the time.
        deadline = asyncio.timeout(self._seconds)
        try:
            async with deadline:
                in_thread = functools.partial(self._threads.call, association.host)
                response = await call(self._check, in_thread, identity, association)
        except Exception as raised:  # noqa: BLE001  # the user's code; an identity that it could not check is rejected
            error = raised
        if deadline.expired():
            text = f"the user identity was not checked within {self._seconds:g} s"
            return Rejection(RejectReason.TEMPORARY_CONGESTION, text, transient=True)
        if error is not None:
            # The text and the traceback may quote the secrets: log the type alone.
            peer_log = log.with_peer(association.address)
            peer_log.error("identity_check_raised", error=raised_class(error))
        return response if isinstance(response, UserIdentityAC) else _invalid(reason)


_HINTS: Final = {
    1: ": it has no password; send type 2, a user name and password",
    2: ": unknown user or wrong password",
}
"""Hints by type of identity (PS3.7 D.3.3.7.1)."""


def _invalid(reason: str) -> Rejection:
    # PS3.7 D.3.3.7.3: the provider's ACSE function rejects, without a reason.
    return Rejection(RejectReason.ACSE_NO_REASON, reason)

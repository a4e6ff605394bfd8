"""What the core tells its user."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from dicomport.core.negotiation import AcceptedContext, NegotiationResult
from dicomport.wire import (
    AbortReason,
    AssociateRJ,
    AssociateRQ,
    Buffer,
    Command,
    CommandError,
    RawCommand,
)

__all__ = [
    "Aborted",
    "AssociationAccepted",
    "AssociationRejected",
    "AssociationRequested",
    "CommandMalformed",
    "CommandReceived",
    "ConnectionLost",
    "CoreEvent",
    "DataReceived",
    "ReleaseConfirmed",
    "ReleaseRequested",
]


class AssociationRequested(NamedTuple):
    """A peer asks for an association: answer with `accept` or `reject`."""

    request: AssociateRQ


class AssociationAccepted(NamedTuple):
    """The peer accepted; `outcome` says what of."""

    outcome: NegotiationResult


class AssociationRejected(NamedTuple):
    """The peer rejected the association; the transport connection closes."""

    rejection: AssociateRJ


class CommandReceived(NamedTuple):
    """A whole command set. Where it says that a data set follows, `DataReceived` events come next."""

    context: AcceptedContext
    command: Command | RawCommand


class CommandMalformed(NamedTuple):
    """A whole command set with an element missing or malformed, to be refused once its data set, if any, is over."""

    context: AcceptedContext
    error: CommandError


class DataReceived(NamedTuple):
    """Some bytes of a data set. The view is of the receive buffer: it is dead once the core is fed again."""

    data: Buffer
    last: bool


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    """The peer asks for the release: answer with `confirm_release`, after what is still to be sent."""


@dataclass(frozen=True, slots=True)
class ReleaseConfirmed:
    """The peer confirmed the release."""


class Aborted(NamedTuple):
    """The association was aborted, by the peer or, because of what the peer sent, by this side."""

    reason: AbortReason
    by_peer: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """The transport connection closed with the association still there."""

    error: Exception | None = field(default=None, compare=False)
    """What ended it, as the driver has it; None where the peer closed it in good order."""


CoreEvent: TypeAlias = (
    AssociationRequested
    | AssociationAccepted
    | AssociationRejected
    | CommandReceived
    | CommandMalformed
    | DataReceived
    | ReleaseRequested
    | ReleaseConfirmed
    | Aborted
    | ConnectionLost
)
"""Any of them."""

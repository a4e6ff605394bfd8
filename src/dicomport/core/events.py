"""The events that the core returns to its user."""

from __future__ import annotations

from dataclasses import field
from typing import NamedTuple, TypeAlias

from dicomport.core.negotiation import AcceptedContext, NegotiationResult
from dicomport.values import frozen
from dicomport.wire import (
    AbortReason,
    AssociateRJ,
    AssociateRQ,
    Buffer,
    Command,
    CommandError,
    RawCommand,
)


class AssociationRequested(NamedTuple):
    """A peer requests an association: answer with `Association.answer`."""

    request: AssociateRQ


class AssociationAccepted(NamedTuple):
    """The peer accepted the association; `outcome` has the accepted contexts and parameters."""

    outcome: NegotiationResult


class AssociationRejected(NamedTuple):
    """The peer rejected the association; the transport connection closes."""

    rejection: AssociateRJ


class CommandReceived(NamedTuple):
    """A complete command set. If it announces a data set, `DataReceived` events follow."""

    context: AcceptedContext
    command: Command | RawCommand


class CommandMalformed(NamedTuple):
    """A complete command set with a missing or malformed element. Refuse it after its data set, if any."""

    context: AcceptedContext
    error: CommandError


class DataReceived(NamedTuple):
    """Some bytes of a data set: a view of the receive buffer, valid until the core receives more bytes."""

    data: Buffer
    last: bool


@frozen
class ReleaseRequested:
    """The peer requests the release: answer with `confirm_release` after all pending responses."""


@frozen
class ReleaseConfirmed:
    """The peer confirmed the release."""


class Aborted(NamedTuple):
    """The association was aborted by the peer, or by this side because the peer violated the protocol."""

    reason: AbortReason
    by_peer: bool
    detail: str = ""


@frozen
class ConnectionLost:
    """The transport connection was closed during the association."""

    error: Exception | None = field(default=None, compare=False)
    """The driver's error; None if the peer closed the connection without one."""


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
"""Any event of the core."""

"""One side of one association, without I/O: the state machine, negotiation, DIMSE messages.

The package imports no socket, clock, thread or file. Its interface is `Association`.
"""

from dicomport.core.association import Association, Role
from dicomport.core.errors import StateError
from dicomport.core.events import (
    Aborted,
    AssociationAccepted,
    AssociationRejected,
    AssociationRequested,
    CommandMalformed,
    CommandReceived,
    ConnectionLost,
    CoreEvent,
    DataReceived,
    ReleaseConfirmed,
    ReleaseRequested,
)
from dicomport.core.negotiation import (
    DEFAULT_MAXIMUM_LENGTH,
    IMPLEMENTATION,
    AcceptedContext,
    AcceptorPolicy,
    ContextOutcome,
    ImplementationInfo,
    Negotiation,
    NegotiationResult,
    negotiate,
    resolve_reply,
)
from dicomport.core.states import TRANSITIONS, Action, Event, State

__all__ = [
    "DEFAULT_MAXIMUM_LENGTH",
    "IMPLEMENTATION",
    "TRANSITIONS",
    "Aborted",
    "AcceptedContext",
    "AcceptorPolicy",
    "Action",
    "Association",
    "AssociationAccepted",
    "AssociationRejected",
    "AssociationRequested",
    "CommandMalformed",
    "CommandReceived",
    "ConnectionLost",
    "ContextOutcome",
    "CoreEvent",
    "DataReceived",
    "Event",
    "ImplementationInfo",
    "Negotiation",
    "NegotiationResult",
    "ReleaseConfirmed",
    "ReleaseRequested",
    "Role",
    "State",
    "StateError",
    "negotiate",
    "resolve_reply",
]

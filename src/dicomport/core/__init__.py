"""One side of one association, without I/O: the state machine, negotiation, DIMSE messages.

The package imports no socket, clock, thread or file. Its interface is `Association`.
"""

from dicomport.core.association import Association as Association, Role as Role
from dicomport.core.errors import StateError as StateError
from dicomport.core.events import (
    Aborted as Aborted,
    AssociationAccepted as AssociationAccepted,
    AssociationRejected as AssociationRejected,
    AssociationRequested as AssociationRequested,
    CommandMalformed as CommandMalformed,
    CommandReceived as CommandReceived,
    ConnectionLost as ConnectionLost,
    CoreEvent as CoreEvent,
    DataReceived as DataReceived,
    ReleaseConfirmed as ReleaseConfirmed,
    ReleaseRequested as ReleaseRequested,
)
from dicomport.core.known_requests import KnownRequests as KnownRequests
from dicomport.core.negotiation import (
    DEFAULT_MAXIMUM_LENGTH as DEFAULT_MAXIMUM_LENGTH,
    IMPLEMENTATION as IMPLEMENTATION,
    AcceptedContext as AcceptedContext,
    AcceptorPolicy as AcceptorPolicy,
    ContextOutcome as ContextOutcome,
    ImplementationInfo as ImplementationInfo,
    Negotiation as Negotiation,
    NegotiationResult as NegotiationResult,
    negotiate as negotiate,
    resolve_reply as resolve_reply,
)
from dicomport.core.states import TRANSITIONS as TRANSITIONS, Action as Action, Event as Event, State as State

"""One side of one association, without I/O: the state machine, negotiation, DIMSE messages.

The package imports no socket, clock, thread or file. Its interface is `Association`.
"""

from dicomport.core import association, events, states
from dicomport.core.association import *
from dicomport.core.errors import StateError
from dicomport.core.events import *
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
from dicomport.core.states import *

__all__ = [
    "DEFAULT_MAXIMUM_LENGTH",
    "IMPLEMENTATION",
    "AcceptedContext",
    "AcceptorPolicy",
    "ContextOutcome",
    "ImplementationInfo",
    "Negotiation",
    "NegotiationResult",
    "StateError",
    "negotiate",
    "resolve_reply",
]
__all__ += events.__all__
__all__ += states.__all__
__all__ += association.__all__

"""Encode and decode PDUs, command sets and File Meta Information as frozen values.

The package imports no socket, file or clock. Decoding raises only `ProtocolError` (or `FileMetaError`). The data sets
of storage commitment are in `commitment`, which a plain sender does not import, to start faster.
"""

from dicomport.wire import commands, errors, filemeta, pdus
from dicomport.wire.command_sets import CommandError, Element, RawCommand
from dicomport.wire.commands import *
from dicomport.wire.cursor import Buffer
from dicomport.wire.deviations import Deviation
from dicomport.wire.errors import *
from dicomport.wire.filemeta import *
from dicomport.wire.items import (
    APPLICATION_CONTEXT,
    AsynchronousOperationsWindow,
    ContextResult,
    PresentationContextAC,
    PresentationContextRQ,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UnknownItem,
    UserIdentityAC,
    UserIdentityRQ,
    UserInformation,
)
from dicomport.wire.limits import DEFAULT_PROTOCOL_LIMITS, ProtocolLimits
from dicomport.wire.pdus import *
from dicomport.wire.protocol_guess import FOREIGN_BYTES, guess_protocol

__all__ = [
    "APPLICATION_CONTEXT",
    "DEFAULT_PROTOCOL_LIMITS",
    "FOREIGN_BYTES",
    "AsynchronousOperationsWindow",
    "Buffer",
    "CommandError",
    "ContextResult",
    "Deviation",
    "Element",
    "PresentationContextAC",
    "PresentationContextRQ",
    "ProtocolLimits",
    "RawCommand",
    "RoleSelection",
    "SOPClassCommonExtendedNegotiation",
    "SOPClassExtendedNegotiation",
    "UnknownItem",
    "UserIdentityAC",
    "UserIdentityRQ",
    "UserInformation",
    "guess_protocol",
]
__all__ += commands.__all__
__all__ += errors.__all__
__all__ += filemeta.__all__
__all__ += pdus.__all__

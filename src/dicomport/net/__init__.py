"""Sockets around the core: streams, asyncio and blocking runners, timers, connecting and listening."""

from dicomport.net.blocking import BlockingConnection, connect_blocking
from dicomport.net.connecting import Address, Endpoint, FailedAttempt, connect, reach, resolve, secure
from dicomport.net.connection import Connection
from dicomport.net.errors import (
    AbortedError,
    AssociationError,
    ConnectError,
    ConnectionLostError,
    RejectedError,
    TimerExpiredError,
)
from dicomport.net.generators import FLUSH, Flush, Steps, next_event
from dicomport.net.limits.association_counts import AssociationCounts, SharedCounts
from dicomport.net.limits.connection_limiter import ConnectionSlot, Quota
from dicomport.net.limits.connection_limits import ConnectionLimits
from dicomport.net.limits.counters import Counters
from dicomport.net.limits.descriptors import allow_descriptors
from dicomport.net.listener import Listener, listening_sockets
from dicomport.net.pdu_log import association
from dicomport.net.stream import Stream
from dicomport.net.timers import Deadline, Timeouts, Timer
from dicomport.net.tls.contexts import TLSProfile, tls_client_context, tls_server_context
from dicomport.net.tls.handshake import NotTLSError, describe_tls_error, tls_error_name

__all__ = [
    "FLUSH",
    "AbortedError",
    "Address",
    "AssociationCounts",
    "AssociationError",
    "BlockingConnection",
    "ConnectError",
    "Connection",
    "ConnectionLimits",
    "ConnectionLostError",
    "ConnectionSlot",
    "Counters",
    "Deadline",
    "Endpoint",
    "FailedAttempt",
    "Flush",
    "Listener",
    "NotTLSError",
    "Quota",
    "RejectedError",
    "SharedCounts",
    "Steps",
    "Stream",
    "TLSProfile",
    "Timeouts",
    "Timer",
    "TimerExpiredError",
    "allow_descriptors",
    "association",
    "connect",
    "connect_blocking",
    "describe_tls_error",
    "listening_sockets",
    "next_event",
    "reach",
    "resolve",
    "secure",
    "tls_client_context",
    "tls_error_name",
    "tls_server_context",
]

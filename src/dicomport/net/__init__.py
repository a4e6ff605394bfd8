"""Sockets around the core: streams, asyncio and blocking runners, timers, connecting and listening."""

from dicomport.net.blocking import BlockingConnection as BlockingConnection, connect_blocking as connect_blocking
from dicomport.net.connecting import (
    Address as Address,
    Endpoint as Endpoint,
    FailedAttempt as FailedAttempt,
    connect as connect,
    reach as reach,
    resolve as resolve,
    secure as secure,
)
from dicomport.net.connection import Connection as Connection
from dicomport.net.errors import (
    AbortedError as AbortedError,
    AssociationError as AssociationError,
    ConnectError as ConnectError,
    ConnectionLostError as ConnectionLostError,
    RejectedError as RejectedError,
    TimerExpiredError as TimerExpiredError,
)
from dicomport.net.generators import FLUSH as FLUSH, Flush as Flush, Steps as Steps, next_event as next_event
from dicomport.net.limits.association_counts import AssociationCounts as AssociationCounts, SharedCounts as SharedCounts
from dicomport.net.limits.connection_limiter import ConnectionSlot as ConnectionSlot, Quota as Quota
from dicomport.net.limits.connection_limits import ConnectionLimits as ConnectionLimits
from dicomport.net.limits.counters import Counters as Counters
from dicomport.net.limits.descriptors import allow_descriptors as allow_descriptors
from dicomport.net.limits.turns import FairTurns as FairTurns
from dicomport.net.listener import Listener as Listener, listening_sockets as listening_sockets
from dicomport.net.pdu_log import create_association as create_association
from dicomport.net.stream import Stream as Stream
from dicomport.net.timers import Deadline as Deadline, Timeouts as Timeouts, Timer as Timer
from dicomport.net.tls.contexts import (
    TLSProfile as TLSProfile,
    client_context as client_context,
    server_context as server_context,
    tls_client_context as tls_client_context,
    tls_server_context as tls_server_context,
)
from dicomport.net.tls.files import TLSFiles as TLSFiles
from dicomport.net.tls.handshake import (
    NotTLSError as NotTLSError,
    describe_tls_error as describe_tls_error,
    tls_error_name as tls_error_name,
)

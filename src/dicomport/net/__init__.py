"""Sockets around the core: streams, runners for asyncio and for blocking programs, timers, dialling and listening."""

from dicomport.net.blocking import BlockingConnection, connect_blocking
from dicomport.net.connection import Connection
from dicomport.net.dialling import Address, connect
from dicomport.net.errors import (
    AbortedError,
    AssociationError,
    ConnectError,
    LostError,
    RejectedError,
    TimerExpiredError,
)
from dicomport.net.identity import DEFAULT_MAXIMUM_LENGTH, IDENTITY, check_ae_title
from dicomport.net.listener import Listener, listening_sockets
from dicomport.net.logs import get_logger
from dicomport.net.steps import FLUSH, Steps, next_event
from dicomport.net.stream import Stream
from dicomport.net.timers import Timeouts, Timer

__all__ = [
    "DEFAULT_MAXIMUM_LENGTH",
    "FLUSH",
    "IDENTITY",
    "AbortedError",
    "Address",
    "AssociationError",
    "BlockingConnection",
    "ConnectError",
    "Connection",
    "Listener",
    "LostError",
    "RejectedError",
    "Steps",
    "Stream",
    "Timeouts",
    "Timer",
    "TimerExpiredError",
    "check_ae_title",
    "connect",
    "connect_blocking",
    "get_logger",
    "listening_sockets",
    "next_event",
]

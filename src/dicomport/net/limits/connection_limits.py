"""Limits of connections and associations."""

from __future__ import annotations

from dicomport.values import frozen
from dicomport.wire import ProtocolLimits


@frozen
class ConnectionLimits(ProtocolLimits):
    """Limits of a listener, in addition to the limits of the protocol."""

    half_open: int = 256
    """Connections without an association: before the request, during the TLS handshake or after it, and those about to
    close. Above the limit, the oldest one of the address with most of them is closed, so idle connections cannot block
    senders."""

    associations: int = 1000
    """Associations at the same time. An idle association uses some kilobytes, a storing one two file descriptors.
    Above the limit, a request is rejected at once, as transient."""

    associations_per_address: int = 250
    """Associations at the same time from one network address, so that one sender cannot use all of `associations`."""

    associations_per_ae_title: int = 250
    """Associations at the same time with one calling AE title, for the same reason."""

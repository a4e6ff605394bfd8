"""Limits of connections and associations."""

from __future__ import annotations

from dataclasses import dataclass

from dicomport.wire import ProtocolLimits

__all__ = ["ConnectionLimits"]


@dataclass(frozen=True, slots=True)
class ConnectionLimits(ProtocolLimits):
    """Limits of a listener, beside those of the protocol."""

    half_open: int = 256
    """Connections without an association: those whose request has not come yet, in their TLS handshake or after it, and
    those that are about to close. For one more, the oldest is closed, of the address that has most of them: so idle
    ones keep no sender out, however many there are."""

    associations: int = 1000
    """Associations at the same time. An idle one takes some kilobytes, and one that stores takes two file descriptors;
    whoever comes when there are so many is rejected for now, at once."""

    associations_per_address: int = 250
    """Associations at the same time from one network address: a sender that opens more and more of them and closes none
    leaves room for the others."""

    associations_per_ae_title: int = 250
    """Associations at the same time with one calling AE title, for the same reason."""

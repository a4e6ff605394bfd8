"""Limits of a receiver."""

from __future__ import annotations

from typing import Final

from dicomport.files import DEFAULT_MEMORY_BYTES
from dicomport.net import ConnectionLimits
from dicomport.values import frozen


@frozen
class Limits(ConnectionLimits):
    """Limits of a receiver: data sets and memory, beside those of connections and of the protocol."""

    dimse_n_bytes: int = 16 << 20
    """Maximum length of the data set of a DIMSE-N request, bytes. A long one waits in a temporary file until it fits
    into `memory_bytes`. A reference to an instance, as in storage commitment, has about 130 bytes; thousands in one
    request are usual."""

    identity_checks_per_address: int = 8
    """User identities from one network address that are being checked or wait for it. One check of a password takes a
    few tenths of a second, and two of an address run at a time. Above the limit, a request is rejected at once, as
    transient."""

    instance_bytes: int = 64 << 30
    """Maximum length of a data set, bytes, so that none fills the disk. A longer one is refused with 0xA700, and its
    bytes are removed. The longest known data sets, of whole slides, have about ten gigabytes."""

    drained_bytes: int = 256 << 20
    """Maximum bytes that are read beyond `instance_bytes`, or beyond the limit of another request's data set, because
    most senders read no response before they have sent all. If the data set is longer, the association is aborted."""

    memory_bytes: int = DEFAULT_MEMORY_BYTES
    """Memory for all instances and DIMSE-N data sets that are being received, bytes: by default one MiB for each of a
    hundred. Above it, instances are written in shorter blocks of 64 KiB, and their senders are throttled."""


DEFAULT_LIMITS: Final = Limits()

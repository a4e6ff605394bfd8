"""Limits of a receiver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dicomport.files import DEFAULT_MEMORY_BYTES
from dicomport.net import ConnectionLimits

__all__ = ["DEFAULT_LIMITS", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits(ConnectionLimits):
    """Limits of a receiver: data sets and memory, beside those of connections and of the protocol."""

    normalized_bytes: int = 16 << 20
    """Longest data set of a DIMSE-N request, bytes, such as the references of a storage commitment: it is kept in
    memory until it is whole. A reference has about 130 bytes; requests for thousands of instances are usual."""

    instance_bytes: int = 64 << 30
    """Longest data set, bytes. One that goes on beyond that fills the disk: it is refused with 0xA700, and what came of
    it thrown away. The longest that are known, whole slides, have some ten gigabytes."""

    drained_bytes: int = 256 << 20
    """What is read of a data set beyond `instance_bytes`, bytes, so that the refusal can be answered once its sender is
    ready to hear it. Then the association is aborted."""

    memory_bytes: int = DEFAULT_MEMORY_BYTES
    """What all instances that are being received may hold in memory, together, bytes: by default a megabyte for each of
    a hundred. Beyond that each is written to disk in shorter blocks, of 64 KiB, while its sender is held back."""


DEFAULT_LIMITS: Final = Limits()

"""Limits of storage commitment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class CommitmentLimits:
    """Limits of storage commitment, over all requestors."""

    data_set_bytes: int = 16 << 20
    """Maximum length of the data set of a request or a report, bytes, also after inflating. One reference takes about
    130 bytes."""

    pending_commitments: int = 10_000
    """Maximum number of requests that are not reported on yet. The requests of a requestor that cannot be reached stay
    for days; each one is a small file."""

    pending_references: int = 1_000_000
    """Maximum number of instances in all pending requests: about 130 MB on disk."""


DEFAULT_COMMITMENT_LIMITS: Final = CommitmentLimits()

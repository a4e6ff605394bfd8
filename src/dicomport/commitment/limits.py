"""Limits of storage commitment."""

from __future__ import annotations

from typing import Final

from dicomport.values import frozen


@frozen
class CommitmentLimits:
    """Limits of storage commitment, over all requestors."""

    data_set_bytes: int = 16 << 20
    """Maximum length of the data set of a request or a report, bytes, also after inflating. One reference takes about
    130 bytes."""

    pending_commitments: int = 10_000
    """Maximum number of requests that are not reported on yet. The requests of a requestor that cannot be reached stay
    for days; each one is a small file. At this limit and those below, the requests of requestors that have no address
    for reports, and whose association has ended, are dropped first: the oldest of the address with the most."""

    pending_commitments_per_address: int = 2_000
    """Maximum number of these requests from one address, so that no machine uses up the limit of all."""

    pending_commitments_per_ae_title: int = 1_000
    """Maximum number of these requests from one calling AE title: a week of a busy modality that cannot be reached."""

    pending_references: int = 1_000_000
    """Maximum number of instances in all pending requests: about 130 MB on disk."""

    pending_references_per_address: int = 500_000
    """Maximum number of instances in the pending requests from one address."""

    pending_references_per_ae_title: int = 250_000
    """Maximum number of instances in the pending requests from one calling AE title: two of the longest requests."""


DEFAULT_COMMITMENT_LIMITS: Final = CommitmentLimits()

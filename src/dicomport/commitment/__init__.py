"""Storage commitment (PS3.4 Annex J): requesting an archive to keep instances, and serving such requests."""

from dicomport.commitment.limits import CommitmentLimits
from dicomport.commitment.scp import CommitmentSCP, Integrity
from dicomport.commitment.scu import Commitment, CommitmentReport, CommitOptions, commit, listening_host

__all__ = [
    "CommitOptions",
    "Commitment",
    "CommitmentLimits",
    "CommitmentReport",
    "CommitmentSCP",
    "Integrity",
    "commit",
    "listening_host",
]

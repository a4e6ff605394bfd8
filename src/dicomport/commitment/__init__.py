"""Storage commitment (PS3.4 Annex J): requesting an archive to keep instances, and serving such requests."""

from dicomport.commitment.limits import CommitmentLimits as CommitmentLimits
from dicomport.commitment.scp import CommitmentSCP as CommitmentSCP, Integrity as Integrity
from dicomport.commitment.scu import (
    Commitment as Commitment,
    CommitmentReport as CommitmentReport,
    CommitOptions as CommitOptions,
    commit as commit,
    listening_host as listening_host,
    reporting_peers as reporting_peers,
)

"""`associate`, `send` and `commit` for programs without asyncio."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Unpack

from dicomport.scu.blocking import BlockingAssociation, associate, run, send

if TYPE_CHECKING:
    from dicomport.commitment import CommitmentReport, CommitOptions
    from dicomport.wire.commitment import SOPReference

__all__ = ["BlockingAssociation", "associate", "commit", "send"]


def commit(
    references: Iterable[SOPReference], host: str, port: int, **options: Unpack[CommitOptions]
) -> CommitmentReport:
    """Ask for a commitment as `dicomport.commit` does, with the same arguments, and return when all is done.

    It runs an event loop of its own, in another thread where the caller's has one already.
    """
    from dicomport.commitment import commit as commit_in_loop

    return run(commit_in_loop(references, host, port, **options))

"""File descriptors: one for each connection, and one for each file that is open."""

from __future__ import annotations

import contextlib
import sys

__all__ = ["allow_descriptors"]


def allow_descriptors(wanted: int) -> int:
    """Let this process have so many open, as far as the system allows; give how many it may have.

    Not more than that: programs that this one starts inherit the limit, and some do not expect a high one.
    """
    if sys.platform == "win32":
        return wanted  # There is no such limit.
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    return wanted if soft == resource.RLIM_INFINITY else soft

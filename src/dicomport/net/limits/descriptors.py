"""The limit of open file descriptors: each connection and each open file needs one."""

from __future__ import annotations

import contextlib
import sys


def allow_descriptors(wanted: int) -> int:
    """Raise this process's limit to the wanted number, as far as the system allows; return the limit.

    It is not raised further: child processes inherit the limit, and some programs do not expect a high one.
    """
    if sys.platform == "win32":
        return wanted  # Windows has no such limit.
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    return wanted if soft == resource.RLIM_INFINITY else soft

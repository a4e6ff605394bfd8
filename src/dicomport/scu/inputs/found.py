"""Found files and data sets: an instance, or the result of one that cannot be sent."""

from __future__ import annotations

from typing import TypeAlias

from dicomport.scu.inputs.instance import Instance
from dicomport.scu.results import InstanceResult

Found: TypeAlias = Instance | InstanceResult
"""An instance to send, or the result of a file that cannot be sent."""


def unsendable(name: str, reason: str, *, skipped: bool = False) -> InstanceResult:
    """Return the result of a file or member that cannot be sent; `name` as in `Instance`."""
    return InstanceResult(name=name, reason=reason, skipped=skipped)

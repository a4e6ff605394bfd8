"""What each thing that is looked at turns out to be: an instance, or the result of one that can't be sent."""

from __future__ import annotations

from typing import TypeAlias

from dicomport.scu.inputs.instance import Instance
from dicomport.scu.results import InstanceResult

__all__ = ["Found", "refused"]

Found: TypeAlias = Instance | InstanceResult
"""What is to be sent; a result stands for a file that can't be."""


def refused(name: str, reason: str) -> InstanceResult:
    """Say why what has this name can't be sent; the name is as `Instance.name` has it, empty for a data set."""
    return InstanceResult(name=name, reason=reason)

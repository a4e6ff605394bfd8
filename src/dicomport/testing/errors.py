"""What a scripted peer says when the other side did something else than the script has it."""

from __future__ import annotations

from dicomport.errors import DicomportError

__all__ = ["GoneError", "ScriptError"]


class ScriptError(DicomportError, AssertionError):
    """The other side did not do what the script expects, or not in time; says what was awaited and what came."""


class GoneError(ScriptError):
    """The other side closed or broke the connection while the script expected something else."""

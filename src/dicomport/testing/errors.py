"""The errors of scripted peers."""

from __future__ import annotations

from dicomport.errors import DicomportError


class ScriptError(DicomportError, AssertionError):
    """The other side did not behave as the script expects, or not in time."""


class GoneError(ScriptError):
    """The other side closed or broke the connection while the script expected something else."""

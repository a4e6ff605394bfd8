"""What can go wrong on this side of the core."""

from __future__ import annotations

from dicomport.errors import DicomportError

__all__ = ["StateError"]


class StateError(DicomportError):
    """The local user asked for something that the association's state does not allow; nothing was changed."""

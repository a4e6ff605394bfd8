"""Errors of the local user of the core."""

from __future__ import annotations

from dicomport.errors import DicomportError


class StateError(DicomportError):
    """The state of the association does not allow the local user's request; nothing was changed."""

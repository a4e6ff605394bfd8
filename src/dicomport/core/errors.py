"""What can go wrong on this side of the core."""

from __future__ import annotations

__all__ = ["StateError"]


class StateError(Exception):
    """The local user asked for something that the association's state does not allow; nothing was changed."""

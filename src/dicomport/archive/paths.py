"""Where things are in an archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Paths"]


@dataclass(frozen=True, slots=True)
class Paths:
    """Names of an archive's folders and files. What begins with a dot is the archive's own: no instance's name does."""

    root: Path
    """Absolute, without links."""

    @property
    def index(self) -> Path:
        """The database."""
        return self.root / ".dicomport" / "index.sqlite"

    @property
    def sessions(self) -> Path:
        """What running processes have under way: temporary files and journals."""
        return self.root / ".dicomport" / "sessions"

    @property
    def commitments(self) -> Path:
        """Requests for storage commitment that are not reported on yet."""
        return self.root / ".dicomport" / "commitments"

    @property
    def quarantine(self) -> Path:
        """What was refused for its content."""
        return self.root / ".dicomport" / "quarantine"

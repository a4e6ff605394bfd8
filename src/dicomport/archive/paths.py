"""Paths in an archive."""

from __future__ import annotations

from pathlib import Path

from dicomport.values import frozen


@frozen
class Paths:
    """The archive's own folders and files: their names begin with a dot, the names of instances do not."""

    root: Path
    """Absolute, without symbolic links."""

    @property
    def index(self) -> Path:
        """The database."""
        return self.root / ".dicomport" / "index.sqlite"

    @property
    def sessions(self) -> Path:
        """Temporary files and journals of running processes."""
        return self.root / ".dicomport" / "sessions"

    @property
    def commitments(self) -> Path:
        """Storage commitment requests without a report yet."""
        return self.root / ".dicomport" / "commitments"

    @property
    def quarantine(self) -> Path:
        """Instances that were refused because of their content."""
        return self.root / ".dicomport" / "quarantine"

    @property
    def verification(self) -> Path:
        """Progress of background verification."""
        return self.root / ".dicomport" / "verify"

"""Power losses: processes whose synced files are kept, and the files that are left when nothing else reached the disk.

A library in C is loaded into the processes (power_loss.c): it sees the calls of Python and of SQLite.
"""

import enum
import os
import random
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.requirements import require_program

__all__ = ["Disk", "Names", "library"]

_SOURCE: Final = Path(__file__).with_suffix(".c")


def library(folder: Path) -> Path:
    """Compile the library; without a compiler the test is skipped, or fails in CI."""
    require_program("gcc", "gcc")
    target = folder / "power_loss.so"
    subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", target, _SOURCE, "-ldl"], check=True)
    return target


class Names(enum.Enum):
    """The names in a folder after a power loss; a name that was never synced is always lost."""

    SYNCED = "as they were synced"
    REMOVED = "as they were synced, without those that were removed since"
    ANY = "any of both, and any file with its synced content or all that was written"


@dataclass
class Disk:
    """The disk of one folder."""

    root: Path
    stable: Path
    preload: Path
    environment: dict[str, str] = field(init=False)
    """For processes that use the folder."""

    def __post_init__(self) -> None:
        for folder in (self.root, self.stable):
            folder.mkdir()
        self.environment = {**os.environ, "LD_PRELOAD": str(self.preload), "POWER_LOSS_STABLE": str(self.stable)}

    def lose_power(self, names: Names, seed: int = 0) -> Path:
        """Return a folder with the files after a power loss. All processes were killed; call this once."""
        target = self.root.with_name("after")
        self._names, self._rng = names, random.Random(seed)
        self._contents: set[int] = set()
        self._build(self.stable / f"{self.root.stat().st_ino}.dir", self.root, target)
        shutil.rmtree(self.root)
        target.rename(self.root)
        return self.root

    def _build(self, listing: Path, live: Path, target: Path) -> None:
        target.mkdir()
        for name, (one, is_folder) in self._entries(listing, live).items():
            path = live / name
            if is_folder:
                is_present = path.exists() and path.stat().st_ino == one
                self._build(self.stable / f"{one}.{'dir' if is_present else 'removed'}", path, target / name)
            elif (self.stable / f"{one}.inode").exists():
                os.link(self.stable / f"{one}.inode", target / name)
                self._restore(one)
            else:
                (target / name).touch()

    def _entries(self, listing: Path, live: Path) -> dict[str, tuple[int, bool]]:
        if not listing.exists():
            return {}
        lines = (line.split(" ", 2) for line in listing.read_text().splitlines())
        synced = {name: (int(one), kind == "1") for one, kind, name in lines if name not in (".", "..")}
        present = {path.name for path in live.iterdir()} if live.is_dir() else set()
        return {name: one for name, one in synced.items() if self._is_kept(name in present)}

    def _is_kept(self, is_present: bool) -> bool:
        return is_present or self._names is Names.SYNCED or (self._names is Names.ANY and self._rng.random() < 0.5)

    def _restore(self, inode: int) -> None:
        """Write the content that was synced into a file, once for all its names."""
        if inode in self._contents:
            return
        self._contents.add(inode)
        if self._names is Names.ANY and self._rng.random() < 0.5:
            return
        path = self.stable / f"{inode}.inode"
        path.write_bytes((self.stable / f"{inode}.data").read_bytes())
        time = self.stable / f"{inode}.time"
        if time.exists():
            os.utime(path, ns=(int(time.read_text()),) * 2)

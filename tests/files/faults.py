"""System calls that fail on demand, and a record of those that make an instance durable.

The wrappers call the real functions, so only the fault is artificial; they watch the files of one folder.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dicomport.files import system

__all__ = ["Disk", "Fault"]


@dataclass(frozen=True)
class Fault:
    """The calls of a name fail with `errno`, for files whose names end in `suffix`, after `spared` of them."""

    call: str
    errno: int
    suffix: str = ""
    spared: int = 0


@dataclass
class Disk:
    """The calls on the files under `root`.

    `calls` has one entry for each system call: its name and the file's name in `root`; `before` is called before it.
    `writev` is a "write", as faults do not depend on which of them writes.
    """

    root: Path
    monkeypatch: pytest.MonkeyPatch
    calls: list[tuple[str, str]] = field(default_factory=list)
    before: Callable[[str, str], object] = lambda _call, _name: None
    _fault: Fault | None = None
    _left: int = 0

    def __post_init__(self) -> None:
        for name, which in (("write", 0), ("fsync", 0), ("link", 1), ("replace", 1), ("mkdir", 0)):
            self._watch(name, which)
        self._watch("write", 0, "writev")
        self._watch("open", 0, "open_descriptor")

    def fail(self, fault: Fault) -> None:
        self._fault, self._left = fault, fault.spared

    def recover(self) -> None:
        self._fault = None

    def visible(self) -> list[str]:
        """List what is in the folder, temporary files too."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*"))

    def _watch(self, name: str, which: int, function: str = "") -> None:
        function = function or name
        real: Callable[..., Any] = getattr(system, function)

        def watched(*arguments: Any, **options: Any) -> Any:
            about = arguments[which]
            path = _path_of(about) if isinstance(about, int) else os.fspath(about)
            folder = options.get("dst_dir_fd", options.get("dir_fd"))
            if folder is not None:
                path = f"{_path_of(folder)}/{path}"
            if isinstance(path, str) and Path(path).is_relative_to(self.root):
                self._called(name, str(Path(path).relative_to(self.root)))
            return real(*arguments, **options)

        self.monkeypatch.setattr(system, function, watched)

    def _called(self, call: str, name: str) -> None:
        self.before(call, name)
        fault = self._fault
        if fault is not None and call == fault.call and name.endswith(fault.suffix):
            self._left -= 1
            if self._left < 0:
                raise OSError(fault.errno, os.strerror(fault.errno), f"{self.root}/{name}")
        self.calls.append((call, name))


def _path_of(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())

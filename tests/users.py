"""Commands as another user: root may read and write everything, so tests of permissions drop root first."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = [
    "as_member",
    "as_owner",
    "environment_of_others",
    "give_to_group",
    "give_to_owner",
    "shared_folder",
    "start_as_owner",
    "without_coverage",
]

_OWNER: Final = 64001
_MEMBER: Final = 64002
_GROUP: Final = 64100
_PATIENCE: Final = 60
_COVERAGE: Final = "COVERAGE_PROCESS_CONFIG"
"""The environment variable by which coverage configures a process that a test starts."""


@contextmanager
def shared_folder() -> Iterator[Path]:
    """Create a folder that all users can reach; pytest's are for their owner only."""
    with tempfile.TemporaryDirectory(prefix="dicomport-shared-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def give_to_group(root: Path) -> None:
    """Set the owner of a folder and its content, and the group that `as_member` is a member of.

    Without root, the user that runs the tests loses the permission to write instead.
    """
    for path in (root, *root.rglob("*")):
        if os.geteuid() == 0:
            os.chown(path, _OWNER, _GROUP, follow_symlinks=False)
        elif not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o7555)


def give_to_owner(root: Path) -> None:
    """Set the owner of a folder and its content to the user of `as_owner`; without root, that is the present user."""
    if os.geteuid() == 0:
        give_to_group(root)


_AS_OTHER: Final = """
import os, sys
import encodings.idna, json, rich.console, rich.table, rich.text, resource, sqlalchemy.dialects.sqlite, zipfile
import dicomport.cli.archive, dicomport.cli.storescp
from dicomport.cli.main import main

user, group = map(int, sys.argv[1:3])
if user:
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
if os.geteuid() == 0:
    sys.exit("runs as root")
main(sys.argv[3:])
"""
"""Python itself may be in a folder that only root can read, so everything is imported before root is dropped."""


def without_coverage() -> dict[str, str]:
    """Return the environment of a command that cannot write a file."""
    return {name: value for name, value in os.environ.items() if name != _COVERAGE}


@contextmanager
def environment_of_others() -> Iterator[dict[str, str]]:
    """Yield the environment of a command of another user, whose coverage data are moved to the others at the end."""
    settings = os.environ.get(_COVERAGE)
    if settings is None:
        yield dict(os.environ)
        return
    values = json.loads(base64.b64decode(settings))
    file = Path(values["data_file"])
    with tempfile.TemporaryDirectory(prefix="dicomport-coverage-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        values["data_file"] = str(folder / file.name)
        yield os.environ | {_COVERAGE: base64.b64encode(json.dumps(values).encode()).decode()}
        for path in folder.iterdir():
            shutil.move(path, file.parent)


def as_member(*arguments: str | Path, member: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run dicomport as a user that is a member of the group, or of none; the command never runs as root.

    `variables` are added to its environment.
    """
    return _run(_MEMBER, _GROUP if member else _MEMBER, arguments, variables)


def as_owner(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run dicomport as the owner of a folder after `give_to_owner`; the command never runs as root."""
    return _run(_OWNER, _GROUP, arguments, {})


@contextmanager
def start_as_owner(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Start dicomport as `as_owner` runs it, and kill it at the end."""
    with environment_of_others() as environment:
        process = subprocess.Popen(
            _command(_OWNER, _GROUP, arguments), stderr=subprocess.PIPE, text=True, cwd="/", env=environment
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def _command(user: int, group: int, arguments: Sequence[str | Path]) -> list[str]:
    ids = (user, group) if os.geteuid() == 0 else (0, 0)
    return [sys.executable, "-c", _AS_OTHER, *map(str, (*ids, *arguments))]


def _run(
    user: int, group: int, arguments: Sequence[str | Path], variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    with environment_of_others() as environment:
        done = subprocess.run(
            _command(user, group, arguments),
            check=False,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            cwd="/",
            env=environment | dict(variables),
        )
    assert "runs as root" not in done.stderr
    return done

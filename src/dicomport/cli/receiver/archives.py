"""The receiver's archives: the default archive and those of single peers."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from dicomport.archive import (
    Archive,
    ArchiveOptions,
    BusyIndexError,
    DamagedIndexError,
    Hooks,
    Index,
    IndexDatabaseError,
    Paths,
    SchemaError,
)
from dicomport.cli.receiver.access import Access
from dicomport.cli.receiver.peer_tables import PeerSettings
from dicomport.cli.system_errors import reason_and_remedy
from dicomport.cli.text import amount
from dicomport.files import free_bytes
from dicomport.scp import AssociationInfo, PeerRule
from dicomport.values import frozen

_LOW_BYTES: Final = 1 << 20
"""Space that a start needs for index and journal, with a margin."""


@frozen
class Archives:
    """Open archives and their hooks."""

    default: Archive
    by_path: Mapping[Path, Archive]
    """The archives by their resolved paths."""
    archives: tuple[Archive, ...]
    hooks: tuple[Hooks, ...]

    @property
    def recovered(self) -> int:
        """Number of instances added to the indexes by recovery."""
        return sum(archive.recovered for archive in self.archives)

    @property
    def indexes(self) -> list[tuple[Paths, Index]]:
        """The archives' paths and indexes."""
        return [(archive.paths, archive.index) for archive in self.archives]

    def rules(self, access: Access) -> tuple[PeerRule, ...]:
        """Return the rules for peers, with the storages of configured peers."""
        configured = (
            settings.peer
            if settings.archive is None
            else dataclasses.replace(settings.peer, storage=self.by_path[settings.archive.resolve()])
            for settings in access.configured
        )
        return (*configured, *access.allowed)

    def association_ended(self, association: AssociationInfo) -> None:
        """Notify the hooks of all archives; only those that know the association react."""
        for hooks in self.hooks:
            hooks.association_ended(association)


@contextlib.contextmanager
def opened(
    root: Path, options: ArchiveOptions, peers: Sequence[PeerSettings], hooks_of: Callable[[Path], Hooks]
) -> Iterator[Archives]:
    """Open all archives. Raises `click.ClickException`."""
    own = [peer.archive for peer in peers if peer.archive is not None]
    paths = {path.resolve(): path for path in (root, *own)}
    _check_apart(paths)
    with contextlib.ExitStack() as stack:
        hooks = {resolved: hooks_of(resolved) for resolved in paths}
        archives = {
            resolved: stack.enter_context(contextlib.closing(_open(path, options, hooks[resolved])))
            for resolved, path in paths.items()
        }

        yield Archives(
            default=archives[root.resolve()],
            by_path=archives,
            archives=tuple(archives.values()),
            hooks=tuple(hooks.values()),
        )


def _check_apart(paths: Collection[Path]) -> None:
    # Every file below an archive's folder belongs to that archive.
    for inner in paths:
        for outer in paths:
            if inner != outer and inner.is_relative_to(outer):
                raise click.UsageError(f"archive {inner} is inside archive {outer}: choose separate folders")


def _open(path: Path, options: ArchiveOptions, hooks: Hooks) -> Archive:
    try:
        return Archive(path, options, hooks=hooks)
    except OSError as error:
        reason = reason_and_remedy(error)
    except (BusyIndexError, DamagedIndexError, SchemaError):
        raise
    except IndexDatabaseError as error:
        reason = str(error)
    raise click.ClickException(
        f'cannot use "{path}" as the archive folder: {reason}{_shortage(path, options.min_free_bytes)}; or choose '
        "another folder with --archive"
    ) from None


def _shortage(path: Path, min_free_bytes: int) -> str:
    """Return the free space if it is so low that a full disk is the probable cause."""
    try:
        free = free_bytes(path)
    except OSError:
        return ""
    if free >= max(min_free_bytes, _LOW_BYTES):
        return ""
    required = f"; {amount(min_free_bytes)} required by --min-free" if min_free_bytes else ""
    return f" ({amount(free)} free{required})"

"""Settings that the receiver reads again on SIGHUP: peers, passwords, TLS files and the log level.

Theory of operation: a reload parses the command line and the configuration file again, as at the start, and reads all
files that they name. It takes effect as a whole, or not at all: the running receiver keeps its settings if anything is
invalid. With workers, the parent reloads first, and passes SIGHUP on to the workers only if everything is valid; a
worker that starts later has the parent's settings. The handler of SIGHUP is installed before the archives are opened
and stays to the end, so the signal never ends the process; one that arrives before the receiver serves is kept.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import SIGHUP, signal
from types import FrameType
from typing import Final

import click

from dicomport.cli.console import keep_log_format
from dicomport.cli.options.common import configure_logging
from dicomport.cli.receiver.access import Access
from dicomport.cli.receiver.config import CONFIG_FILE
from dicomport.logs import get_logger

_ARGUMENTS: Final = "dicomport.arguments"
_SETTINGS: Final = "dicomport.reloaded"

log = get_logger("cli")


@dataclass(frozen=True, slots=True)
class ReloadableSettings:
    """The settings that a reload replaces."""

    access: Access
    tls: ssl.SSLContext | None
    log_level: int | None


class ReloadableCommand(click.Command):
    """Keeps its arguments, to parse them again."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments."""
        ctx.meta[_ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)


def is_reload(context: click.Context) -> bool:
    """Return whether the command runs only to check and to return its settings."""
    return _SETTINGS in context.meta


def return_settings(context: click.Context, settings: ReloadableSettings) -> None:
    """Return the settings to the reload that runs the command."""
    context.meta[_SETTINGS] = settings


class Reloader:
    """The present settings, which SIGHUP replaces."""

    def __init__(self, context: click.Context, settings: ReloadableSettings) -> None:
        self.settings = settings
        self._context = context
        self._archives = _archives_of(settings.access)
        self._pending = False
        self._notify: Callable[[], object] | None = None
        signal(SIGHUP, self._on_signal)

    def notify(self, callback: Callable[[], object] | None) -> None:
        """Call a function at each SIGHUP, also for one that has arrived; None keeps the next one."""
        self._notify = callback
        if callback is not None and self._pending:
            self._pending = False
            callback()

    def load(self, use: Callable[[ReloadableSettings], object] = lambda _: None) -> bool:
        """Read all settings again, and use them; return whether all are valid. Otherwise nothing changes."""
        try:
            settings = self._read()
            use(settings)
        except click.ClickException as error:
            log.error("reload_failed", reason=error.format_message())  # noqa: TRY400  # no defect: a setting is invalid
            return False
        except Exception as error:  # a reload must never end the receiver
            log.error("reload_failed", exc_info=error)  # noqa: TRY400
            return False
        configure_logging(settings.log_level)
        self.settings = settings
        log.info("settings_reloaded")
        return True

    def _read(self) -> ReloadableSettings:
        command = self._context.command
        _check_files(self._context)
        with keep_log_format():
            context = command.make_context(self._context.info_name, list(self._context.meta[_ARGUMENTS]))
            _check_files(context)
            context.meta[_SETTINGS] = None
            with context:
                command.invoke(context)
        settings: ReloadableSettings = context.meta[_SETTINGS]
        if new := _archives_of(settings.access) - self._archives:
            raise click.UsageError(f"the archive {min(new)} is new: restart the receiver to open it")
        return settings

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._notify is None:
            self._pending = True
        else:
            self._notify()


def _check_files(context: click.Context) -> None:
    """Raise `click.UsageError` for a pipe or device: the receiver would wait for its writer."""
    for path in (context.meta.get(CONFIG_FILE), *context.params.values()):
        if isinstance(path, Path) and path.exists() and not (path.is_file() or path.is_dir()):
            raise click.UsageError(
                f"{path} is not a regular file and may not be read again: use a file, or restart the receiver"
            )


def _archives_of(access: Access) -> set[Path]:
    return {settings.archive.resolve() for settings in access.configured if settings.archive is not None}

"""Settings that the receiver reads again on SIGHUP: peers, passwords, TLS files, quiet hours and the log level.

Theory of operation: a reload parses the command line and the configuration file again, as at the start, and reads all
files that they name. It takes effect as a whole, or not at all: the running receiver keeps its settings if anything is
invalid, or if another setting has changed, which needs a restart. The files are read in a separate thread, because
a slow file system must not delay associations; only the result is used in the event loop. With workers, a separate
process reads them (`dicomport.cli.receiver.handover`). The handler of SIGHUP is installed before the archives are
opened and stays to the end, so the signal never ends the process; one that arrives before the receiver serves is kept.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import signal
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click

from dicomport.archive import QuietHours
from dicomport.cli.console import frozen_log_format
from dicomport.cli.options.common import configure_logging, requested_log_format
from dicomport.cli.options.tls import TLSSettings
from dicomport.cli.receiver.access import Access
from dicomport.cli.receiver.config import CONFIG_FILE, CONFIG_NAMES
from dicomport.logs import get_logger
from dicomport.values import frozen

MAX_READING_SECONDS: Final = 60.0
"""A reload that takes longer has failed: another one may be tried."""

TOO_SLOW: Final = f"reading the files took more than {MAX_READING_SECONDS:g} s"

_ARGUMENTS: Final = "dicomport.arguments"
_SETTINGS: Final = "dicomport.reloaded"

_RELOADED: Final = frozenset(
    (
        *("configured", "allow", "allow_any", "passwords", "log_level", "tls_wanted", "tls_cert", "tls_key"),
        *("tls_passphrase_file", "tls_ca", "tls_crl", "tls_profile", "tls_lenient"),
    )
)
"""Parameters of the command that a reload replaces."""

log = get_logger("cli")


@frozen
class ReloadableSettings:
    """The settings that a reload replaces: values, and contents of files, which any process can use."""

    access: Access
    tls: TLSSettings | None
    reporting: TLSSettings | None
    """TLS for storage commitment reports over new associations."""
    quiet_hours: QuietHours | None
    log_level: int | None

    def prepare(self) -> PreparedSettings:
        """Create what the receiver needs of these settings, without reading files. Raises `click.UsageError`."""
        return PreparedSettings(
            self,
            tls=None if self.tls is None else self.tls.context(),
            reporting=None if self.reporting is None else self.reporting.context(),
        )


@frozen
class PreparedSettings:
    """Settings that can be used at once."""

    settings: ReloadableSettings
    tls: ssl.SSLContext | None
    reporting: ssl.SSLContext | None


class ReloadableCommand(click.Command):
    """Keeps its arguments, to parse them again."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments."""
        ctx.meta[_ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)


def is_reload(context: click.Context) -> bool:
    """Return whether the command runs only to check and to return its settings."""
    return _SETTINGS in context.meta


def return_settings(context: click.Context, prepared: PreparedSettings) -> None:
    """Return the settings to the reload that runs the command."""
    context.meta[_SETTINGS] = prepared


class SettingsReader:
    """Reads the settings of a command again, in any thread or process."""

    def __init__(self, context: click.Context, access: Access) -> None:
        self._context = context
        self._archives = _archives_of(access)

    def read(self) -> PreparedSettings | None:
        """Read all settings; if they cannot be used, log the reason and return None."""
        try:
            return self._read()
        except click.ClickException as error:
            log_failure(error.format_message())
        except Exception as error:  # a reload must never end the receiver
            log.error("reload_failed", exc_info=error)  # noqa: TRY400
        return None

    def _read(self) -> PreparedSettings:
        command = self._context.command
        _check_files(self._context)
        with frozen_log_format():
            context = command.make_context(self._context.info_name, list(self._context.meta[_ARGUMENTS]))
            _check_files(context)
            self._check_unchanged(context)
            context.meta[_SETTINGS] = None
            with context:
                command.invoke(context)
        prepared: PreparedSettings = context.meta[_SETTINGS]
        if new := _archives_of(prepared.settings.access) - self._archives:
            raise click.UsageError(f"the archive {min(new)} is new: restart the receiver to open it")
        return prepared

    def _check_unchanged(self, context: click.Context) -> None:
        """Raise `click.UsageError` for a changed setting that a running receiver cannot change."""
        old, new = _fixed(self._context), _fixed(context)
        changed = [name for name, value in new.items() if value != old.get(name)]
        if changed:
            names = ", ".join(_name(name, context, self._context) for name in changed)
            raise click.UsageError(f"cannot change {names} in a running receiver: restart it to use the new value")


class Reloader:
    """The present settings of a process, and the function that uses new ones."""

    def __init__(self, present: PreparedSettings) -> None:
        self.present = present
        """The parent of workers replaces them before it forks; other processes call `apply`."""
        self._lock = threading.Lock()
        self._use: Callable[[PreparedSettings], object] | None = None

    def apply(self, prepared: PreparedSettings) -> None:
        """Use other settings from now on. Any thread may call it."""
        with self._lock:
            self.present = prepared
            if self._use is not None:
                self._use(prepared)

    @contextlib.contextmanager
    def using(self, use: Callable[[PreparedSettings], object], started_with: PreparedSettings) -> Iterator[None]:
        """Call a function with new settings, in any thread; also if there were new ones since the process started."""
        with self._lock:
            self._use = use
            if self.present is not started_with:
                use(self.present)
        try:
            yield
        finally:
            with self._lock:
                self._use = None


class SignalledReloads:
    """Reloads at each SIGHUP."""

    def __init__(self) -> None:
        # A queue that a signal handler may use, unlike `threading.Event`.
        self._signals: queue.SimpleQueue[None] = queue.SimpleQueue()
        signal.signal(signal.SIGHUP, lambda _number, _frame: self._signals.put(None))

    def take(self) -> bool:
        """Return whether there was a signal since the last call."""
        found = False
        with contextlib.suppress(queue.Empty):
            while True:
                self._signals.get_nowait()
                found = True
        return found

    def start(self, reader: SettingsReader, reloader: Reloader) -> None:
        """Read the settings at each signal, in a thread that nothing waits for, and replace the present ones."""

        def run() -> None:
            while True:
                self._signals.get()
                self.take()
                if (prepared := _read_in_time(reader)) is not None:
                    reloader.apply(prepared)

        threading.Thread(target=run, name="dicomport-reload", daemon=True).start()


def _read_in_time(reader: SettingsReader) -> PreparedSettings | None:
    found: queue.SimpleQueue[PreparedSettings | None] = queue.SimpleQueue()
    threading.Thread(target=lambda: found.put(reader.read()), name="dicomport-read", daemon=True).start()
    try:
        return found.get(timeout=MAX_READING_SECONDS)
    except queue.Empty:
        log_failure(TOO_SLOW)
        return None


def log_failure(reason: str) -> None:
    """Log that a reload has failed and that all settings stay."""
    log.error("reload_failed", reason=reason)


def log_reloaded(settings: ReloadableSettings, worker: int | None) -> None:
    """Use the new log level, and log that new settings are in use; `worker` is the number of one of several."""
    configure_logging(settings.log_level)
    if worker is None:
        log.info("settings_reloaded")
    else:
        log.info("settings_reloaded", worker=worker)


def _fixed(context: click.Context) -> dict[str, Any]:
    """Return the settings that need a restart."""
    fixed = {name: value for name, value in context.params.items() if name not in _RELOADED}
    return fixed | {"log_format": requested_log_format(context)}


def _name(name: str, *contexts: click.Context) -> str:
    """Return a setting's name as the user has written it in the file, or on the command line of one of the contexts."""
    written = {word for context in contexts for word in context.meta.get(CONFIG_NAMES, ())}
    written |= {word.partition("=")[0] for context in contexts for word in context.meta[_ARGUMENTS]}
    for parameter in contexts[0].command.params:
        if parameter.name == name:
            return max(written.intersection(parameter.opts) or parameter.opts, key=len)
    return f"--{name.replace('_', '-')}"


def _check_files(context: click.Context) -> None:
    """Raise `click.UsageError` for a pipe or device: the receiver would wait for its writer."""
    paths = [path for name, path in context.params.items() if isinstance(path, Path) and name in _RELOADED]
    if (config := context.meta.get(CONFIG_FILE)) is not None:
        paths.append(config)
    for file in itertools.chain.from_iterable(path.iterdir() if path.is_dir() else (path,) for path in paths):
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise click.UsageError(
                f"{file} is not a regular file and may not be read again: use a file, or restart the receiver"
            )


def _archives_of(access: Access) -> set[Path]:
    return {settings.archive.resolve() for settings in access.configured if settings.archive is not None}

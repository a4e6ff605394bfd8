"""`dicomport storescp`: the receiver."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import functools
import signal
import socket
from pathlib import Path

import click

from dicomport.archive import ArchiveOptions
from dicomport.cli.console import print_message
from dicomport.cli.options.archive import archive_policy_options
from dicomport.cli.options.common import (
    ExitCode,
    ae_title_option,
    archive_option,
    configure_logging,
    json_option,
    maximum_length_option,
    verbosity_options,
    whole_number,
)
from dicomport.cli.options.limit import limit_options
from dicomport.cli.options.timeout import Side, timeout_options
from dicomport.cli.options.tls import TLSOptions, tls_options
from dicomport.cli.receiver.access import Access, access_options
from dicomport.cli.receiver.archives import Archives, opened
from dicomport.cli.receiver.commitments import ArchiveCommitments, commit_to_option
from dicomport.cli.receiver.handover import Handover, follow_parent
from dicomport.cli.receiver.hooks import command_hooks, hook_options
from dicomport.cli.receiver.reloading import (
    PreparedSettings,
    ReloadableCommand,
    ReloadableSettings,
    Reloader,
    SettingsReader,
    SignalledReloads,
    is_reload,
    log_reloaded,
    return_settings,
)
from dicomport.cli.receiver.verification import ReloadableVerification, quiet_hours
from dicomport.cli.receiver.workers import WorkerContext, run_workers
from dicomport.cli.text import count, json_line
from dicomport.net import Address, Timeouts, allow_descriptors, event_loop, listening_sockets
from dicomport.scp import Limits, StorageSCP, StoreOperation
from dicomport.standard import Status
from dicomport.values import frozen

_DESCRIPTORS_PER_ASSOCIATION = 2
"""The connection and the file being written."""

_OTHER_DESCRIPTORS = 100
"""The index, the log, the listening sockets, hooks' processes, and the archive's held folders."""


@click.command(cls=ReloadableCommand)
@click.argument("port", type=whole_number(0, 65535), default=11112)
@archive_option("Folder of the archive; created if missing.")
@ae_title_option
@click.option(
    "-ba",
    "--bind-address",
    default="127.0.0.1",
    show_default=True,
    help="Address or host name to listen on; '' for every interface.",
)
@access_options
@archive_policy_options
@hook_options
@commit_to_option
@maximum_length_option
@tls_options(Side.ACCEPTOR)
@limit_options
@timeout_options(Side.ACCEPTOR)
@click.option(
    "--workers",
    type=whole_number(1, 64),
    default=1,
    show_default=True,
    help="Number of receiving processes.",
)
@json_option
@verbosity_options
def storescp(
    *,
    port: int,
    root: Path,
    ae_title: str,
    bind_address: str,
    access: Access,
    options: ArchiveOptions,
    on_instance: tuple[str, ...] | None,
    on_study: tuple[str, ...] | None,
    study_timeout: float,
    hook_timeout: float,
    report_to: tuple[tuple[str, Address], ...],
    maximum_length: int,
    security: TLSOptions | None,
    limits: Limits,
    timeouts: Timeouts,
    workers: int,
    as_json: bool,
    log_level: int | None,
) -> int:
    """Receive instances on PORT (11112), and store them in an archive.

    The receiver accepts every storage SOP Class, also private ones, in every transfer syntax. A success status
    means that the instance is complete under its final name, and, with --durability fsync, on stable storage. The
    index follows. Instances with invalid content are moved to quarantine. Storage commitment requests are answered
    from the archive. By default, only this machine can connect; see --bind-address, --allow and --allow-any. PORT 0
    selects a free port. On SIGTERM and Ctrl-C, the receiver finishes instances in transfer; on SIGHUP, it
    reads peers, passwords, TLS files, quiet hours and the log level again.

    SIZE is a number of bytes, such as 500M, 2G (powers of 1000) or 1GiB (powers of 1024). Exit code: 0 stopped by
    SIGTERM or Ctrl-C; 1 the port or the archive cannot be used, or an unexpected error; 2 wrong usage; 130 a second
    Ctrl-C.
    """
    context = click.get_current_context()
    shows_messages = is_reload(context) or configure_logging(log_level)
    tls = security.read() if security else None
    settings = ReloadableSettings(
        access=access,
        tls=tls,
        # Reports over new associations use TLS as well.
        reporting=tls.reversed() if tls and report_to else None,
        quiet_hours=quiet_hours(context),
        log_level=log_level,
    ).prepare()
    access.check(bind_address, tls=tls is not None)
    access.warn(tls=tls is not None, is_reload=is_reload(context))
    if is_reload(context):
        return_settings(context, settings)
        return ExitCode.OK
    signals, reader, reloader = SignalledReloads(), SettingsReader(context, access), Reloader(settings)
    hooks_of = functools.partial(
        command_hooks,
        on_instance=on_instance,
        on_study=on_study,
        study_timeout=study_timeout,
        hook_timeout=hook_timeout,
    )
    affordable = _affordable(limits)

    def receive(worker: WorkerContext | None) -> int:
        if worker is None:
            signals.start(reader, reloader)
        else:
            follow_parent(worker.settings, reloader)
        with opened(root, options, access.configured, hooks_of) as archives:
            # A worker that starts after a reload has the new settings.
            present = reloader.present
            rules = present.settings.access
            commitments = ArchiveCommitments(
                archives.archives, report_to, ae_title=ae_title, timeouts=timeouts, tls=present.reporting
            )
            scp = StorageSCP(
                archives.default,
                ae_title=ae_title,
                host=bind_address,
                port=port,
                allow=archives.rules(rules) or None,
                allow_any=rules.allow_any,
                check_called_ae_title=rules.require_called_aet,
                user_identity=rules.user_identity,
                maximum_length=maximum_length,
                timeouts=timeouts,
                limits=affordable,
                tls=present.tls,
                on_stored=_print_json if as_json else None,
                on_association_end=archives.association_ended,
                commitment=commitments,
                sockets=worker.sockets if worker else _listen(bind_address, port),
                associations=worker.associations if worker else None,
            )
            services = _Services(scp, archives, commitments, worker)
            event_loop.run(services.serve(reloader, present, bind_address or "*", shows_messages=shows_messages))
        return ExitCode.OK

    if workers > 1 and on_study is not None:
        raise click.UsageError(
            "--on-study is not available with --workers: it needs one process that receives the whole study"
        )
    if workers == 1:
        return receive(None)
    sockets, handover = _listen(bind_address, port), Handover(reader, reloader)
    return run_workers(workers, sockets, receive, handover, signals.take, shutdown=timeouts.shutdown)


@frozen
class _Services:
    """The services of one process."""

    scp: StorageSCP
    archives: Archives
    commitments: ArchiveCommitments
    worker: WorkerContext | None

    async def serve(self, reloader: Reloader, present: PreparedSettings, address: str, *, shows_messages: bool) -> None:
        """Serve until a signal, with the present settings and those that replace them."""
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        if self.worker is not None:
            loop.add_reader(self.worker.parent, stopping.set)
        async with contextlib.AsyncExitStack() as stack:
            for hooks in self.archives.hooks:
                await stack.enter_async_context(hooks)
            await stack.enter_async_context(self.scp)
            # The first worker verifies for all.
            indexes = self.archives.indexes if _is_first(self.worker) else []
            verification = ReloadableVerification(indexes, present.settings.quiet_hours)
            await stack.enter_async_context(verification)
            if shows_messages and _is_first(self.worker):
                self._print_start(address)

            def use(prepared: PreparedSettings) -> None:
                loop.call_soon_threadsafe(self._use, prepared, verification)

            with reloader.using(use, started_with=present):
                await stopping.wait()
            if self.worker is not None:
                loop.remove_reader(self.worker.parent)
            # From here on, a second signal ends the process at once.
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _print_start(self, address: str) -> None:
        if self.archives.recovered:
            print_message(
                f"{count(self.archives.recovered, 'instance')} of a receiver that has ended added to the index"
            )
        root = self.archives.default.paths.root
        print_message(f"listening on {address}:{self.scp.port}, storing in {root}; stop with Ctrl-C")

    def _use(self, prepared: PreparedSettings, verification: ReloadableVerification) -> None:
        """Use new settings."""
        access = prepared.settings.access
        self.scp.reload(
            allow=self.archives.rules(access) or None,
            allow_any=access.allow_any,
            user_identity=access.user_identity,
            tls=prepared.tls,
        )
        self.commitments.reload(tls=prepared.reporting)
        verification.reload(prepared.settings.quiet_hours)
        log_reloaded(prepared.settings, None if self.worker is None else self.worker.number)


def _is_first(worker: WorkerContext | None) -> bool:
    """Return whether this is the only process, or the first of the workers."""
    return worker is None or worker.number == 0


def _affordable(limits: Limits) -> Limits:
    """Return the limits, with only as many associations as the process can have file descriptors for."""
    others = limits.half_open + _OTHER_DESCRIPTORS
    allowed = allow_descriptors(others + _DESCRIPTORS_PER_ASSOCIATION * limits.associations)
    affordable = max(1, (allowed - others) // _DESCRIPTORS_PER_ASSOCIATION)
    if affordable >= limits.associations:
        return limits
    print_message(
        f"associations are limited to {affordable} instead of {limits.associations}: this process can open only "
        f"{allowed} files. Raise the limit with ulimit -n, or lower --max-associations"
    )
    return dataclasses.replace(limits, associations=affordable)


def _listen(address: str, port: int) -> list[socket.socket]:
    """Return the listening sockets. Raises `click.ClickException`."""
    try:
        return listening_sockets(address, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} is in use, perhaps by another receiver: use another port, such as {port + 1}"
        elif error.errno == errno.EACCES:
            reason = f"port {port} is privileged: grant CAP_NET_BIND_SERVICE or choose a port above 1023"
        else:
            reason = f"cannot listen on {address}:{port}: {error.strerror or error}; see --bind-address"
        raise click.ClickException(reason) from None


def _print_json(operation: StoreOperation, status: Status, size: int) -> None:
    facts = {
        "sop_class_uid": operation.sop_class_uid,
        "sop_instance_uid": operation.sop_instance_uid,
        "transfer_syntax_uid": operation.transfer_syntax_uid,
        "size": size,
        "status": status.code,
        "calling_ae_title": operation.association.calling_ae_title,
        "address": operation.association.address,
    }
    # The output may be writable again for the next instance; until then, each failure is logged.
    click.echo(json_line(facts))

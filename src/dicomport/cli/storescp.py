"""`dicomport storescp`: the receiver."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import functools
import signal
from pathlib import Path

import click

from dicomport.archive import ArchiveOptions
from dicomport.cli.options.access import Access, access_options
from dicomport.cli.options.archive import archive_policy_options
from dicomport.cli.options.common import (
    ExitCode,
    ae_title_option,
    configure_logging,
    json_option,
    maximum_length_option,
    verbosity_options,
)
from dicomport.cli.options.limit import limit_options
from dicomport.cli.options.timeout import Side, timeout_options
from dicomport.cli.options.tls import TLSOptions, renewing, tls_context, tls_options
from dicomport.cli.receiver.archives import Archives, opened
from dicomport.cli.receiver.commitments import Commitments, commit_to_option
from dicomport.cli.receiver.hooks import command_hooks, hook_options
from dicomport.cli.receiver.workers import WorkerContext, run_workers
from dicomport.cli.text import count, print_json, print_message
from dicomport.net import Address, Timeouts, allow_descriptors
from dicomport.scp import Limits, StorageSCP, StoreOperation
from dicomport.standard import Status

__all__ = ["storescp"]

_DESCRIPTORS_PER_ASSOCIATION = 2
"""Its connection, and the file that is being written."""

_OTHER_DESCRIPTORS = 100
"""The index, the log, the listening sockets, programs that are run as hooks."""


@click.command()
@click.argument("port", type=click.IntRange(0, 65535), default=11112)
@click.option(
    "-od",
    "--output-directory",
    "--archive",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("archive"),
    show_default=True,
    help="The archive's folder; it is made where it is missing.",
)
@ae_title_option
@click.option(
    "-ba",
    "--bind-address",
    default="127.0.0.1",
    show_default=True,
    help="Address or name to listen on; '' is every interface.",
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
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that receive side by side, for a machine with cores to spare.",
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
    """Receive instances on PORT (11112), and keep each in an archive.

    Every storage SOP Class is taken, private ones too, in every transfer syntax. A success means that the instance is
    whole, under its name, on stable storage, and known to the archive. What is refused for its content is kept in
    quarantine. Who asks for storage commitment has it from the archive. Only this machine can connect, unless
    --bind-address and either --allow or --allow-any say otherwise. PORT 0 takes any free one. SIGTERM and Ctrl-C let
    what is in flight end first; SIGHUP reads the TLS files again.
    """
    talkative = configure_logging(log_level)
    context = tls_context(security)
    # Who wants TLS wants it both ways.
    reporting = tls_context(security.reversed()) if security and report_to else None
    access.check(bind_address, tls=context is not None)
    hooks_of = functools.partial(
        command_hooks,
        on_instance=on_instance,
        on_study=on_study,
        study_timeout=study_timeout,
        hook_timeout=hook_timeout,
    )
    affordable = _affordable(limits)

    def receive(seat: WorkerContext | None) -> int:
        with opened(root, options, access.configured, hooks_of) as archives:
            scp = StorageSCP(
                archives.of_all,
                ae_title=ae_title,
                host=bind_address,
                port=port,
                allow=(*archives.peers, *access.allowed) or None,
                allow_any=access.allow_any,
                check_called_ae_title=access.require_called_aet,
                user_identity=access.user_identity,
                maximum_length=maximum_length,
                timeouts=timeouts,
                limits=affordable,
                tls=context,
                on_stored=_print_json if as_json else None,
                on_association_end=archives.association_over,
                commitment=Commitments(
                    archives.archives,
                    report_to,
                    ae_title=ae_title,
                    timeouts=timeouts,
                    tls=reporting,
                ),
                sockets=seat.sockets if seat else None,
                associations=seat.associations if seat else None,
            )
            asyncio.run(_serve(scp, bind_address or "*", archives, security, seat, talkative=talkative))
        return ExitCode.OK

    if workers > 1 and on_study is not None:
        raise click.UsageError("--on-study needs one process that sees all of a study: leave --workers out")
    try:
        return receive(None) if workers == 1 else run_workers(workers, bind_address, port, receive)
    except OSError as error:
        print_message(_explain(error, bind_address, port))
        return ExitCode.FAILED


async def _serve(
    scp: StorageSCP,
    address: str,
    archives: Archives,
    security: TLSOptions | None,
    seat: WorkerContext | None,
    *,
    talkative: bool,
) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    if seat is not None:
        loop.add_reader(seat.parent, over.set)
    async with contextlib.AsyncExitStack() as stack:
        for hooks in archives.hooks:
            await stack.enter_async_context(hooks)
        await stack.enter_async_context(scp)
        if talkative and (seat is None or seat.number == 0):
            if archives.recovered:
                print_message(
                    f"{count(archives.recovered, 'instance')} of a receiver that was killed were put into the index"
                )
            print_message(f"listening on {address}:{scp.port}, storing in {archives.of_all.paths.root}; Ctrl-C ends it")
        with renewing(scp, security):
            await over.wait()
        if seat is not None:
            loop.remove_reader(seat.parent)
        # From here on a second signal does what it does to any program.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _affordable(limits: Limits) -> Limits:
    """Give the limits, with no more associations than there can be file descriptors for."""
    others = limits.half_open + _OTHER_DESCRIPTORS
    allowed = allow_descriptors(others + _DESCRIPTORS_PER_ASSOCIATION * limits.associations)
    most = max(1, (allowed - others) // _DESCRIPTORS_PER_ASSOCIATION)
    if most >= limits.associations:
        return limits
    print_message(
        f"{count(most, 'association')} at the same time instead of {limits.associations}: this process may have only "
        f"{allowed} files open. Raise that with ulimit -n, or ask for fewer with --max-associations"
    )
    return dataclasses.replace(limits, associations=most)


def _explain(error: OSError, address: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: is another receiver running? Name another port: dicomport storescp {port + 1}"
    if error.errno == errno.EACCES:
        return f"port {port} is for the system's administrator: name one above 1023, such as 11112"
    return f"can't listen on {address}:{port}: {error.strerror or error}"


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
    print_json(facts)

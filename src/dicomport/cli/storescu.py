"""`dicomport storescu`: the sender."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dicomport.cli.console import print_message, shows_progress
from dicomport.cli.options.common import (
    ExitCode,
    PathType,
    ae_title_option,
    called_ae_title_option,
    configure_logging,
    json_option,
    maximum_length_option,
    verbosity_options,
    whole_number,
)
from dicomport.cli.options.identity import IdentityItem, user_identity_options
from dicomport.cli.options.sending import sending_options
from dicomport.cli.options.timeout import Side, timeout_options
from dicomport.cli.options.tls import TLSOptions, tls_options
from dicomport.cli.sender.commitment import (
    CommitmentsByInstance,
    CommitOptions,
    check_port,
    commit_options,
    print_commitments,
    request_commitments,
)
from dicomport.cli.sender.output import open_results
from dicomport.cli.sender.summary import progress, summarize
from dicomport.net import Address, Timeouts, event_loop
from dicomport.scu import Plan, RetryPolicy, Sending, SendReport, Transform, find, send
from dicomport.wire import Priority

if TYPE_CHECKING:
    from dicomport.scu.sending.journal import Journal


@click.command()
@click.argument("host")
@click.argument("port", type=whole_number(1, 65535))
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=PathType(allow_dash=True))
@ae_title_option
@called_ae_title_option
@sending_options
@commit_options
@user_identity_options
@maximum_length_option
@tls_options(Side.REQUESTOR)
@timeout_options(Side.REQUESTOR)
@json_option
@verbosity_options
def storescu(
    *,
    host: str,
    port: int,
    paths: tuple[Path, ...],
    ae_title: str,
    called_ae_title: str,
    priority: str,
    associations: int,
    window: int,
    retry: RetryPolicy,
    journal: Path | None,
    report: Path | None,
    transform: Transform,
    fail_fast: bool,
    plan_only: bool,
    commitment: CommitOptions | None,
    identity: IdentityItem,
    maximum_length: int,
    security: TLSOptions | None,
    timeouts: Timeouts,
    as_json: bool,
    log_level: int | None,
) -> int:
    """Send DICOM files to HOST PORT.

    PATH is a file, a folder (searched recursively), a DICOMDIR, a zip or tar archive, a pattern, or - for a list of
    paths on stdin. Data sets are sent unchanged. A failed instance does not stop the others. Transient failures, such
    as a lost association, are retried.

    Exit code: 0 all instances were accepted; 1 some failed, or the journal, report or output is incomplete; 2 wrong
    usage; 3 no association; 130 interrupted.
    """
    shows_messages = configure_logging(log_level)
    if plan_only:
        from dicomport.cli.sender.dry_run import dry_run

        return dry_run(find(paths), Plan(transform.alternatives), as_json=as_json)
    if report and journal and report.resolve() == journal.resolve():
        raise click.UsageError("--report and --journal need different files")
    if commitment is not None:
        check_port(commitment, host)
    with contextlib.ExitStack() as files:
        written = files.enter_context(open_results(report, as_json=as_json, holds=commitment is not None))
        tls = security.read() if security else None
        address = Address(host, port, tls.context() if tls else None)
        # Reports over new associations use TLS as well.
        listen_tls = tls.reversed().context() if tls and commitment and commitment.port else None
        sending = send(
            paths,
            host,
            port,
            ae_title=ae_title,
            called_ae_title=called_ae_title,
            priority=Priority[priority.upper()],
            tls=address.tls,
            timeouts=timeouts,
            associations=associations,
            window=window,
            retry=retry,
            fail_fast=fail_fast,
            transform=transform,
            journal=files.enter_context(_journal(journal, address, called_ae_title)) if journal else None,
            maximum_length=maximum_length,
            on_result=written.add,
            **identity,
        )
        with progress(sending, wanted=shows_messages and shows_progress()) as written.advance:
            interrupted, outcome = event_loop.run(_run(sending))
        if shows_messages or outcome.failed or outcome.journal_error:
            summarize(outcome)
        commitments: CommitmentsByInstance = {}
        try:
            if commitment is not None and not interrupted:
                interrupted, commitments = request_commitments(
                    outcome.accepted,
                    commitment,
                    address,
                    ae_title=ae_title,
                    called_ae_title=called_ae_title,
                    timeouts=timeouts,
                    listen_tls=listen_tls,
                    identity=identity,
                )
        finally:
            written.flush(commitments)
    uncommitted = any(not one.committed for one in commitments.values())
    if commitments and (shows_messages or uncommitted):
        print_commitments(commitments)
    complete = written.complete()
    if interrupted:
        return ExitCode.INTERRUPTED
    return _exit_code(outcome) or (ExitCode.FAILED if uncommitted or not complete else ExitCode.OK)


async def _run(sending: Sending) -> tuple[bool, SendReport]:
    """Send; return whether it was interrupted, and the report."""
    interrupted = False
    running = asyncio.create_task(sending)

    def interrupt() -> None:
        nonlocal interrupted
        if interrupted:
            running.cancel()
            return
        interrupted = True
        print_message("finishing instances in transfer; press Ctrl-C again to abort")
        sending.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return interrupted, sending.report()


def _journal(path: Path, address: Address, called_ae_title: str) -> Journal:
    from dicomport.scu.sending.journal import Journal, JournalError

    try:
        return Journal(path, address, called_ae_title)
    except OSError as error:
        raise click.UsageError(f"cannot use {path} as --journal: {error.strerror}") from None
    except JournalError as error:
        raise click.UsageError(f"cannot use {path} as --journal: {error}") from None


def _exit_code(report: SendReport) -> ExitCode:
    if len(report.results) == len(report.skipped) and not report.not_attempted:
        print_message("nothing to send: no instances found")
        return ExitCode.FAILED
    if report.error and not report.associations:
        print_message(
            "for the cause and advice, run `dicomport echoscu --explain` with the same host, port and options"
        )
        return ExitCode.NO_ASSOCIATION
    return ExitCode.FAILED if report.failed or report.not_attempted or report.journal_error else ExitCode.OK

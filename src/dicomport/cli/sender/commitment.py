"""`storescu --commit`: storage commitment of the accepted instances."""

from __future__ import annotations

import asyncio
import functools
import signal
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import click

from dicomport.cli.console import print_message
from dicomport.cli.options.common import decimal_number, whole_number, with_options
from dicomport.cli.options.identity import IdentityItem
from dicomport.cli.text import count
from dicomport.net import Address, Timeouts, listening_sockets
from dicomport.scu import InstanceResult

if TYPE_CHECKING:
    from dicomport.commitment import Commitment, CommitmentReport
    from dicomport.commitment.data_sets import SOPReference


CommitmentsByInstance: TypeAlias = "Mapping[SOPReference, Commitment]"
"""The commitments by instance."""


class CommitOptions(NamedTuple):
    """Port and timeout of the reports."""

    port: int | None
    """Port for associations of the peer; None without listening."""
    report_from: tuple[str, ...]
    """Rules for the peers that may report there; empty for the requested peer."""
    seconds: float


_OPTIONS: Final = (
    click.option("--commit", "commits", is_flag=True, help="Request storage commitment; uncommitted instances fail."),
    click.option(
        "--commit-port",
        type=whole_number(1, 65535),
        help="Port to listen on for reports over associations of the peer.",
    ),
    click.option(
        "--commit-from",
        multiple=True,
        metavar="AE[@ADDRESS/NET]",
        help="Peer that may report to --commit-port, if its AE title or address differ from those of the request, as "
        "behind NAT; '*' for any AE title. Repeatable.",
    ),
    click.option(
        "--commit-wait",
        type=decimal_number(0.1, 86400),
        default=60.0,
        show_default=True,
        help="Timeout for the reports after the requests, seconds.",
    ),
)


def commit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command receives them as one parameter, `commitment`, None without --commit."""

    @functools.wraps(command)
    def gathered(
        *, commits: bool, commit_port: int | None, commit_from: tuple[str, ...], commit_wait: float, **others: Any
    ) -> Any:
        if commit_port is not None and not commits:
            raise click.UsageError("--commit-port needs --commit")
        if commit_from and commit_port is None:
            raise click.UsageError("--commit-from needs --commit-port")
        options = CommitOptions(commit_port, commit_from, commit_wait) if commits else None
        return command(commitment=options, **others)

    return with_options(gathered, _OPTIONS)


def _reference_of(result: InstanceResult) -> SOPReference:
    from dicomport.commitment.data_sets import SOPReference

    return SOPReference(result.sop_class_uid, result.sop_instance_uid)


def check_port(options: CommitOptions, host: str) -> None:
    """Raise `click.UsageError` if the port is not available, or its peers are invalid, before an instance is sent."""
    if options.port is None:
        return
    from dicomport.commitment import listening_host, reporting_peers

    try:
        reporting_peers(options.report_from)
    except ValueError as error:
        raise click.UsageError(f"--commit-from: {error}") from None
    try:
        for sock in listening_sockets(listening_host(host), options.port):
            sock.close()
    except OSError as error:
        raise click.UsageError(_cannot_listen(options.port, error)) from None


def request_commitments(
    results: tuple[InstanceResult, ...],
    options: CommitOptions,
    address: Address,
    *,
    ae_title: str,
    called_ae_title: str,
    timeouts: Timeouts,
    listen_tls: ssl.SSLContext | None,
    identity: IdentityItem,
) -> tuple[bool, CommitmentsByInstance]:
    """Request storage commitment of accepted instances; return whether it was interrupted, and the commitments.

    Raises `click.ClickException` if the port is not available.
    """
    if not results:
        return False, {}
    from dicomport.commitment import Commitment, commit

    references = dict.fromkeys(map(_reference_of, results))
    asking = commit(
        references,
        address.host,
        address.port,
        ae_title=ae_title,
        called_ae_title=called_ae_title,
        wait=options.seconds,
        listen_port=options.port,
        report_from=options.report_from,
        tls=address.tls,
        listen_tls=listen_tls,
        timeouts=timeouts,
        **identity,
    )
    try:
        report = asyncio.run(_until_interrupted(asking))
    except asyncio.CancelledError:
        reason = "interrupted before the peer's report arrived"
        return True, {reference: Commitment(reference, reason=reason) for reference in references}
    except OSError as error:
        raise click.ClickException(_cannot_listen(options.port, error)) from None
    return False, {commitment.reference: commitment for commitment in report.commitments}


def _cannot_listen(port: int | None, error: OSError) -> str:
    return f"cannot listen on port {port}: {error.strerror or error}; choose another port with --commit-port"


async def _until_interrupted(asking: Coroutine[Any, Any, CommitmentReport]) -> CommitmentReport:
    """Wait for the reports. Raises `asyncio.CancelledError` on a signal."""
    running = asyncio.ensure_future(asking)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    return await running


def describe(result: InstanceResult, commitments: CommitmentsByInstance) -> dict[str, object]:
    """Return a result with the commitment of its instance."""
    commitment = commitments.get(_reference_of(result)) if result.accepted else None
    not_asked = "not requested" if result.accepted else ""
    return {
        **result.describe(),
        "committed": commitment is not None and commitment.committed,
        "commitment": not_asked if commitment is None else commitment.reason,
    }


def print_commitments(commitments: CommitmentsByInstance) -> None:
    """Print the number of committed instances, and the reasons of the others."""
    committed = sum(commitment.committed for commitment in commitments.values())
    print_message(f"  {committed} of {count(len(commitments), 'instance')} committed")
    reasons = Counter(commitment.reason for commitment in commitments.values() if not commitment.committed)
    for reason, number in reasons.most_common():
        print_message(f"  {number} not committed: {reason}")

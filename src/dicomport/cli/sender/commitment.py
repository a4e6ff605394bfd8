"""`storescu --commit`: whether the peer keeps what it took."""

from __future__ import annotations

import asyncio
import functools
import signal
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import click

from dicomport.cli.options.identity import IdentityItem
from dicomport.cli.text import count, print_message
from dicomport.net import Address, Timeouts, listening_sockets
from dicomport.scu import InstanceResult

if TYPE_CHECKING:
    from dicomport.commitment import Commitment, CommitmentReport
    from dicomport.wire.commitment import SOPReference

__all__ = ["Commitments", "Committing", "ask", "check_port", "commit_options", "describe", "tell_commitments"]

Commitments: TypeAlias = "Mapping[SOPReference, Commitment]"
"""What the peer says of each instance that it was asked for."""


class Committing(NamedTuple):
    """How the reports are waited for."""

    port: int | None
    """Where to listen for associations of the peer."""
    seconds: float


def commit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; they arrive as one parameter, `committing`, None without --commit."""

    @functools.wraps(command)
    def gathered(*, commits: bool, commit_port: int | None, commit_wait: float, **others: Any) -> Any:
        if commit_port is not None and not commits:
            raise click.UsageError("--commit-port goes with --commit")
        return command(committing=Committing(commit_port, commit_wait) if commits else None, **others)

    for option in (
        click.option(
            "--commit-wait",
            type=click.FloatRange(0.1, 86400),
            default=60.0,
            show_default=True,
            help="Seconds to wait for the reports, once all was asked for.",
        ),
        click.option(
            "--commit-port",
            type=click.IntRange(1, 65535),
            help="Port to listen on for reports that the peer brings over an association of its own.",
        ),
        click.option(
            "--commit",
            "commits",
            is_flag=True,
            help="Ask the peer to keep what it took, and fail for what it does not.",
        ),
    ):
        gathered = option(gathered)
    return gathered


def _reference_of(result: InstanceResult) -> SOPReference:
    from dicomport.wire.commitment import SOPReference

    return SOPReference(result.sop_class_uid, result.sop_instance_uid)


def check_port(committing: Committing, host: str) -> None:
    """Raise `click.UsageError` where reports can't be listened for: before anything is sent rather than afterwards."""
    if committing.port is None:
        return
    from dicomport.commitment import listening_host

    try:
        for sock in listening_sockets(listening_host(host), committing.port):
            sock.close()
    except OSError as error:
        raise click.UsageError(f"--commit-port: can't listen on {committing.port}: {error.strerror}") from None


def ask(
    results: tuple[InstanceResult, ...],
    committing: Committing,
    address: Address,
    *,
    ae_title: str,
    called_ae_title: str,
    timeouts: Timeouts,
    listen_tls: ssl.SSLContext | None,
    identity: IdentityItem,
) -> tuple[bool, Commitments]:
    """Ask for storage commitment of what was accepted; give whether that was interrupted, and what came of it.

    Raises `click.ClickException` where the port can't be had.
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
        wait=committing.seconds,
        listen_port=committing.port,
        tls=address.tls,
        listen_tls=listen_tls,
        timeouts=timeouts,
        **identity,
    )
    try:
        report = asyncio.run(_until_interrupted(asking))
    except asyncio.CancelledError:
        reason = "interrupted before the peer's report was there"
        return True, {reference: Commitment(reference, reason=reason) for reference in references}
    except OSError as error:
        raise click.ClickException(f"can't listen on port {committing.port}: {error.strerror}") from None
    return False, {commitment.reference: commitment for commitment in report.commitments}


async def _until_interrupted(asking: Coroutine[Any, Any, CommitmentReport]) -> CommitmentReport:
    """Wait for the reports. Raises `asyncio.CancelledError` where a signal ends that."""
    running = asyncio.ensure_future(asking)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    return await running


def describe(result: InstanceResult, commitments: Commitments) -> dict[str, object]:
    """Give a result's facts with what the peer says of the instance."""
    commitment = commitments.get(_reference_of(result)) if result.accepted else None
    not_asked = "the peer was not asked" if result.accepted else ""
    return {
        **result.describe(),
        "committed": commitment is not None and commitment.committed,
        "commitment": not_asked if commitment is None else commitment.reason,
    }


def tell_commitments(commitments: Commitments) -> None:
    """Tell how many are committed, and why the others are not."""
    committed = sum(commitment.committed for commitment in commitments.values())
    print_message(f"  {committed} of {count(len(commitments), 'instance')} committed")
    reasons = Counter(commitment.reason for commitment in commitments.values() if not commitment.committed)
    for reason, number in reasons.most_common():
        print_message(f"  {number} not committed: {reason}")

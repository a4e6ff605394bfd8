"""`dicomport echoscu`: verify a connection, and explain each step of it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager

import click

from dicomport.cli.console import print_message
from dicomport.cli.options.common import (
    ExitCode,
    ae_title_option,
    called_ae_title_option,
    configure_logging,
    json_option,
    maximum_length_option,
    verbosity_options,
    whole_number,
)
from dicomport.cli.options.contexts import CONTEXT
from dicomport.cli.options.identity import IdentityItem, user_identity_options
from dicomport.cli.options.timeout import Side, timeout_options
from dicomport.cli.options.tls import TLSOptions, tls_options
from dicomport.cli.text import print_json, round_trip_times
from dicomport.dimse import NoContextError
from dicomport.net import Address, AssociationError, Timeouts
from dicomport.scu import ClientAssociation, ContextLike, associate
from dicomport.standard import VERIFICATION, Status


@click.command()
@click.argument("host")
@click.argument("port", type=whole_number(1, 65535))
@ae_title_option
@called_ae_title_option
@click.option("--explain", "explained", is_flag=True, help="Explain each step, each failure and its cause.")
@click.option(
    "--context",
    "contexts",
    type=CONTEXT,
    multiple=True,
    help="With --explain: propose this SOP Class with these transfer syntaxes, by keyword or UID; repeatable. Default: "
    "the most common storage classes.",
)
@click.option("--repeat", type=whole_number(1, 65535), default=1, show_default=True, help="Number of C-ECHOs.")
@user_identity_options
@maximum_length_option
@tls_options(Side.REQUESTOR)
@timeout_options(Side.REQUESTOR)
@json_option
@verbosity_options
def echoscu(
    *,
    host: str,
    port: int,
    ae_title: str,
    called_ae_title: str,
    explained: bool,
    contexts: tuple[ContextLike, ...],
    repeat: int,
    identity: IdentityItem,
    maximum_length: int,
    security: TLSOptions | None,
    timeouts: Timeouts,
    as_json: bool,
    log_level: int | None,
) -> int:
    """Verify the connection to HOST PORT by C-ECHO.

    --explain prints each step with its duration: name, TCP, TLS, association with the result of each context, C-ECHO;
    and for a failure its cause and advice. Exit code: 0 the peer responded with success; 1 with a failure; 2 wrong
    usage; 3 no association; 130 interrupted.
    """
    shows_messages = configure_logging(log_level)
    address = Address(host, port, security.read().context() if security else None)
    if explained:
        return _explain(
            address,
            contexts,
            ae_title=ae_title,
            called_ae_title=called_ae_title,
            maximum_length=maximum_length,
            timeouts=timeouts,
            repeat=repeat,
            identity=identity,
            as_json=as_json,
            shows_messages=shows_messages,
        )
    if contexts:
        raise click.UsageError("--context needs --explain")
    association = associate(
        host,
        port,
        contexts=[VERIFICATION],
        ae_title=ae_title,
        called_ae_title=called_ae_title,
        tls=address.tls,
        timeouts=timeouts,
        maximum_length=maximum_length,
        **identity,
    )
    try:
        status, round_trips = asyncio.run(_echo(association, repeat))
    except (AssociationError, NoContextError) as error:
        print_message(f"cannot verify {host}:{port}: {error}", "--explain shows the failed step and advice")
        return ExitCode.NO_ASSOCIATION
    if as_json:
        import statistics

        facts = {"status": status.code, "category": status.category.value, "seconds": statistics.median(round_trips)}
        print_json(facts)
    if shows_messages:
        print_message(f"{host}:{port} answered {status} in {round_trip_times(round_trips)}")
    return ExitCode.OK if status.accepted else ExitCode.FAILED


async def _echo(association: AbstractAsyncContextManager[ClientAssociation], repeat: int) -> tuple[Status, list[float]]:
    """Send C-ECHOs; return the last status, and the round-trip times in seconds."""
    round_trips: list[float] = []
    async with association as opened:
        for _ in range(repeat):
            started = time.perf_counter()
            status = await opened.c_echo()
            round_trips.append(time.perf_counter() - started)
    return status, round_trips


def _explain(
    address: Address,
    contexts: tuple[ContextLike, ...],
    *,
    ae_title: str,
    called_ae_title: str,
    maximum_length: int,
    timeouts: Timeouts,
    repeat: int,
    identity: IdentityItem,
    as_json: bool,
    shows_messages: bool,
) -> int:
    """Print each step of a verification; return the exit code."""
    # A plain C-ECHO does not import these modules.
    from dicomport.cli.explaining import print_steps
    from dicomport.scu.explain.probe import explain
    from dicomport.scu.explain.proposals import USUAL_CONTEXTS

    try:
        steps = explain(
            address,
            contexts=contexts or USUAL_CONTEXTS,
            ae_title=ae_title,
            called_ae_title=called_ae_title,
            maximum_length=maximum_length,
            timeouts=timeouts,
            repeat=repeat,
            **identity,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return asyncio.run(print_steps(steps, as_json=as_json, shows_messages=shows_messages))

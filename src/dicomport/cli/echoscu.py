"""`dicomport echoscu`: whether a peer answers, and if not, why not."""

from __future__ import annotations

import asyncio
import json
import time

import click

from dicomport.cli.options import (
    ExitCode,
    ae_title_option,
    called_ae_title_option,
    configure_logging,
    json_option,
    maximum_length_option,
    verbosity_options,
)
from dicomport.cli.text import tell
from dicomport.cli.timeout_options import Side, timeout_options
from dicomport.net import AssociationError, Timeouts
from dicomport.scu import ClientAssociation, associate
from dicomport.standard import VERIFICATION, Status, describe

__all__ = ["echoscu"]


@click.command()
@click.argument("host")
@click.argument("port", type=click.IntRange(1, 65535))
@ae_title_option
@called_ae_title_option
@click.option("--explain", is_flag=True, help="Tell what was agreed on with the peer, and why.")
@maximum_length_option
@timeout_options(Side.REQUESTOR)
@json_option
@verbosity_options
def echoscu(
    *,
    host: str,
    port: int,
    ae_title: str,
    called_ae_title: str,
    explain: bool,
    maximum_length: int,
    timeouts: Timeouts,
    as_json: bool,
    log_level: int | None,
) -> int:
    """Verify by C-ECHO that HOST PORT answers.

    Exit code: 0 it did; 1 it answered with a failure; 2 wrong usage; 3 no association could be had; 130 interrupted.
    """
    talkative = configure_logging(log_level)

    async def echo() -> tuple[Status, float]:
        async with associate(
            host,
            port,
            contexts=[VERIFICATION],
            ae_title=ae_title,
            called_ae_title=called_ae_title,
            timeouts=timeouts,
            maximum_length=maximum_length,
        ) as association:
            if explain:
                _explain(association)
            started = time.perf_counter()
            status = await association.c_echo()
            return status, time.perf_counter() - started

    try:
        status, seconds = asyncio.run(echo())
    except AssociationError as error:
        tell(f"no answer: {error}")
        return ExitCode.NO_ASSOCIATION
    if as_json:
        click.echo(json.dumps({"status": status.code, "category": status.category.value, "seconds": seconds}))
    if talkative:
        tell(f"{host}:{port} answered {status} in {seconds * 1000:.1f} ms")
    return ExitCode.OK if status.accepted else ExitCode.FAILED


def _explain(association: ClientAssociation) -> None:
    outcome = association.outcome
    tell(f"implementation: {outcome.peer.class_uid or 'not named'} {outcome.peer.version_name}".rstrip())
    tell(f"longest PDU the peer takes: {outcome.peer_maximum_length or 'no limit'}")
    for context in outcome.contexts:
        tell(f"context {context.context_id}, {describe(context.abstract_syntax)}: {context.reason}")
        if context.transfer_syntax:
            tell(f"    in {describe(context.transfer_syntax)}")

"""`dicomport archive commitments`: the storage commitment requests that the archive has not reported on yet."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dicomport.archive import Paths
from dicomport.cli.console import print_message
from dicomport.cli.options.common import (
    ExitCode,
    archive_option,
    decimal_number,
    json_option,
    log_format_option,
    no_archive,
)
from dicomport.cli.system_errors import failure
from dicomport.cli.text import count, print_json, print_table
from dicomport.files import remove

if TYPE_CHECKING:
    from dicomport.commitment.transactions import Transaction

_archive_option = archive_option("The archive's folder.")

_COLUMNS = {
    "requested": "Requested",
    "calling_ae_title": "From",
    "address": "Address",
    "instances": ">Instances",
    "transaction_uid": "Transaction UID",
}


@click.group()
def commitments() -> None:
    """List and clear storage commitment requests without a report."""


@commitments.command()
@_archive_option
@log_format_option
@json_option
def ls(*, root: Path, as_json: bool) -> int:
    """List the requests, the oldest first."""
    rows = [_described(transaction) for _, transaction in _pending(root)]
    if as_json:
        for row in rows:
            print_json(row)
    else:
        print_table(tuple(_COLUMNS.values()), (tuple(str(row[name]) for name in _COLUMNS) for row in rows))
    return ExitCode.OK


@commitments.command(short_help="Remove requests; they get no report.")
@_archive_option
@log_format_option
@click.option("--ae", default="", metavar="TITLE", help="Only requests of this calling AE title.")
@click.option("--address", default="", metavar="ADDRESS", help="Only requests from this address.")
@click.option("--days", type=decimal_number(0), help="Only requests that are older than this, days.")
@click.option("--all", "everything", is_flag=True, help="Clear all requests.")
def clear(*, root: Path, ae: str, address: str, days: float | None, everything: bool) -> int:
    """Remove requests, so that they are not reported on, also while a receiver runs."""
    if not (everything or ae or address or days is not None):
        raise click.UsageError("choose the requests with --ae, --address or --days, or all with --all")
    before = time.time() - (days or 0.0) * 86400.0
    cleared = 0
    for path, transaction in _pending(root):
        if ae in ("", transaction.ae_title) and address in ("", transaction.host) and transaction.requested <= before:
            try:
                remove(path)
            except OSError as error:
                raise failure(f'cannot remove "{path}"', error) from None
            cleared += 1
    print_message(f"{count(cleared, 'request')} removed")
    return ExitCode.OK


def _pending(root: Path) -> list[tuple[Path, Transaction]]:
    from dicomport.commitment.transactions import all_transactions

    folder = Paths(root).commitments
    try:
        if not folder.parent.is_dir():
            raise no_archive(root)
        return list(all_transactions(folder))
    except OSError as error:
        raise failure(f'cannot read "{folder}"', error) from None


def _described(transaction: Transaction) -> dict[str, Any]:
    return {
        "requested": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(transaction.requested)),
        "calling_ae_title": transaction.ae_title,
        "address": transaction.host,
        "instances": len(transaction.references),
        "transaction_uid": transaction.uid,
    }

"""`dicomport storescp`: the receiver."""

from __future__ import annotations

import asyncio
import errno
import json
import signal
from pathlib import Path

import click

from dicomport.cli.options import (
    AE_TITLE,
    ExitCode,
    ae_title_option,
    configure_logging,
    json_option,
    maximum_length_option,
    timeout_options,
    verbosity_options,
)
from dicomport.cli.text import tell
from dicomport.net import Timeouts
from dicomport.scp import FolderStorage, StorageSCP, StoreOperation
from dicomport.standard import Status

__all__ = ["storescp"]


@click.command()
@click.argument("port", type=click.IntRange(0, 65535), default=11112)
@click.option(
    "-od",
    "--output-directory",
    "--archive",
    "archive",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("archive"),
    show_default=True,
    help="Folder for what is received; it is made where it is missing.",
)
@ae_title_option
@click.option(
    "-ba",
    "--bind-address",
    default="127.0.0.1",
    show_default=True,
    help="Address or name to listen on; '' is every interface.",
)
@click.option("--allow", "allowed", type=AE_TITLE, multiple=True, help="Calling AE title that may connect; repeatable.")
@click.option("--allow-any", is_flag=True, help="Let every calling AE title connect, also from other machines.")
@maximum_length_option
@timeout_options
@json_option
@verbosity_options
def storescp(
    *,
    port: int,
    archive: Path,
    ae_title: str,
    bind_address: str,
    allowed: tuple[str, ...],
    allow_any: bool,
    maximum_length: int,
    acse: float,
    dimse: float,
    network: float,
    as_json: bool,
    log_level: int | None,
) -> int:
    """Receive instances on PORT (11112), and keep each as a DICOM file.

    Every storage SOP Class is taken, private ones too, in every transfer syntax. A success means that the file is
    complete, under its name and on stable storage. Only this machine can connect, unless --bind-address and either
    --allow or --allow-any say otherwise. PORT 0 takes any free one. SIGTERM and Ctrl-C let what is in flight end
    first.
    """
    talkative = configure_logging(log_level)
    try:
        archive.mkdir(parents=True, exist_ok=True)
        scp = StorageSCP(
            FolderStorage(archive),
            ae_title=ae_title,
            host=bind_address,
            port=port,
            allow_any=allow_any,
            calling_ae_titles=allowed or None,
            maximum_length=maximum_length,
            timeouts=Timeouts(acse=acse, dimse=dimse, network=network),
            on_answer=_print_json if as_json else None,
        )
        asyncio.run(_serve(scp, f"{bind_address or '*'}", archive, talkative=talkative))
    except ValueError:
        raise click.UsageError(
            f"{bind_address or 'every interface'} can be reached from other machines: say who may connect with "
            "--allow AE-TITLE, or let anybody with --allow-any"
        ) from None
    except OSError as error:
        tell(_explain(error, bind_address, port, archive))
        return ExitCode.FAILED
    return ExitCode.OK


async def _serve(scp: StorageSCP, address: str, archive: Path, *, talkative: bool) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    async with scp:
        if talkative:
            tell(f"listening on {address}:{scp.port}, storing in {archive}; Ctrl-C ends it")
        await over.wait()
        # From here on a second signal does what it does to any program.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _explain(error: OSError, address: str, port: int, archive: Path) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: is another receiver running? Name another port: dicomport storescp {port + 1}"
    if error.errno == errno.EACCES and error.filename is None:
        return f"port {port} is for the system's administrator: name one above 1023, such as 11112"
    if error.filename is not None:
        return f"{archive} can't be the archive: {error.strerror}. Name another folder with --archive"
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
    click.echo(json.dumps(facts))

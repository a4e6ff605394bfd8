"""TLS, as options of all commands that connect or are connected to."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from dicomport.cli.options.timeout import Side
from dicomport.logs import get_logger
from dicomport.net import TLSProfile, tls_client_context, tls_server_context

if TYPE_CHECKING:
    from dicomport.scp import StorageSCP

__all__ = ["TLSOptions", "renewing", "tls_context", "tls_options"]

_PASSPHRASE: Final = "DICOMPORT_TLS_PASSPHRASE"  # noqa: S105  # its name, not the pass phrase

log = get_logger("cli")


class TLSOptions(NamedTuple):
    """What was said of TLS, where it is to be used."""

    side: Side
    certificate: Path | None
    key: Path | None
    passphrase_file: Path | None
    authorities: Path | None
    profile: str
    lenient: bool
    """The client takes a trusted certificate for any name; the server takes clients without a certificate."""

    def context(self) -> ssl.SSLContext:
        """Read the files. Raises `ValueError`."""
        if self.side is Side.REQUESTOR:
            return tls_client_context(
                certificate=self.certificate,
                key=self.key,
                passphrase=self._passphrase(),
                authorities=self.authorities,
                profile=self.profile,
                check_name=not self.lenient,
            )
        if self.certificate is None:
            raise ValueError("name the receiver's certificate and key: --tls-cert FILE --tls-key FILE")
        if self.authorities is None and not self.lenient:
            raise ValueError("name who certifies the clients, --tls-ca FILE, or let in any: --tls-anonymous-clients")
        return tls_server_context(
            self.certificate,
            self.key,
            passphrase=self._passphrase(),
            authorities=self.authorities,
            profile=self.profile,
            anonymous_clients=self.lenient,
        )

    def reversed(self) -> TLSOptions:
        """Give the options for connections that go the other way."""
        if self.side is Side.ACCEPTOR:
            return self._replace(side=Side.REQUESTOR, lenient=False)
        return self._replace(side=Side.ACCEPTOR, lenient=self.authorities is None)

    def _passphrase(self) -> str | None:
        if self.passphrase_file is None:
            return os.environ.get(_PASSPHRASE)
        try:
            return self.passphrase_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.passphrase_file} can't be read: {error}") from None


def tls_context(options: TLSOptions | None) -> ssl.SSLContext | None:
    """Make the context, if there is to be one. Raises `click.UsageError`."""
    try:
        return None if options is None else options.context()
    except ValueError as error:
        raise click.UsageError(str(error)) from None


_FILE: Final = click.Path(dir_okay=False, path_type=Path)

_OPTIONS: Final = (
    click.option("--tls", "tls_wanted", is_flag=True, help="Use TLS. Any of the next few options says it too."),
    click.option("--tls-cert", type=_FILE, help="Our certificate, PEM, and those between it and the root."),
    click.option("--tls-key", type=_FILE, help="Its private key, PEM; by default in the certificate's file."),
    click.option(
        "--tls-passphrase-file",
        type=_FILE,
        help=f"File with the pass phrase of the key; by default the environment's {_PASSPHRASE}.",
    ),
    click.option(
        "--tls-ca",
        "--add-cert-file",
        "--add-cert-dir",
        "tls_ca",
        type=click.Path(path_type=Path),
        help="Whom to trust: file, or folder of files, with certificates of authorities or of the peers themselves.",
    ),
    click.option(
        "--tls-profile",
        type=click.Choice([profile.value for profile in TLSProfile]),
        show_default=TLSProfile.BCP195.value,
        help="Versions and cipher suites (PS3.15 B.12, B.11).",
    ),
)
_LENIENT: Final = {
    Side.REQUESTOR: click.option(
        "--tls-any-name", "tls_lenient", is_flag=True, help="Take a trusted certificate whatever host it is for."
    ),
    Side.ACCEPTOR: click.option(
        "--tls-anonymous-clients", "tls_lenient", is_flag=True, help="Let in clients that show no certificate."
    ),
}


def tls_options(side: Side) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Add the options for this side of a connection; they arrive as one parameter, `security`."""

    def add(command: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(command)
        def gathered(
            *,
            tls_wanted: bool,
            tls_cert: Path | None,
            tls_key: Path | None,
            tls_passphrase_file: Path | None,
            tls_ca: Path | None,
            tls_profile: str | None,
            tls_lenient: bool,
            **others: Any,
        ) -> int:
            said = (tls_cert, tls_key, tls_passphrase_file, tls_ca, tls_profile)
            # Who says anything of TLS wants it: plain text is never what is left for want of a flag.
            wanted = tls_wanted or tls_lenient or any(said)
            options = TLSOptions(
                side=side,
                certificate=tls_cert,
                key=tls_key,
                passphrase_file=tls_passphrase_file,
                authorities=tls_ca,
                profile=tls_profile or TLSProfile.BCP195,
                lenient=tls_lenient,
            )
            return command(security=options if wanted else None, **others)

        for option in reversed((*_OPTIONS, _LENIENT[side])):
            gathered = option(gathered)
        return gathered

    return add


@contextlib.contextmanager
def renewing(scp: StorageSCP, security: TLSOptions | None) -> Iterator[None]:
    """Read the files again whenever the process gets SIGHUP; where that fails the receiver goes on with what it has."""
    if security is None:
        yield
        return

    def renew() -> None:
        try:
            scp.renew_tls(security.context())
        except ValueError as error:
            log.error("tls_reload_failed", reason=str(error))  # noqa: TRY400  # the file is at fault, not the code
        else:
            log.info("tls_reloaded", file=str(security.certificate))

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, renew)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)

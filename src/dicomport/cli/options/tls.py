"""Options of TLS, for requestors and acceptors."""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from dicomport.cli.options.common import PathType, with_options
from dicomport.cli.options.timeout import Side
from dicomport.net import TLSFiles, TLSProfile, client_context, server_context

_NO_CERTIFICATE: Final = "TLS needs the receiver's certificate and key: --tls-cert FILE --tls-key FILE"
_PASSPHRASE: Final = "DICOMPORT_TLS_PASSPHRASE"  # noqa: S105  # the variable's name


class TLSSettings(NamedTuple):
    """The TLS options with the contents of their files: the context needs nothing else, in any process."""

    side: Side
    files: TLSFiles
    profile: str
    lenient: bool
    common_name: bool

    def context(self) -> ssl.SSLContext:
        """Return the context. Raises `click.UsageError`."""
        try:
            if self.side is Side.REQUESTOR:
                return client_context(
                    self.files, profile=self.profile, check_name=not self.lenient, common_name=self.common_name
                )
            return server_context(self.files, profile=self.profile, anonymous_clients=self.lenient)
        except ValueError as error:
            raise click.UsageError(str(error)) from None

    def reversed(self) -> TLSSettings:
        """Return the settings for connections in the other direction."""
        if self.side is Side.ACCEPTOR:
            return self._replace(side=Side.REQUESTOR, lenient=False)
        if self.files.certificate is None:
            raise click.UsageError(_NO_CERTIFICATE)
        return self._replace(side=Side.ACCEPTOR, lenient=self.files.authorities is None, common_name=False)


class TLSOptions(NamedTuple):
    """The TLS options of a command that uses TLS."""

    side: Side
    certificate: Path | None
    key: Path | None
    passphrase_file: Path | None
    authorities: Path | None
    crls: Path | None
    profile: str
    lenient: bool
    """A client accepts a trusted certificate for any name; a server accepts clients without a certificate."""
    common_name: bool = False
    """A client accepts a host name as the common name of a certificate."""

    def read(self) -> TLSSettings:
        """Read the files. Raises `click.UsageError`."""
        if self.side is Side.ACCEPTOR and self.certificate is None:
            raise click.UsageError(_NO_CERTIFICATE)
        if self.side is Side.ACCEPTOR and self.authorities is None and not self.lenient:
            raise click.UsageError(
                "name the clients' authorities with --tls-ca FILE, or accept all clients with --tls-anonymous-clients"
            )
        try:
            files = TLSFiles.read(
                certificate=self.certificate,
                key=self.key,
                passphrase=self._passphrase(),
                authorities=self.authorities,
                crls=self.crls,
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        return TLSSettings(self.side, files, self.profile, self.lenient, self.common_name)

    def _passphrase(self) -> str | None:
        if self.passphrase_file is None:
            return os.environ.get(_PASSPHRASE)
        try:
            return self.passphrase_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"cannot read --tls-passphrase-file {self.passphrase_file}: {error}") from None


_FILE: Final = PathType(dir_okay=False)

_OPTIONS: Final = (
    click.option("--tls", "tls_wanted", is_flag=True, help="Use TLS; implied by the other TLS options."),
    click.option("--tls-cert", type=_FILE, help="Own certificate and its intermediates, PEM."),
    click.option(
        "--tls-key", type=_FILE, help="Private key of the certificate, PEM; by default in the certificate's file."
    ),
    click.option(
        "--tls-passphrase-file",
        type=_FILE,
        help=f"File with the passphrase of the key; default: environment variable {_PASSPHRASE}.",
    ),
    click.option(
        "--tls-ca",
        "--add-cert-file",
        "--add-cert-dir",
        "tls_ca",
        type=PathType(),
        help="Trusted certificates, of authorities or of peers: a file, or a folder of files.",
    ),
    click.option(
        "--tls-crl",
        "--add-crl-file",
        "tls_crl",
        type=PathType(),
        help="Certificate revocation lists, one of each authority: a file, or a folder of files, PEM or DER.",
    ),
    click.option(
        "--tls-profile",
        type=click.Choice([profile.value for profile in TLSProfile]),
        show_default=TLSProfile.RFC8996.value,
        help="Cipher suites: those of PS3.15 B.12 or B.13.",
    ),
)
_LENIENT: Final = {
    Side.REQUESTOR: (
        click.option(
            "--tls-any-name", "tls_lenient", is_flag=True, help="Accept a trusted certificate for any host name."
        ),
        click.option(
            "--tls-common-name",
            is_flag=True,
            help="Accept the host name as the common name of a certificate without alternative names.",
        ),
    ),
    Side.ACCEPTOR: (
        click.option(
            "--tls-anonymous-clients", "tls_lenient", is_flag=True, help="Accept clients without a certificate."
        ),
    ),
}


def tls_options(side: Side) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Add the options for this side of a connection; the command receives them as one parameter, `security`."""

    def add(command: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(command)
        def gathered(
            *,
            tls_wanted: bool,
            tls_cert: Path | None,
            tls_key: Path | None,
            tls_passphrase_file: Path | None,
            tls_ca: Path | None,
            tls_crl: Path | None,
            tls_profile: str | None,
            tls_lenient: bool,
            tls_common_name: bool = False,
            **others: Any,
        ) -> int:
            given = (tls_cert, tls_key, tls_passphrase_file, tls_ca, tls_crl, tls_profile)
            # Any TLS option turns TLS on, so that a forgotten --tls never leads to plain text.
            wanted = tls_wanted or tls_lenient or tls_common_name or any(given)
            options = TLSOptions(
                side=side,
                certificate=tls_cert,
                key=tls_key,
                passphrase_file=tls_passphrase_file,
                authorities=tls_ca,
                crls=tls_crl,
                profile=tls_profile or TLSProfile.RFC8996,
                lenient=tls_lenient,
                common_name=tls_common_name,
            )
            return command(security=options if wanted else None, **others)

        return with_options(gathered, (*_OPTIONS, *_LENIENT[side]))

    return add

"""Access to the receiver: its options, and the rules that they make with the configuration file."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from dicomport.cli.console import print_message
from dicomport.cli.options.common import PathType, with_options
from dicomport.cli.receiver.config import config_option
from dicomport.cli.receiver.peer_tables import PeerSettings
from dicomport.logs import get_logger
from dicomport.scp import Passwords, PeerRule, UserIdentityCheck, is_loopback
from dicomport.values import frozen

log = get_logger("cli")


@frozen(kw_only=True)
class Access:
    """Access rules from the command line and the configuration file."""

    configured: tuple[PeerSettings, ...]
    """Peers in the configuration file."""
    allowed: tuple[PeerRule, ...]
    """Rules given by --allow."""
    allow_any: bool
    require_called_aet: bool
    user_identity: UserIdentityCheck | None

    def check(self, bind_address: str, *, tls: bool) -> None:
        """Raise `click.UsageError` for contradicting options, such as a public address without an allowed peer."""
        if not (self.configured or self.allowed or self.allow_any or is_loopback(bind_address)):
            raise click.UsageError(
                f"{bind_address or 'every interface'} is reachable from other machines: name the allowed peers with "
                "--allow AE-TITLE@ADDRESS, or allow all with --allow-any"
            )
        for settings in self.configured:
            if settings.peer.certificate_names and not tls:
                raise click.UsageError(
                    f"[{settings.peer.rule}] requires a certificate, which needs TLS: name the receiver's "
                    "own certificate with --tls-cert"
                )

    def warn(self, *, tls: bool, is_reload: bool) -> None:
        """Warn of passwords without TLS: the user at the start, the log at a reload."""
        if self.user_identity is None or tls:
            return
        if is_reload:
            log.warning("passwords_unencrypted")
        else:
            print_message("passwords are sent unencrypted: use TLS, see --tls-cert")


class _Peer(click.ParamType[PeerRule]):
    name = "ae[@address/net]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> PeerRule:
        try:
            return PeerRule.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_OPTIONS: Final = (
    config_option,
    click.option(
        "--allow",
        type=_Peer(),
        multiple=True,
        help="Allowed peer: a calling AE title, or '*' for any, optionally with @ and an address or network. "
        "Repeatable.",
    ),
    click.option("--allow-any", is_flag=True, help="Allow all peers, also on other machines."),
    click.option(
        "--require-called-aet", is_flag=True, help="Reject associations with a called AE title other than --ae-title."
    ),
    click.option(
        "--passwords",
        type=PathType(exists=True, dir_okay=False),
        help="File of users and password hashes, as written by `dicomport password`; every peer must then identify "
        "as one of these users.",
    ),
)


def access_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the access options; the command receives them as one parameter, `access`."""

    @functools.wraps(command)
    def gathered(
        *,
        configured: tuple[PeerSettings, ...],
        allow: tuple[PeerRule, ...],
        allow_any: bool,
        require_called_aet: bool,
        passwords: Path | None,
        **others: Any,
    ) -> int:
        access = Access(
            configured=configured,
            allowed=allow,
            allow_any=allow_any,
            require_called_aet=require_called_aet,
            user_identity=None if passwords is None else _read(passwords),
        )
        return command(access=access, **others)

    return with_options(gathered, _OPTIONS)


def _read(path: Path) -> Passwords:
    try:
        passwords = Passwords.read(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise click.UsageError(f"--passwords {path}: {reason}") from None
    if passwords.is_empty():
        raise click.UsageError(f"--passwords {path} contains no user: add one with `dicomport password NAME >> {path}`")
    return passwords

"""Who may connect to the receiver, as options."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from dicomport.cli.receiver.config import config_option
from dicomport.cli.receiver.peer_tables import PeerSettings
from dicomport.cli.text import print_message
from dicomport.scp import Passwords, PeerRule, UserIdentityCheck, is_loopback

__all__ = ["Access", "access_options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may connect."""

    configured: tuple[PeerSettings, ...]
    """Those of the file."""
    allowed: tuple[PeerRule, ...]
    """Those of --allow."""
    allow_any: bool
    require_called_aet: bool
    user_identity: UserIdentityCheck | None

    def check(self, bind_address: str, *, tls: bool) -> None:
        """Raise `click.UsageError` for what can't be meant, such as an address for others with nobody allowed."""
        if not (self.configured or self.allowed or self.allow_any or is_loopback(bind_address)):
            raise click.UsageError(
                f"{bind_address or 'every interface'} can be reached from other machines: say who may connect with "
                "--allow AE-TITLE, or let anybody with --allow-any"
            )
        for settings in self.configured:
            if settings.peer.certificate_names and not tls:
                raise click.UsageError(
                    f"[{settings.peer.rule}] wants a certificate, and without TLS nobody shows one: name the "
                    "receiver's own with --tls-cert"
                )
        if self.user_identity is not None and not tls:
            print_message("pass phrases go over the network as they are: use TLS, see --tls-cert")


class _Peer(click.ParamType[PeerRule]):
    name = "ae[@address/net]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> PeerRule:
        if isinstance(value, PeerRule):
            return value
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
        help="Who may connect: a calling AE title, or '*' for any, from anywhere or from an address or network. "
        "Repeatable.",
    ),
    click.option("--allow-any", is_flag=True, help="Let everybody connect, also from other machines."),
    click.option(
        "--require-called-aet", is_flag=True, help="Refuse those who call another AE title than our own, --ae-title."
    ),
    click.option(
        "--passwords",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Users and hashes of their pass phrases, as `dicomport password` writes them: whoever connects has to be "
        "one of them.",
    ),
)


def access_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options that say who may connect; they arrive as one parameter, `access`."""

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

    for option in reversed(_OPTIONS):
        gathered = option(gathered)
    return gathered


def _read(path: Path) -> Passwords:
    try:
        return Passwords.read(path)
    except (OSError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) else error
        raise click.UsageError(f"--passwords {path}: {told}") from None

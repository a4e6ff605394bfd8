"""Options of the sender's user identity (PS3.7 D.3.3.7)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, TextIO, TypedDict

import click

from dicomport.cli.options.common import TextFile, with_options
from dicomport.wire import UserIdentityRQ


class IdentityItem(TypedDict, total=False):
    """Keyword arguments of `associate` and `send`; empty without a user."""

    user_identity: UserIdentityRQ


_OPTIONS: Final = (
    click.option("-usr", "--user", metavar="NAME", help="User name to send to the peer."),
    click.option(
        "--password-file",
        type=TextFile(),
        help="File with the user's password in the first line; - is stdin. It is sent unencrypted without TLS.",
    ),
)


def user_identity_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options; the command receives them as one parameter, `identity`."""

    @functools.wraps(command)
    def gathered(*, user: str | None, password_file: TextIO | None, **others: Any) -> int:
        return command(identity=_identity(user, password_file), **others)

    return with_options(gathered, _OPTIONS)


def _identity(user: str | None, password_file: TextIO | None) -> IdentityItem:
    if user is None:
        if password_file is not None:
            raise click.UsageError("--password-file needs --user")
        return {}
    kind, password = UserIdentityRQ.USER_NAME, ""
    if password_file is not None:
        kind, password = UserIdentityRQ.USER_NAME_AND_PASSCODE, password_file.readline().rstrip("\r\n")
    # The requested positive response shows whether the peer checks the identity.
    return {"user_identity": UserIdentityRQ(kind, True, user.encode(), password.encode())}

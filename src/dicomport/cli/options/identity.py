"""Who we say that our user is, as options (PS3.7 D.3.3.7)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, TextIO, TypedDict

import click

from dicomport.wire import UserIdentityRQ

__all__ = ["IdentityItem", "user_identity_options"]

_USER_NAME: Final = 1
_USER_NAME_AND_PASSCODE: Final = 2


class IdentityItem(TypedDict, total=False):
    """What `associate` and `send` negotiate for it: nothing where nobody is named."""

    user_identity: UserIdentityRQ


_OPTIONS: Final = (
    click.option("-usr", "--user", metavar="NAME", help="Tell the peer who the user is."),
    click.option(
        "--password-file",
        type=click.File(encoding="utf-8"),
        help="File whose first line is the user's pass phrase; - is stdin. It goes over the network as it is.",
    ),
)


def user_identity_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options that say who the user is; they arrive as one parameter, `identity`."""

    @functools.wraps(command)
    def gathered(*, user: str | None, password_file: TextIO | None, **others: Any) -> int:
        return command(identity=_identity(user, password_file), **others)

    for option in reversed(_OPTIONS):
        gathered = option(gathered)
    return gathered


def _identity(user: str | None, password_file: TextIO | None) -> IdentityItem:
    if user is None:
        if password_file is not None:
            raise click.UsageError("--password-file is for a --user")
        return {}
    kind, pass_phrase = _USER_NAME, ""
    if password_file is not None:
        kind, pass_phrase = _USER_NAME_AND_PASSCODE, password_file.readline().rstrip("\r\n")
    # With a positive response asked for, a peer that does not check is told from one that does.
    return {"user_identity": UserIdentityRQ(kind, True, user.encode(), pass_phrase.encode())}

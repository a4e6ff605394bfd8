"""The tables [peers.NAME] of the receiver's configuration file."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import click

from dicomport.cli.options.common import SIZE
from dicomport.cli.receiver.setting_errors import SettingError, array, flag, meant, unknown, wrong
from dicomport.scp import PeerRule, network
from dicomport.standard import MAX_UID_LENGTH, check_ae_title, sop_classes, transfer_syntaxes
from dicomport.values import frozen

T = TypeVar("T")

_ARCHIVE: Final = "archive"

_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)+")


@frozen
class PeerSettings:
    """Settings of one peer."""

    peer: PeerRule
    archive: Path | None
    """The peer's archive; None for the default archive."""


def peers_of(tables: object, folder: Path) -> tuple[PeerSettings, ...]:
    """Return the peers of checked tables; relative paths start at `folder`. Raises `SettingError`."""
    if not (isinstance(tables, Mapping) and all(isinstance(table, Mapping) for table in tables.values())):
        raise SettingError("peers must be tables: begin each with [peers.NAME]")
    return tuple(_peer(f"peers.{name}", table, folder) for name, table in tables.items())


def check_peer_names(tables: object) -> None:
    """Raise `SettingError` for the first unknown setting in the tables."""
    for name, table in tables.items() if isinstance(tables, Mapping) else ():
        for key in table if isinstance(table, Mapping) else ():
            if key not in _FIELDS and key != _ARCHIVE:
                raise unknown(f"peers.{name}", key, (*_FIELDS, _ARCHIVE))


def _peer(where: str, table: Mapping[str, object], folder: Path) -> PeerSettings:
    if not {"ae-title", "networks", "certificate"} & table.keys():
        needed = 'ae-title ("*" is any), networks or certificate'
        raise SettingError(f"[{where}] matches no peer: add {needed}")
    fields: dict[str, Any] = {}
    archive: Path | None = None
    for key, value in table.items():
        if key == _ARCHIVE:
            archive = folder / _text(where, key, value, _path)
        else:
            name, read = _FIELDS[key]
            fields[name] = read(where, key, value)
    return PeerSettings(PeerRule(rule=where, **fields), archive)


def _text(where: str, key: str, value: object, read: Callable[[str], T]) -> T:
    if not isinstance(value, str):
        raise wrong(where, key, value, "expected text in quotes")
    try:
        return read(value)
    except ValueError as error:
        raise wrong(where, key, value, str(error)) from None


_Reader: TypeAlias = Callable[[str, str, object], object]
"""Return the value of a key in a table. Raises `SettingError`."""


def _one(read: Callable[[str], object]) -> _Reader:
    return lambda where, key, value: _text(where, key, value, read)


def _each(read: Callable[[str], object]) -> _Reader:
    return lambda where, key, value: tuple(_text(where, key, one, read) for one in array(where, key, value))


def _some(read: Callable[[str], object]) -> _Reader:
    def some(where: str, key: str, value: object) -> object:
        if value == []:
            raise wrong(where, key, value, "expected at least one value; remove the setting otherwise")
        return _each(read)(where, key, value)

    return some


def _number(where: str, key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise wrong(where, key, value, "expected a number, 1 or more")
    return value


def _size(where: str, key: str, value: object) -> int:
    if not isinstance(value, str):
        return _number(where, key, value)
    try:
        return SIZE.convert(value, None, None)
    except click.BadParameter as error:
        raise wrong(where, key, value, error.message) from None


def _ae_title(text: str) -> str | None:
    return None if text == "*" else check_ae_title(text)


def _path(text: str) -> str:
    if not text:
        raise ValueError("the path is empty")
    return text


def _name(text: str) -> str:
    if not text.strip():
        raise ValueError("expected a name in the peer's TLS certificate")
    return text


def _sop_class(text: str) -> str:
    found = sop_classes.find(text)
    return _uid(text, "SOP Class", [known.keyword for known in sop_classes]) if found is None else found.uid


def _transfer_syntax(text: str) -> str:
    uids = {syntax.keyword: syntax.uid for syntax in transfer_syntaxes}
    return uids.get(text) or _uid(text, "transfer syntax", uids)


def _uid(text: str, what: str, keywords: Collection[str]) -> str:
    if not _UID.fullmatch(text) or len(text) > MAX_UID_LENGTH:
        raise ValueError(f"expected a UID or the keyword of a {what}; {meant(text, keywords)}")
    return text


_FIELDS: Final[Mapping[str, tuple[str, _Reader]]] = {
    "ae-title": ("ae_title", _one(_ae_title)),
    "networks": ("networks", _some(network)),
    "certificate": ("certificate_names", _some(_name)),
    "sop-classes": ("sop_classes", _each(_sop_class)),
    "transfer-syntaxes": ("transfer_syntaxes", _each(_transfer_syntax)),
    "max-associations": ("associations", _number),
    "max-instance-size": ("instance_bytes", _size),
    "user-identity-required": ("user_identity_required", flag),
}
"""Keys with the field of `PeerRule` and the reader of the value."""

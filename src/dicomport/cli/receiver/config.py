"""The receiver's configuration file in TOML: options of the command line, and one table per peer."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import click

from dicomport.cli.console import LOG_FORMAT, set_log_format_of
from dicomport.cli.options.common import PathType
from dicomport.cli.receiver.peer_tables import PeerSettings, check_peer_names, peers_of
from dicomport.cli.receiver.setting_errors import SettingError, array, flag, unknown, wrong
from dicomport.cli.receiver.verification import VERIFY, set_quiet_hours

_PEERS: Final = "peers"
_NAME: Final = "configured"
CONFIG_FILE: Final = "dicomport.config"
"""The key of the configuration file's path in a context's `meta`."""


CONFIG_NAMES: Final = "dicomport.config_names"
"""The key of the settings in the file, as the options that they stand for, in a context's `meta`."""


def config_option(command: Callable[..., int]) -> Callable[..., int]:
    """Add --config; the parameter `configured` has the peers, and other settings become the options' defaults."""
    return click.option(
        "--config",
        _NAME,
        type=PathType(exists=True, dir_okay=False),
        # Evaluated first: the file sets the defaults of the other options.
        is_eager=True,
        callback=_load,
        help="TOML file with settings named like the options, allowed peers in tables [peers.NAME], and quiet hours "
        "for verification in the table [verify]. Command-line options override the file.",
    )(command)


def _load(context: click.Context, _option: click.Parameter, path: Path | None) -> tuple[PeerSettings, ...]:
    if path is None:
        return ()
    context.meta[CONFIG_FILE] = path
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
        set_log_format_of((f"{LOG_FORMAT}={settings.get(LOG_FORMAT.removeprefix('--'))}", *sys.argv[1:]))
        _check_names(context.command, settings)
        context.meta[CONFIG_NAMES] = tuple(f"--{key}" for key in settings)
        if VERIFY in settings:
            set_quiet_hours(context, settings.pop(VERIFY))
        peers = peers_of(settings.pop(_PEERS, {}), path.parent)
        context.default_map = dict(_defaults(context, settings, path.parent))
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None
    except SettingError as error:
        raise click.UsageError(f"{path}: {error}") from None
    except RecursionError:
        raise click.UsageError(f"{path} is nested too deeply") from None
    except ValueError as error:
        raise click.UsageError(f"{path} is not valid TOML: {error}") from None
    return peers


def _defaults(context: click.Context, settings: Mapping[str, object], folder: Path) -> Iterator[tuple[str, object]]:
    """Yield settings as the command's parameters, checked as the options check them."""
    parameters = dict(_parameters(context.command))
    set_by: dict[str, str] = {}
    for key, value in settings.items():
        parameter = parameters[key]
        name = parameter.name or ""
        if name in set_by:
            raise SettingError(f"{set_by[name]} and {key} are the same setting: remove one of them")
        set_by[name] = key
        default = _default(parameter, key, value, folder)
        try:
            parameter.type_cast_value(context, default)
        except click.BadParameter as error:
            raise wrong("", key, value, error.message) from None
        if default is not None:
            yield name, default


def _check_names(command: click.Command, settings: Mapping[str, object]) -> None:
    """Raise `SettingError` for the first unknown setting: a misspelt name may be the cause of other errors."""
    known = (*dict(_parameters(command)), _PEERS, VERIFY)
    for key in settings:
        if key not in known:
            raise unknown("", key, known)
    check_peer_names(settings.get(_PEERS))


def _parameters(command: click.Command) -> Iterator[tuple[str, click.Parameter]]:
    """Yield the parameters by setting: names of arguments, and long names of options."""
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            yield parameter.name or "", parameter
        elif parameter.name != _NAME:
            for name in parameter.opts:
                if name.startswith("--"):
                    yield name.removeprefix("--"), parameter


def _default(parameter: click.Parameter, key: str, value: object, folder: Path) -> object:
    """Return a value as the command line would supply it; relative paths start at the file's folder."""
    if isinstance(parameter, click.Option) and parameter.is_flag:
        given = flag("", key, value)
        # Flags other than booleans stand for a value: --verbose is a level.
        return (
            given if isinstance(parameter.type, click.types.BoolParamType) else parameter.flag_value if given else None
        )
    several = array("", key, value) if parameter.multiple else [value]
    for one in several:
        if isinstance(one, bool) or not isinstance(one, str | int | float):
            raise wrong("", key, one, "expected text in quotes, or a number")
        if one == "" and isinstance(parameter.type, click.Path):
            raise wrong("", key, one, "the path is empty")
    texts = [str(folder / str(one)) if isinstance(parameter.type, click.Path) else str(one) for one in several]
    return texts if parameter.multiple else texts[0]

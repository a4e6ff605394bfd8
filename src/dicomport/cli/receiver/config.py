"""The receiver's settings from a file in TOML: those of the command line, and a table for each peer."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import click

from dicomport.cli.receiver.peer_tables import PeerSettings, peers_of
from dicomport.cli.receiver.setting_errors import SettingError, array, flag, unknown, wrong

__all__ = ["config_option"]

_PEERS: Final = "peers"
_NAME: Final = "configured"


def config_option(command: Callable[..., int]) -> Callable[..., int]:
    """Add --config, the parameter `configured`: the peers. What else is in the file becomes the options' defaults."""
    return click.option(
        "--config",
        _NAME,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        # Before all others, as it gives their defaults.
        is_eager=True,
        callback=_load,
        help="Settings in TOML, under the names of the options, and who may connect, in tables [peers.NAME]. What the "
        "command line says wins.",
    )(command)


def _load(context: click.Context, _option: click.Parameter, path: Path | None) -> tuple[PeerSettings, ...]:
    if path is None:
        return ()
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
        peers = peers_of(settings.pop(_PEERS, {}), path.parent)
        context.default_map = dict(_defaults(context, settings, path.parent))
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None
    except SettingError as error:
        raise click.UsageError(f"{path}: {error}") from None
    except ValueError as error:
        raise click.UsageError(f"{path} is no TOML: {error}") from None
    return peers


def _defaults(context: click.Context, settings: Mapping[str, object], folder: Path) -> Iterator[tuple[str, object]]:
    """Check settings as the options of the command do, and give them by the names of its parameters."""
    parameters = dict(_parameters(context.command))
    set_by: dict[str, str] = {}
    for key, value in settings.items():
        if key not in parameters:
            raise unknown("", key, (*parameters, _PEERS))
        parameter = parameters[key]
        name = parameter.name or ""
        if name in set_by:
            raise SettingError(f"{set_by[name]} and {key} say the same thing: leave one of them out")
        set_by[name] = key
        default = _default(parameter, key, value, folder)
        try:
            parameter.type_cast_value(context, default)
        except click.BadParameter as error:
            raise wrong("", key, value, error.message) from None
        if default is not None:
            yield name, default


def _parameters(command: click.Command) -> Iterator[tuple[str, click.Parameter]]:
    """Give the parameters by the names of settings: those of the arguments, and the long ones of the options."""
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            yield parameter.name or "", parameter
        elif parameter.name != _NAME:
            for name in parameter.opts:
                if name.startswith("--"):
                    yield name.removeprefix("--"), parameter


def _default(parameter: click.Parameter, key: str, value: object, folder: Path) -> object:
    """Give a value as it would come from the command line; but a path starts where the file is."""
    if isinstance(parameter, click.Option) and parameter.is_flag:
        given = flag("", key, value)
        # Other flags than those that are true or false stand for a value: --verbose is a level.
        return (
            given if isinstance(parameter.type, click.types.BoolParamType) else parameter.flag_value if given else None
        )
    several = array("", key, value) if parameter.multiple else [value]
    for one in several:
        if isinstance(one, bool) or not isinstance(one, str | int | float):
            raise wrong("", key, one, "it is text, in quotes, or a number")
    texts = [str(folder / str(one)) if isinstance(parameter.type, click.Path) else str(one) for one in several]
    return texts if parameter.multiple else texts[0]

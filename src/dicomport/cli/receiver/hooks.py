"""Commands that `storescp` runs for instances and studies: never by way of a shell, what peers said as data only."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import shlex
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from dicomport.archive import CompleteStudy, HookError, Hooks, Record

__all__ = ["command_hook", "command_hooks", "hook_options", "split_command"]

Command = TypeVar("Command", bound=Callable[..., Any])
Argv = tuple[str, ...]


def split_command(command: str) -> Argv:
    """Split a command into program and arguments, as a shell would, and do nothing else that one would do.

    Raises `ValueError` for one that can't be split, or whose program is none.
    """
    argv = tuple(shlex.split(command))
    if not argv or shutil.which(argv[0]) is None:
        raise ValueError(f"{argv[0] if argv else command!r} is no program that can be run")
    return argv


class _Command(click.ParamType[Argv]):
    name = "command"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Argv:
        try:
            return split_command(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_SECONDS = click.FloatRange(0, 86400, min_open=True)


def hook_options(command: Command) -> Command:
    """Add --on-instance, --on-study and what bounds them: the parameters of `command_hooks`."""
    for option in (
        click.option(
            "--hook-timeout",
            type=_SECONDS,
            default=300.0,
            show_default=True,
            help="Seconds until a command that still runs is killed.",
        ),
        click.option(
            "--study-timeout",
            type=_SECONDS,
            default=60.0,
            show_default=True,
            help="A study is complete when nobody who sent to it is connected, and nothing came for so many seconds.",
        ),
        click.option("--on-study", type=_Command(), help="The same for each study that is complete."),
        click.option(
            "--on-instance",
            type=_Command(),
            help="Command to run for each instance that was stored, without a shell; it gets a JSON object on stdin, "
            "and what it writes goes nowhere.",
        ),
    ):
        command = option(command)
    return command


def command_hooks(
    archive: Path, *, on_instance: Argv | None, on_study: Argv | None, study_timeout: float, hook_timeout: float
) -> Hooks:
    """Make the hooks of an archive that run these commands; without any, they do nothing."""
    root = archive.resolve()

    def for_instance(run: Callable[[Mapping[str, object]], Awaitable[None]]) -> Callable[[Record], Awaitable[None]]:
        return lambda record: run(_facts_of_instance(root, record))

    def for_study(run: Callable[[Mapping[str, object]], Awaitable[None]]) -> Callable[[CompleteStudy], Awaitable[None]]:
        return lambda study: run(_facts_of_study(root, study))

    return Hooks(
        on_instance=None if on_instance is None else for_instance(command_hook(on_instance)),
        on_study=None if on_study is None else for_study(command_hook(on_study)),
        study_timeout=study_timeout,
        seconds=hook_timeout,
    )


def command_hook(argv: Argv) -> Callable[[Mapping[str, object]], Awaitable[None]]:
    """Give a function that runs a command with facts as one line of JSON on its stdin, and waits for its end.

    Cancelled, as it is when it takes too long, it kills the command with all processes that this has started. It
    raises `HookError` if the command can't be run or says that it failed. Of the command only the program is named:
    arguments may hold secrets.
    """
    program = Path(argv[0]).name

    async def run(facts: Mapping[str, object]) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                # Our stdout may be read by machines, and on our stderr nothing of a peer's may go unescaped.
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                # A group to kill as one; and Ctrl-C, which the terminal sends to all of ours, lets it end.
                start_new_session=True,
            )
        except OSError as error:
            raise HookError(f"{program} can't be run: {error.strerror}") from None
        try:
            # JSON in ASCII: no value can end the line or be taken for anything else.
            await process.communicate(json.dumps(facts).encode() + b"\n")
        finally:
            if process.returncode is None:
                _kill_group(process.pid)
                await process.wait()
        if process.returncode:
            raise HookError(f"{program} {_told(process.returncode)}")

    return run


def _kill_group(leader: int) -> None:
    # It may have ended in this moment.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _told(returncode: int) -> str:
    return f"was ended by signal {-returncode}" if returncode < 0 else f"ended with exit code {returncode}"


def _facts_of_instance(root: Path, record: Record) -> dict[str, object]:
    facts = dataclasses.asdict(record)
    of_data_set = facts.pop("facts")
    del facts["inode"]
    return {"event": "instance", **facts, "path": str(root / record.path), **of_data_set}


def _facts_of_study(root: Path, study: CompleteStudy) -> dict[str, object]:
    return {"event": "study", "archive": str(root), **dataclasses.asdict(study)}

"""Commands that `storescp` runs for instances and studies, without a shell; peers' values are data only."""

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
from dicomport.cli.options.common import decimal_number, with_options

Command = TypeVar("Command", bound=Callable[..., Any])
Argv = tuple[str, ...]


def split_command(command: str) -> Argv:
    """Return program and arguments, split at spaces and quotes as in a shell, without expansion.

    Raises `ValueError` for unbalanced quotes and an unknown program.
    """
    argv = tuple(shlex.split(command))
    if not argv or shutil.which(argv[0]) is None:
        raise ValueError(f"{argv[0] if argv else command!r} is not an executable program")
    return argv


class _Command(click.ParamType[Argv]):
    name = "command"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Argv:
        try:
            return split_command(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_SECONDS = decimal_number(0.001, 86400)


_OPTIONS = (
    click.option(
        "--on-instance",
        type=_Command(),
        help="Command to run for each stored instance, without a shell; it reads a JSON object from stdin, and its "
        "output is discarded.",
    ),
    click.option("--on-study", type=_Command(), help="Command to run for each complete study."),
    click.option(
        "--study-timeout",
        type=_SECONDS,
        default=60.0,
        show_default=True,
        help="Seconds without new instances, and without an association of its senders, after which a study is "
        "complete.",
    ),
    click.option(
        "--hook-timeout",
        type=_SECONDS,
        default=300.0,
        show_default=True,
        help="Timeout of a command, seconds; it is then killed.",
    ),
)


def hook_options(command: Command) -> Command:
    """Add the options; they are the parameters of `command_hooks`."""
    return with_options(command, _OPTIONS)


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
    """Return a function that runs a command with one JSON line on stdin, and waits for its end.

    When cancelled, as after the timeout, the function kills the command's process group. It raises `HookError` if the
    command cannot be started or fails. Errors name only the program, as arguments may contain secrets.
    """
    program = Path(argv[0]).name

    async def run(facts: Mapping[str, object]) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                # The receiver's stdout may be JSON, and its stderr is escaped.
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                # A separate process group can be killed as a whole, and does not receive the terminal's Ctrl-C.
                start_new_session=True,
            )
        except OSError as error:
            raise HookError(f"cannot run {program}: {error.strerror}") from None
        try:
            # JSON in ASCII: values cannot contain a line break.
            await process.communicate(json.dumps(facts).encode() + b"\n")
        finally:
            if process.returncode is None:
                _kill_group(process.pid)
                await process.wait()
        if process.returncode:
            raise HookError(f"{program} {_describe_exit(process.returncode)}")

    return run


def _kill_group(leader: int) -> None:
    # The process may have just ended.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _describe_exit(returncode: int) -> str:
    return f"was ended by signal {-returncode}" if returncode < 0 else f"ended with exit code {returncode}"


def _facts_of_instance(root: Path, record: Record) -> dict[str, object]:
    facts = dataclasses.asdict(record)
    of_data_set = facts.pop("attributes")
    del facts["inode"], facts["header_crc32"]
    return {"event": "instance", **facts, "path": str(root / record.path), **of_data_set}


def _facts_of_study(root: Path, study: CompleteStudy) -> dict[str, object]:
    return {"event": "study", "archive": str(root), **dataclasses.asdict(study)}

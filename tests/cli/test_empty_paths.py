"""An empty path is a usage error that names the argument: a shell's unset variable is not the working directory."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from tests.cli.commands import FILES, dicomport
from tests.ports import unused_port

from dicomport.cli.program import dicomport as group

CASES = [
    (("storescu", "127.0.0.1", "{port}", ""), "PATH"),
    (("storescu", "127.0.0.1", "{port}", FILES / "CT_small.dcm", ""), "PATH"),
    (("storescu", "127.0.0.1", "{port}", "--dry-run", ""), "PATH"),
    (("storescu", "127.0.0.1", "{port}", ".", "--journal", ""), "--journal"),
    (("storescu", "127.0.0.1", "{port}", ".", "--report", ""), "--report"),
    (("storescu", "127.0.0.1", "{port}", ".", "--user", "u", "--password-file", ""), "--password-file"),
    (("storescu", "127.0.0.1", "{port}", ".", "--tls-ca", ""), "--tls-ca"),
    (("echoscu", "127.0.0.1", "{port}", "--tls-cert", ""), "--tls-cert"),
    (("echoscu", "127.0.0.1", "{port}", "--tls-crl", ""), "--tls-crl"),
    (("storescp", "0", "--archive", ""), "--archive"),
    (("storescp", "0", "--config", ""), "--config"),
    (("storescp", "0", "--passwords", ""), "--passwords"),
    (("demo", "--keep", ""), "--keep"),
    (("archive", "ls", "--archive", ""), "--archive"),
    (("archive", "reindex", ""), "FOLDER"),
    (("archive", "export", "1.2.3", ""), "DESTINATION"),
]


@pytest.mark.parametrize(("arguments", "named"), CASES, ids=lambda value: " ".join(map(str, value))[:60])
def test_a_command_with_an_empty_path_is_wrong_usage(arguments: tuple[str | Path], named: str, tmp_path: Path) -> None:
    port = str(unused_port())
    done = dicomport(*(port if argument == "{port}" else argument for argument in arguments), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert "empty" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_parameter_that_is_a_path_rejects_an_empty_one() -> None:
    context = click.Context(group)
    waiting = [(name, group.get_command(context, name)) for name in group.list_commands(context)]
    checked = 0
    for name, command in waiting:
        assert command is not None
        if isinstance(command, click.Group):
            waiting += [(f"{name} {below}", found) for below, found in command.commands.items()]
        for parameter in command.params:
            if isinstance(parameter.type, click.Path | click.File):
                with pytest.raises(click.BadParameter, match="empty"):
                    parameter.type.convert("", parameter, click.Context(command))
                checked += 1
    assert checked > 20


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('archive = ""', "archive"),
        ('tls-ca = ""', "tls-ca"),
        ('passwords = ""', "passwords"),
        ('[peers.ct]\nae-title = "CT1"\narchive = ""', "archive"),
    ],
)
def test_an_empty_path_in_the_configuration_file_is_wrong(text: str, named: str, tmp_path: Path) -> None:
    settings = tmp_path / "receiver.toml"
    settings.write_text(text)
    done = dicomport("storescp", "0", "--config", settings, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert f'{named} = ""' in done.stderr or f"{named} = ''" in done.stderr
    assert list(tmp_path.iterdir()) == [settings]

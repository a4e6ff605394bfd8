"""The table [verify] of storescp's configuration."""

from __future__ import annotations

import json
import signal
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.cli.commands import FILES, dicomport, receiver

VALID = 'start = "22:00"\nend = 05:00:00\nrate = "20M"\n'


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ('start = "22:00"\nend = "05:00"', "[verify] has no rate"),
        (VALID + "x = 1", '[verify] unknown setting "x"'),
        (VALID.replace("22:00", "25:00"), "[verify] start = '25:00': expected a local time"),
        (VALID.replace("05:00:00", "7"), "[verify] end = 7: expected a local time"),
        (VALID.replace("20M", "fast"), "[verify] rate = 'fast': "),
        (VALID.replace('"20M"', "0"), "[verify] rate = 0: expected a number of bytes per second"),
        (VALID.replace('"20M"', "true"), "[verify] rate = True: expected a number of bytes per second"),
    ],
)
def test_a_wrong_table_is_explained(tmp_path: Path, table: str, complaint: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"[verify]\n{table}\n")
    done = dicomport("storescp", "0", "--archive", tmp_path / "archive", "--config", config)
    assert (done.returncode, complaint in done.stderr) == (2, True), done.stderr


def test_something_else_than_a_table_is_explained(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("verify = true\n")
    done = dicomport("storescp", "0", "--config", config)
    assert "verify is not a table: write [verify] with start, end, rate" in done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_receiver_verifies_its_archive_in_quiet_hours(tmp_path: Path, workers: str) -> None:
    """The quiet hours are now; the second receiver finds the instances of the first, one of them damaged."""
    root, config = tmp_path / "archive", tmp_path / "config.toml"
    with receiver(root) as first:
        sent = dicomport("storescu", "localhost", first.port, FILES / "CT_small.dcm", FILES / "MR_small.dcm")
        assert sent.returncode == 0
        first.stop()
    damaged, _ = sorted(root.glob("1*/*/*.dcm"))
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    now = datetime.now()  # noqa: DTZ005  # local time
    start, end = (f"{now + timedelta(hours=hours):%H:%M}" for hours in (-6, 6))
    config.write_text(f'[verify]\nstart = "{start}"\nend = "{end}"\nrate = "100M"\n')
    options = ("--config", config, "--workers", workers, "-v", "--log-format", "json")
    with receiver(root, *options) as second:
        assert second.process.stderr is not None
        lines = [*second.greeting.splitlines()]
        for line in second.process.stderr:
            lines.append(line)
            if "verification_finished" in line:
                break
        code, _, _ = second.stop(signal.SIGTERM)
        assert code == 0
    found = [json.loads(line) for line in lines if "discrepancy_found" in line]
    assert [(one["level"], one["reason"]) for one in found] == [
        ("error", "the data set differs from the received data set")
    ]
    finished = [json.loads(line) for line in lines if "verification_finished" in line]
    assert [(one["verified"], one["discrepancies"]) for one in finished] == [(2, 1)]
    shown = dicomport("archive", "ls", "--level", "instances", "--json", "--archive", root)
    verified = [
        json.loads(dicomport("archive", "show", uid, "--json", "--archive", root).stdout)["verified"]
        for uid in (json.loads(line)["sop_instance_uid"] for line in shown.stdout.splitlines())
    ]
    assert sorted(map(bool, verified)) == [False, True]

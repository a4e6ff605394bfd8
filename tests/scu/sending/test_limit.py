"""The limiting factor of a run, in the report and in the summary."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.cli.commands import dicomport as run_command
from tests.scu.data import part10

from dicomport import SendReport, Status, StorageSCP
from dicomport.scu import InstanceResult
from dicomport.scu.results import Timing
from dicomport.testing import Link


def report(timing: Timing, *results: InstanceResult, round_trip: float = 0.01) -> SendReport:
    return SendReport(results=results, associations=1, seconds=1.0, round_trip=round_trip, timing=timing)


ANSWERED = (InstanceResult(status=Status(0)), InstanceResult(status=Status(0xA700)))


@pytest.mark.parametrize(
    ("timing", "limit"),
    [
        (Timing(reading=0.5, sending=0.1, waiting=0.4), "disk"),
        (Timing(reading=0.1, sending=0.5, waiting=0.4), "network"),
        (Timing(reading=0.01, sending=0.01, waiting=0.039), "latency"),
        (Timing(reading=0.01, sending=0.01, waiting=0.041), "peer"),
    ],
)
def test_the_limit_is_the_part_that_took_longest(timing: Timing, limit: str) -> None:
    assert report(timing, *ANSWERED).bottleneck == limit


def test_unanswered_instances_do_not_count() -> None:
    waiting = Timing(waiting=0.039)
    assert report(waiting).bottleneck == ""
    earlier, lost = InstanceResult(status=Status(0), earlier=True), InstanceResult(reason="lost")
    assert report(waiting, earlier, lost).bottleneck == ""
    assert report(waiting, *ANSWERED, earlier, lost).bottleneck == "latency"
    assert report(waiting, ANSWERED[0], earlier, lost).bottleneck == "peer"


def test_a_round_trip_as_on_one_machine_is_no_latency() -> None:
    assert report(Timing(waiting=0.0001), *ANSWERED, round_trip=0.0009).bottleneck == "peer"
    assert report(Timing(waiting=0.0001), *ANSWERED, round_trip=0.001).bottleneck == "latency"


def test_a_peer_with_slow_responses_is_no_slow_network(tmp_path: Path) -> None:
    """Each response takes 0.1 s, that to the association request included; the system accepts connections at once."""
    paths = [part10(tmp_path / f"{number}.dcm", sop_instance=f"1.2.3.{number}", size=1000) for number in range(3)]
    with StorageSCP(lambda _request: 0x0000, port=0).in_thread() as scp, Link(scp.port, delay=0.05) as link:
        done = run_command("storescu", "127.0.0.1", str(link.port), *paths, "-j", "1", "--window", "1")

    assert done.returncode == 0
    assert re.search(r"3 of 3 files accepted: .* round trip [0-9.]+ ms\n", done.stderr)
    assert "bottleneck: the peer's responses" in done.stderr

"""The receiver's limits and timers, from the command line to their effect on a peer."""

import contextlib
import signal
from pathlib import Path

import click
import pytest
from tests.cli.commands import FILES, dicomport, receiver
from tests.scp.messages import request, store_command

from dicomport.cli.options.common import SIZE
from dicomport.scp import hash_password
from dicomport.testing import ScriptedSCU
from dicomport.wire import Abort, AssociateAC, AssociateRJ, RejectReason, UserIdentityRQ, UserInformation

CT = FILES / "CT_small.dcm"


def test_associations_are_limited_in_total_by_address_and_by_title(tmp_path: Path) -> None:
    options = ("--max-associations", "3", "--max-associations-per-address", "2", "--max-associations-per-aet", "1")
    limits = []
    with receiver(tmp_path / "archive", *options) as found, contextlib.ExitStack() as stack:
        for host, calling, limit in (
            ("127.0.0.1", "A", ""),
            ("127.0.0.1", "A", "with that calling AE title"),
            ("127.0.0.1", "B", ""),
            ("127.0.0.1", "C", "from that address"),
            ("127.0.0.2", "D", ""),
            ("127.0.0.3", "E", "in all"),
        ):
            peer = stack.enter_context(ScriptedSCU("127.0.0.1", int(found.port), source=host))
            peer.send(request(calling=calling))
            reply = peer.receive()
            if limit:
                limits.append(limit)
                assert reply == AssociateRJ(RejectReason.LOCAL_LIMIT_EXCEEDED, transient=True)
            else:
                assert isinstance(reply, AssociateAC)
        _, _, err = found.stop()
    assert [f"{number} associations {limit} already" in err for number, limit in enumerate(limits, 1)] == [True] * 3


def test_an_instance_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", "--max-instance-size", "30k") as found:
        done = dicomport("storescu", "--retries", "0", "127.0.0.1", found.port, CT)
    assert done.returncode == 1
    assert "0xA700 Failure: Out of resources (longer than 30000 bytes)" in done.stderr
    assert found.kept() == []


@pytest.mark.parametrize("in_file", [False, True])
def test_user_identities_of_one_address_are_limited(tmp_path: Path, *, in_file: bool) -> None:
    """All requests have arrived before the receiver runs again, and a check takes longer than reading them."""
    (tmp_path / "passwords").write_text(hash_password("jane", "hunter2"))
    (tmp_path / "config.toml").write_text("max-identity-checks-per-address = 1\npasswords = 'passwords'\n")
    options: tuple[str | Path, ...] = ("--max-identity-checks-per-address", "1", "--passwords", tmp_path / "passwords")
    if in_file:
        options = ("--config", tmp_path / "config.toml")
    identity = UserIdentityRQ(2, True, b"jane", b"hunter2")
    with receiver(tmp_path / "archive", *options) as found, contextlib.ExitStack() as stack:
        found.process.send_signal(signal.SIGSTOP)
        peers = [stack.enter_context(ScriptedSCU("127.0.0.1", int(found.port))) for _ in range(4)]
        for peer in peers:
            peer.send(request(items=UserInformation(maximum_length=16384, user_identity=identity)))
        found.process.send_signal(signal.SIGCONT)
        replies = [peer.receive() for peer in peers]
        _, _, err = found.stop()
    assert isinstance(replies[0], AssociateAC)
    assert AssociateRJ(RejectReason.LOCAL_LIMIT_EXCEEDED, transient=True) in replies
    assert "1 user identities from that address are being checked already" in err


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("1", 1),
        ("500m", 500_000_000),
        ("2G", 2_000_000_000),
        ("1.5 GB", 1_500_000_000),
        ("3TB", 3_000_000_000_000),
        ("64KiB", 65_536),
        ("1Gi", 1 << 30),
        ("0.5TiB", 1 << 39),
        (7, 7),
    ],
)
def test_sizes_have_units(given: str | int, expected: int) -> None:
    assert SIZE.convert(given, None, None) == expected


@pytest.mark.parametrize("given", ["", "G", "-5", "1e3", "1_000", "1 X", "GiB", "1KK", "nan", "inf", "\u0661", -1])
def test_other_sizes_are_wrong_usage(given: str | int) -> None:
    with pytest.raises(click.BadParameter, match="expected a number of bytes such as 500M, 2G or 1GiB"):
        SIZE.convert(given, None, None)


@pytest.mark.parametrize("option", ["--max-memory", "--max-instance-size"])
def test_limits_of_zero_are_wrong_usage(tmp_path: Path, option: str) -> None:
    done = dicomport("storescp", "0", "--archive", tmp_path / "archive", option, "0")
    assert done.returncode == 2
    assert "expected a number of bytes such as 500M, 2G or 1GiB, 1 or more" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("options", "timer"),
    [
        (("-tn", "0.2"), "idle"),
        (("--progress-timeout", "0.2", "--min-rate", "1000"), "progress"),
        (("--artim-timeout", "0.2"), "ARTIM"),
    ],
)
def test_each_timer_has_a_flag_and_a_line_in_the_log(tmp_path: Path, options: tuple[str, ...], timer: str) -> None:
    with receiver(tmp_path / "archive", "-v", *options) as found:
        with ScriptedSCU("127.0.0.1", int(found.port)) as peer:
            if timer != "ARTIM":
                peer.associate()
                peer.send(store_command() if timer == "progress" else b"")
                peer.expect(Abort)
            assert peer.receive() is None
        _, _, err = found.stop()
    assert f"the {timer} timer expired after 0.2 s" in err
    assert f"timer.{timer}: 1" in err


def test_the_soft_limit_of_open_files_is_raised_as_far_as_need_be(tmp_path: Path) -> None:
    wrapper = ("bash", "-c", 'ulimit -Sn 64; exec "$@"', "bash")
    with receiver(tmp_path / "archive", "--max-associations", "100", "--max-half-open", "50", wrapper=wrapper) as found:
        limits = Path(f"/proc/{found.process.pid}/limits").read_text(encoding="ascii")
        assert next(line.split()[3] for line in limits.splitlines() if line.startswith("Max open files")) == "350"
    assert "instead of" not in found.greeting


def test_a_low_hard_limit_allows_fewer_associations_and_is_logged(tmp_path: Path) -> None:
    wrapper = ("bash", "-c", 'ulimit -n 160; exec "$@"', "bash")
    options = ("--max-half-open", "50", "--max-associations-per-address", "1000")
    with receiver(tmp_path / "archive", *options, wrapper=wrapper) as found:
        peers = [ScriptedSCU("127.0.0.1", int(found.port)) for _ in range(5)]
        for peer in peers:
            peer.associate()
        with ScriptedSCU("127.0.0.1", int(found.port)) as one_more:
            one_more.send(request())
            assert isinstance(one_more.receive(), AssociateRJ)
        for peer in peers:
            peer.release()
            peer.socket.close()
        assert found.stop()[0] == 0
    assert "associations are limited to 5 instead of 1000" in found.greeting
    assert "ulimit -n" in found.greeting

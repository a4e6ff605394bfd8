"""The common criteria of all rows detect a receiver that failed."""

import contextlib
from collections.abc import Callable

import pytest
from tests.robustness.attacks import Attack, Target, data_set

from dicomport.testing import ScriptedSCU


def run(target: Target, row: Callable[[Attack], None]) -> None:
    with Attack(target) as attack:
        row(attack)


def test_an_unacknowledged_instance_is_detected(target: Target) -> None:
    def row(attack: Attack) -> None:
        with attack.associated() as peer:
            assert peer.store("1.2.3", data_set("1.2.3")).status == 0

    with pytest.raises(AssertionError, match="1 that nobody sent"):
        run(target, row)


def test_an_instance_that_is_not_what_was_sent_is_seen(target: Target) -> None:
    def row(attack: Attack) -> None:
        with attack.associated() as peer:
            assert peer.store("1.2.4", data_set("1.2.4")).status == 0
        attack.keep(data_set("1.2.4", b"other pixels"))

    with pytest.raises(AssertionError, match="1 missing, 1 that nobody sent"):
        run(target, row)


def test_a_descriptor_that_stays_open_is_seen(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.robustness.attacks._ROUND_TRIPS", 10)
    with contextlib.ExitStack() as left:

        def row(attack: Attack) -> None:
            with attack.associated() as peer:
                left.enter_context(peer.socket.dup())

        with pytest.raises(AssertionError, match="descriptors instead of"):
            run(target, row)


def test_memory_that_is_taken_only_for_a_moment_is_seen(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each association has a buffer; at the end of the row all buffers are free again."""

    def row(attack: Attack) -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                peer = stack.enter_context(ScriptedSCU("127.0.0.1", attack.port))
                peer.associate()
                peer.send(peer.encode_store(attack.uid(), bytes(1 << 20))[: 1 << 19])

    monkeypatch.setattr(target, "max_memory", 1 << 18)
    with pytest.raises(AssertionError, match="bytes more memory"):
        run(target, row)


def test_a_temporary_file_that_stays_is_seen(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.robustness.attacks._ROUND_TRIPS", 10)
    left = target.archive / "half.part"
    with pytest.raises(AssertionError, match=r"half\.part"):
        run(target, lambda _: left.touch())
    left.unlink()


def test_an_error_in_the_log_is_seen_unless_it_is_expected(target: Target) -> None:
    """A file blocks the name of a study's folder."""
    study = target.archive / "1.2.826.7"

    def row(attack: Attack) -> None:
        with attack.associated() as peer:
            assert peer.store("1.2.826.7.1", data_set("1.2.826.7.1", study=study.name)).status != 0

    def expecting(attack: Attack) -> None:
        attack.expected_errors = {"storage_failed"}
        row(attack)

    study.touch()
    with pytest.raises(AssertionError, match="storage_failed"):
        run(target, row)
    run(target, expecting)
    study.unlink()

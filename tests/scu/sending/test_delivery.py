"""`storescu` against peers that do not do as they should: the exact report, and the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import gc
import json
import os
import queue
import signal
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from tests.cli.commands import dicomport as run_command, start
from tests.scu.data import CT, IMPLICIT, MR, instance, part10

import dicomport
from dicomport.files import system
from dicomport.net import Address
from dicomport.scu import RetryPolicy
from dicomport.scu.sending.journal import Journal
from dicomport.testing import Peer, ScriptedSCP, in_turn, response
from dicomport.wire import Abort, AssociateRJ, AssociateRQ, CStoreRQ, RejectReason, ReleaseRQ

HOST: Final = "127.0.0.1"
SOON: Final = ("--retry-delay", "0.01")
CLOSED: Final = "the association was lost: the peer closed the connection"


@dataclass(frozen=True)
class Done:
    code: int
    rows: list[dict[str, Any]]
    err: str

    def facts(self, *keys: str) -> list[tuple[Any, ...]]:
        """Return these fields of each row, in the order of the paths."""
        return [tuple(row[key] for key in keys) for row in sorted(self.rows, key=lambda row: str(row["path"]))]


@pytest.fixture
def storescu(tmp_path: Path) -> Callable[..., Done]:
    report = tmp_path / "report.json"

    def run(port: int, *arguments: object) -> Done:
        done = run_command("storescu", HOST, str(port), *map(str, arguments), *SOON, "--report", str(report))
        rows = [json.loads(line) for line in report.read_text().splitlines()]
        assert "Traceback" not in done.stderr
        return Done(done.returncode, rows, done.stderr)

    return run


def files(folder: Path, count: int, sop_class: str = CT, first: int = 1) -> list[Path]:
    return [
        part10(folder / f"{number:03}.dcm", sop_class=sop_class, sop_instance=f"1.2.3.{number}")
        for number in range(first, first + count)
    ]


def uids(peer: Peer) -> list[str]:
    return [store.command.affected_sop_instance_uid for store in peer.stores]


Storescu = Callable[..., Done]


def test_a_peer_that_refuses_half_the_contexts_gets_the_other_half(tmp_path: Path, storescu: Storescu) -> None:
    what = [*files(tmp_path, 2), *files(tmp_path, 2, MR, first=3)]

    def script(peer: Peer) -> None:
        peer.accept(refuse=[MR])
        peer.serve()

    with ScriptedSCP(script) as scp:
        done = storescu(scp.port, *what)

    no = "the peer does not accept MR Image Storage in Implicit VR Little Endian: abstract syntax not supported"
    assert done.code == 1
    assert done.facts("path", "status", "association", "context_id", "attempts") == [
        (str(what[0]), 0, 1, 1, 1),
        (str(what[1]), 0, 1, 1, 1),
        (str(what[2]), None, 0, 0, 0),
        (str(what[3]), None, 0, 0, 0),
    ]
    reasons = [reason for (reason,) in done.facts("reason")]
    assert reasons[:2] == ["", ""]
    assert all(reason.startswith(no.partition(":")[0]) for reason in reasons[2:])
    assert len(scp.stores) == 2


def test_out_of_resources_twice_and_then_success_is_three_attempts(tmp_path: Path, storescu: Storescu) -> None:
    [path] = files(tmp_path, 1)

    def script(peer: Peer) -> None:
        peer.accept()
        peer.serve(0xA700, 0xA701)

    with ScriptedSCP(script) as scp:
        done = storescu(scp.port, path)

    assert done.code == 0
    assert done.facts("status", "accepted", "attempts", "reason") == [(0, True, 3, "")]
    assert len(scp.stores) == 3


def test_out_of_resources_for_good_is_a_failure_after_so_many_retries(tmp_path: Path, storescu: Storescu) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.serve(*[0xA700] * 9)

    with ScriptedSCP(script) as scp:
        done = storescu(scp.port, *files(tmp_path, 2), "--retries", 2)

    assert done.code == 1
    assert done.facts("status", "accepted", "attempts") == [(0xA700, False, 3)] * 2
    assert "2 failed: 0xA700 Failure: Out of resources" in done.err
    assert len(scp.stores) == 6


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0xC210, 0x0122, 0x0110, 0x0124])
def test_a_permanent_failure_is_not_retried(status: int, tmp_path: Path, storescu: Storescu) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.serve(status)

    with ScriptedSCP(script) as scp:
        done = storescu(scp.port, *files(tmp_path, 2), "-j", 1)

    assert done.code == 1
    assert done.facts("status", "accepted", "attempts") == [(status, False, 1), (0, True, 1)]
    assert len(scp.stores) == 2


def test_an_instance_cut_off_by_the_peer_is_sent_again(tmp_path: Path, storescu: Storescu) -> None:
    path = part10(tmp_path / "big.dcm", size=1 << 20)

    def hang_up(peer: Peer) -> None:
        peer.accept()
        peer.socket.recv(1000)

    def serve(peer: Peer) -> None:
        peer.accept()
        peer.serve()

    with ScriptedSCP(in_turn(hang_up, hang_up, serve)) as scp:
        done = storescu(scp.port, path, "--window", 1)

    assert done.code == 0
    assert done.facts("status", "association", "attempts") == [(0, 3, 3)]


def test_a_peer_that_always_closes_fails_after_the_retries(tmp_path: Path, storescu: Storescu) -> None:
    def hang_up(peer: Peer) -> None:
        peer.accept()
        peer.expect(CStoreRQ)

    with ScriptedSCP(hang_up) as scp:
        done = storescu(scp.port, *files(tmp_path, 1), "--retries", 2, "--window", 1)

    assert done.code == 1
    assert done.facts("status", "reason", "association", "attempts") == [(None, CLOSED, 3, 3)]
    assert len(scp.peers) == 3


@pytest.mark.parametrize("window", [1, 8])
def test_an_instance_that_ends_associations_loses_no_other(window: int, tmp_path: Path, storescu: Storescu) -> None:
    what = files(tmp_path, 6)

    def script(peer: Peer) -> None:
        peer.accept(window=window)
        for request in peer.requests():
            if isinstance(request.command, CStoreRQ) and request.command.affected_sop_instance_uid == "1.2.3.3":
                return
            peer.answer(request)

    with ScriptedSCP(script) as scp:
        done = storescu(scp.port, *what, "--window", window, "--retries", 2)

    assert done.code == 1
    assert done.facts("path", "accepted") == [(str(path), path != what[2]) for path in what]
    assert done.facts("attempts", "reason")[2] == (3, CLOSED)


def test_a_peer_that_never_answers_is_given_up_and_asked_again(tmp_path: Path, storescu: Storescu) -> None:
    def silent(peer: Peer) -> None:
        peer.accept()
        peer.expect(CStoreRQ)
        peer.expect(Abort)

    with ScriptedSCP(silent) as scp:
        done = storescu(scp.port, *files(tmp_path, 1), "-td", 0.2, "--retries", 1, "--window", 1)

    assert done.code == 1
    assert done.facts("status", "reason", "attempts") == [
        (None, "the association was lost: the dimse timer expired after 0.2 s", 2)
    ]
    assert len(scp.peers) == 2


def test_a_response_with_a_wrong_message_id_is_not_matched(tmp_path: Path, storescu: Storescu) -> None:
    def wrong(peer: Peer) -> None:
        peer.accept()
        request = peer.expect(CStoreRQ)
        right = response(request.command)
        peer.answer(request, dataclasses.replace(right, message_id_being_responded_to=4711))
        peer.expect(Abort)

    def serve(peer: Peer) -> None:
        peer.accept()
        peer.serve()

    with ScriptedSCP(in_turn(wrong, serve)) as scp:
        done = storescu(scp.port, *files(tmp_path, 1), "-td", 0.2, "--window", 1)

    assert done.code == 0
    assert done.facts("status", "association", "attempts") == [(0, 2, 2)]


# The Asynchronous Operations Window (PS3.7 D.3.3.3).


def test_answers_may_come_in_any_order_within_the_window(tmp_path: Path, storescu: Storescu) -> None:
    what = files(tmp_path, 6)
    statuses = {f"1.2.3.{number}": status for number, status in enumerate((0, 0xB000, 0xA900, 0, 0xB006, 0xC000), 1)}

    def backwards(peer: Peer) -> None:
        peer.accept(window=3)
        for _ in range(2):
            for request in reversed([peer.expect(CStoreRQ) for _ in range(3)]):
                peer.answer(request, statuses[request.command.affected_sop_instance_uid])
        peer.serve()

    with ScriptedSCP(backwards) as scp:
        done = storescu(scp.port, *what, "-j", 1)

    assert done.code == 1
    assert done.facts("path", "sop_instance_uid", "status", "attempts") == [
        (str(path), f"1.2.3.{number}", statuses[f"1.2.3.{number}"], 1) for number, path in enumerate(what, 1)
    ]


@pytest.mark.parametrize(
    ("granted", "wanted", "outstanding"), [(1, 16, 1), (3, 16, 3), (0, 5, 5), (None, 16, 1), (16, 2, 2)]
)
def test_as_many_are_outstanding_as_both_sides_want(
    granted: int | None, wanted: int, outstanding: int, tmp_path: Path, storescu: Storescu
) -> None:
    count = 8
    proposed: list[int] = []
    beyond: list[bytes] = []

    def script(peer: Peer) -> None:
        request = peer.accept(window=granted)
        window = request.user_information.operations_window
        proposed.append(window.invoked if window else 1)
        waiting = [peer.expect(CStoreRQ) for _ in range(outstanding)]
        # One more would have followed at once.
        peer.socket.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            beyond.append(peer.socket.recv(1))
        for _ in range(count - outstanding):
            peer.answer(waiting.pop(0))
            waiting.append(peer.expect(CStoreRQ))
        for request_ in waiting:
            peer.answer(request_)
        peer.serve()

    with ScriptedSCP(script) as scp:
        done = storescu(scp.port, *files(tmp_path, count), "-j", 1, "--window", wanted)

    assert done.code == 0
    assert (proposed, beyond) == ([wanted], [])
    assert done.facts("status", "attempts", "association") == [(0, 1, 1)] * count


def test_a_peer_that_closes_on_the_window_item_is_asked_again_without(tmp_path: Path, storescu: Storescu) -> None:
    asked: list[bool] = []

    def script(peer: Peer) -> None:
        request = peer.expect(AssociateRQ)
        asked.append(request.user_information.operations_window is not None)
        if asked[-1]:
            return
        peer.accept(request)
        # The second association of the run uses the result of the first.
        if len(asked) == 2:
            peer.answer(peer.expect(CStoreRQ))
            return
        peer.serve()

    with ScriptedSCP(script) as scp:
        done = storescu(scp.port, *files(tmp_path, 3), "-j", 1)

    assert done.code == 0
    assert asked == [True, False, False]
    assert done.facts("status") == [(0,)] * 3


def test_a_peer_that_closes_on_the_first_message_is_asked_without_window(tmp_path: Path, storescu: Storescu) -> None:
    """Robustness A11."""
    asked: list[bool] = []

    def script(peer: Peer) -> None:
        request = peer.accept()
        asked.append(request.user_information.operations_window is not None)
        if asked[-1]:
            peer.expect(CStoreRQ)
        else:
            peer.serve()

    with ScriptedSCP(script) as scp:
        done = storescu(scp.port, *files(tmp_path, 3), "-j", 1, "--retries", 0)

    assert done.code == 0
    assert asked == [True, False]
    assert done.facts("status", "association", "attempts") == [(0, 2, 1)] * 3


def test_a_peer_that_always_closes_is_given_up(tmp_path: Path, storescu: Storescu) -> None:
    def script(peer: Peer) -> None:
        peer.expect(AssociateRQ)

    with ScriptedSCP(script) as scp:
        done = storescu(scp.port, *files(tmp_path, 1), "--retries", 1)

    assert done.code == 3
    assert done.facts("reason", "attempts") == [("no association: the peer closed the connection", 0)]
    assert len(scp.peers) == 3


def test_message_ids_begin_anew_and_pass_over_those_outstanding() -> None:
    seen: list[int] = []

    def script(peer: Peer) -> None:
        peer.accept(window=3)
        first = peer.expect(CStoreRQ)
        for request in peer.requests():
            assert isinstance(request.command, CStoreRQ)
            seen.append(request.command.message_id)
            peer.answer(request)
            if len(seen) == 3:
                peer.answer(first)

    async def scenario(port: int) -> None:
        from dicomport.wire import AsynchronousOperationsWindow

        async with dicomport.associate(
            HOST, port, contexts=[CT], operations_window=AsynchronousOperationsWindow(3, 1)
        ) as association:
            assert association.window == 3
            first = await association.submit(instance(1))
            assert first == 1
            association._requestor.exchange._message_id = 0xFFFD
            answered = []
            for number in (2, 3, 4):
                sent = await association.submit(instance(number))
                message_id, status = await association.next_response()
                assert (message_id, status.code) == (sent, 0)
                answered.append(message_id)
            assert answered == [0xFFFE, 0xFFFF, 2]
            assert (await association.next_response())[0] == first

    with ScriptedSCP(script) as scp:
        asyncio.run(scenario(scp.port))
    assert seen == [0xFFFE, 0xFFFF, 2]


# Associations that cannot be established.


def reject(reason: RejectReason, *, transient: bool = False) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.expect(AssociateRQ)
        peer.send(AssociateRJ(reason, transient=transient))
        peer.expect_close()

    return script


def serve(peer: Peer) -> None:
    peer.accept()
    peer.serve()


def test_a_transient_rejection_is_tried_again(tmp_path: Path, storescu: Storescu) -> None:
    busy = reject(RejectReason.LOCAL_LIMIT_EXCEEDED, transient=True)

    with ScriptedSCP(in_turn(busy, busy, serve)) as scp:
        done = storescu(scp.port, *files(tmp_path, 1))

    assert (done.code, done.facts("status", "attempts")) == (0, [(0, 1)])


def test_a_permanent_rejection_is_not_tried_again(tmp_path: Path, storescu: Storescu) -> None:
    with ScriptedSCP(reject(RejectReason.CALLED_AE_TITLE_NOT_RECOGNIZED)) as scp:
        done = storescu(scp.port, *files(tmp_path, 1))

    assert (done.code, len(scp.peers)) == (3, 1)
    assert "called AE title not recognized" in done.rows[0]["reason"]


def test_a_peer_with_one_association_gets_all_over_it(tmp_path: Path, storescu: Storescu) -> None:
    what = files(tmp_path, 80)
    more = threading.Event()

    def first(peer: Peer) -> None:
        peer.accept()
        peer.answer(peer.expect(CStoreRQ))
        assert more.wait(30)
        peer.serve()

    def second(peer: Peer) -> None:
        reject(RejectReason.LOCAL_LIMIT_EXCEEDED, transient=True)(peer)
        more.set()

    with ScriptedSCP(in_turn(first, second)) as scp:
        done = storescu(scp.port, *what, "-j", 2)

    assert done.code == 0
    assert {association for (association,) in done.facts("association")} == {1}
    assert len(scp.stores) == 80


def test_a_rejected_worker_waits_for_the_outcome_of_another(tmp_path: Path, storescu: Storescu) -> None:
    """Both associations are asked for at once, and the rejection of one may come before the acceptance of the other."""
    rejected = threading.Event()

    def first(peer: Peer) -> None:
        assert rejected.wait(30)
        peer.accept()
        peer.serve()

    def second(peer: Peer) -> None:
        reject(RejectReason.LOCAL_LIMIT_EXCEEDED, transient=True)(peer)
        rejected.set()

    with ScriptedSCP(in_turn(first, second)) as scp:
        done = storescu(scp.port, *files(tmp_path, 80), "-j", 2)

    assert done.code == 0
    assert {association for (association,) in done.facts("association")} == {1}
    assert len(scp.stores) == 80


def test_a_peer_that_lets_the_second_association_wait_holds_nothing_up(tmp_path: Path, storescu: Storescu) -> None:
    """Some peers serve one connection at a time: only the system accepts the second connection."""
    first_over = threading.Event()

    def first(peer: Peer) -> None:
        serve(peer)
        first_over.set()

    def second(peer: Peer) -> None:
        assert first_over.wait(30)
        peer.drain()

    with ScriptedSCP(in_turn(first, second)) as scp:
        done = storescu(scp.port, *files(tmp_path, 80), "-j", 2)

    assert (done.code, len(done.rows)) == (0, 80)


def test_two_associations_share_the_work(tmp_path: Path, storescu: Storescu) -> None:
    both = threading.Barrier(2)

    def script(peer: Peer) -> None:
        peer.accept()
        request = peer.expect(CStoreRQ)
        both.wait(30)
        peer.answer(request)
        peer.serve()

    with ScriptedSCP(script, connections=2) as scp:
        done = storescu(scp.port, *files(tmp_path, 80), "-j", 2)

    assert (done.code, len(done.rows)) == (0, 80)
    assert {association for (association,) in done.facts("association")} == {1, 2}
    sent = [uid for peer in scp.peers for uid in uids(peer)]
    assert sorted(sent) == sorted(f"1.2.3.{number}" for number in range(1, 81))


def test_the_next_file_is_read_while_an_answer_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    what = files(tmp_path, 3)
    opened: queue.SimpleQueue[str] = queue.SimpleQueue()

    def noting(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        opened.put(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        return os.preadv(descriptor, buffers, offset)

    monkeypatch.setattr(system, "preadv", noting)

    def script(peer: Peer) -> None:
        peer.accept()
        first = peer.expect(CStoreRQ)
        assert [opened.get(timeout=30) for _ in range(2)] == list(map(str, what[:2]))
        # Bytes read from a file are not sent if the file has changed since.
        what[1].unlink()
        peer.answer(first)
        peer.serve()

    with ScriptedSCP(script) as scp:
        report = dicomport.blocking.send(what, HOST, scp.port, window=1)

    assert [result.path for result in report.accepted] == [what[0], what[2]]
    [failed] = report.failed
    assert (failed.path, failed.attempts) == (what[1], 0)
    assert failed.reason.startswith("cannot be read: ")
    assert report.associations == 1


# Ends.


def test_fail_fast_ends_the_run_with_the_first_failure(tmp_path: Path, storescu: Storescu) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.serve(0, 0xC000)

    with ScriptedSCP(script) as scp:
        done = storescu(scp.port, *files(tmp_path, 5), "--fail-fast", "--window", 1)

    assert done.code == 1
    assert done.facts("status") == [(0,), (0xC000,)]
    assert "3 not sent" in done.err
    assert len(scp.stores) == 2


def test_ctrl_c_lets_operations_in_flight_finish(tmp_path: Path) -> None:
    in_flight, interrupted = threading.Event(), threading.Event()
    report, journal = tmp_path / "report.json", tmp_path / "journal"
    folder = tmp_path / "files"
    folder.mkdir()
    files(folder, 4)

    def script(peer: Peer) -> None:
        peer.accept()
        request = peer.expect(CStoreRQ)
        in_flight.set()
        assert interrupted.wait(30)
        peer.answer(request)
        peer.expect(ReleaseRQ)

    with ScriptedSCP(script) as scp:
        process = start(
            *("storescu", HOST, str(scp.port), folder, "--window", "1", "--report", report, "--journal", journal)
        )
        assert in_flight.wait(30)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "finishing instances in transfer" in process.stderr.readline()
        interrupted.set()
        _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "1 of 4 files accepted" in err
    assert "3 not sent" in err
    assert len(report.read_text().splitlines()) == len(journal.read_text().splitlines()) == 1


def test_ctrl_c_does_not_wait_for_a_list_that_goes_on(tmp_path: Path) -> None:
    [path] = files(tmp_path, 1)
    report = tmp_path / "report.json"
    listing, more = os.pipe()
    with ScriptedSCP(serve) as scp, os.fdopen(more, "wb", buffering=0) as pipe:
        process = start("storescu", HOST, str(scp.port), "-", "--report", report, "--json", stdin=listing)
        os.close(listing)
        pipe.write(f"{path}\n".encode())
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["accepted"]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "1 of 1 file accepted" in err
    assert len(report.read_text().splitlines()) == 1


def test_a_second_ctrl_c_aborts(tmp_path: Path) -> None:
    in_flight = threading.Event()
    report = tmp_path / "report.json"
    files(tmp_path, 1)

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect(CStoreRQ)
        in_flight.set()
        peer.expect(Abort)

    with ScriptedSCP(script) as scp:
        process = start("storescu", HOST, str(scp.port), tmp_path / "001.dcm", "--report", report)
        assert in_flight.wait(30)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "finishing instances in transfer" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)

    assert process.returncode == 130
    [row] = map(json.loads, report.read_text().splitlines())
    assert row["reason"] == "interrupted: it is unknown whether the peer has stored it"


# The same through the library.


def test_results_and_inputs_may_be_iterated_one_by_one() -> None:
    async def scenario(port: int) -> list[str]:
        got: list[str] = []
        answered = asyncio.Event()

        async def as_they_come() -> AsyncIterator[dicomport.Source]:
            yield instance(1)
            # Discovered only after the first has been sent: sending starts before discovery ends.
            await answered.wait()
            yield instance(2)

        sending = dicomport.send(as_they_come(), HOST, port)
        async for result in sending:
            got.append(result.sop_instance_uid)
            answered.set()
        assert sending.report().associations == 1
        return got

    with ScriptedSCP(serve) as scp:
        assert asyncio.run(scenario(scp.port)) == ["1.2.3.1", "1.2.3.2"]


def test_a_run_is_stopped_from_inside() -> None:
    async def scenario(port: int) -> dicomport.SendReport:
        sending = dicomport.send(
            map(instance, range(1, 9)), HOST, port, window=1, on_result=lambda _result: sending.stop()
        )
        return await sending

    with ScriptedSCP(serve) as scp:
        report = asyncio.run(scenario(scp.port))

    assert (len(report.accepted), report.failed, report.not_attempted) == (1, (), 7)


def test_a_cancelled_send_does_not_wait_for_further_input() -> None:
    async def scenario(port: int) -> dicomport.SendReport:
        async def one_and_no_end() -> AsyncIterator[dicomport.Source]:
            yield instance(1)
            await asyncio.Event().wait()

        sending = dicomport.send(one_and_no_end(), HOST, port, on_result=lambda _result: sending.stop())
        return await asyncio.wait_for(sending, 30)

    with ScriptedSCP(serve) as scp:
        report = asyncio.run(scenario(scp.port))

    assert (len(report.accepted), report.failed, report.not_attempted) == (1, (), 0)


def test_an_exception_of_the_input_is_raised_even_a_timeout() -> None:
    async def late() -> AsyncIterator[dicomport.Source]:
        yield instance(1)
        raise TimeoutError("the work list did not answer")

    async def scenario(port: int) -> None:
        await dicomport.send(late(), HOST, port)

    with ScriptedSCP(serve) as scp, pytest.raises(TimeoutError, match="the work list did not answer"):
        asyncio.run(scenario(scp.port))


def test_leaving_the_iteration_aborts_the_association() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.answer(peer.expect(CStoreRQ))
        assert isinstance(peer.expect(CStoreRQ).command, CStoreRQ)
        peer.expect(Abort)

    async def scenario(port: int) -> None:
        async with contextlib.aclosing(
            dicomport.send(map(instance, (1, 2)), HOST, port, window=1).results()
        ) as results:
            async for _ in results:
                break

    with ScriptedSCP(script) as scp:
        asyncio.run(scenario(scp.port))


def test_data_sets_in_memory_are_taken_in_as_others_go() -> None:
    """The instances of a generator are not all kept in memory: here 400 MB in pieces of 4 MB."""
    import tracemalloc

    data = bytes(4 << 20)

    def made() -> Any:
        for number in range(100):
            yield instance(number, syntax=IMPLICIT, data=data + bytes(2 * number))

    async def scenario(port: int) -> int:
        tracemalloc.start()
        try:
            report = await dicomport.send(made(), HOST, port)
            assert len(report.accepted) == 100
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    async def take(_request: dicomport.StoreRequest) -> int:
        return 0x0000

    with dicomport.StorageSCP(take, port=0).in_thread() as scp:
        assert asyncio.run(scenario(scp.port)) < 200 << 20


def test_retry_policy_values() -> None:
    policy = RetryPolicy(retries=2, seconds=10, first_delay=1, max_delay=3)

    assert [policy.allows(failures, 0) for failures in (1, 2, 3)] == [True, True, False]
    assert [policy.allows(1, elapsed) for elapsed in (10, 11)] == [True, False]
    for failures, average in ((1, 1), (2, 2), (3, 3), (50, 3)):
        delays = [policy.delay(failures) for _ in range(200)]
        assert average / 2 <= min(delays) < average < max(delays) <= average * 1.5


def test_a_peer_that_has_answered_within_a_window_is_asked_with_it_again(tmp_path: Path, storescu: Storescu) -> None:
    """A later loss has another cause than the window."""
    asked: list[bool] = []

    def script(peer: Peer) -> None:
        request = peer.accept(window=2)
        asked.append(request.user_information.operations_window is not None)
        first = peer.expect(CStoreRQ)
        if len(asked) == 2:
            return
        peer.answer(first)
        if len(asked) == 3:
            peer.serve()

    with ScriptedSCP(script) as scp:
        done = storescu(scp.port, *files(tmp_path, 4), "-j", 1, "--window", 2)

    assert (done.code, done.facts("status")) == (0, [(0,)] * 4)
    assert asked == [True, True, True]


@pytest.mark.parametrize("options", [{"associations": 0}, {"window": 0}])
def test_a_number_below_one_is_refused_before_anything_is_sent(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="associations and window must be at least 1"):
        dicomport.send(instance(1), HOST, 1, **options)  # type: ignore[arg-type]


def test_a_sending_that_never_began_can_be_closed(recwarn: pytest.WarningsRecorder) -> None:
    """Nothing is sent, and Python warns of no coroutine that nothing awaited."""
    sending = dicomport.send(instance(1), HOST, 1)
    sending.close()
    del sending
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


def test_an_instance_is_accepted_even_if_the_journal_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At worst a later run sends it again. Half a line would make the next line invalid."""
    path = tmp_path / "journal"
    real, room = system.write, [1, 1]

    def write(descriptor: int, data: bytes) -> int:
        is_journal = os.path.samestat(os.fstat(descriptor), path.stat())
        return real(descriptor, data[: len(data) // 2] if is_journal and room and room.pop() else data)

    what = files(tmp_path, 3)
    with ScriptedSCP(serve) as scp:
        address = Address(HOST, scp.port)
        with Journal(path, address, "ANY-SCP") as journal:
            monkeypatch.setattr(system, "write", write)
            report = dicomport.blocking.send(what, HOST, scp.port, associations=1, window=1, journal=journal)
        with Journal(path, address, "ANY-SCP") as journal:
            again = dicomport.blocking.send(what, HOST, scp.port, associations=1, window=1, journal=journal)

    assert len(report.accepted) == 3
    assert report.journal_error == os.strerror(errno.ENOSPC)
    assert [json.loads(line)["sop_instance_uid"] for line in path.read_text().splitlines()] == [
        *("1.2.3.3", "1.2.3.1", "1.2.3.2")
    ]
    assert {result.sop_instance_uid for result in again.results if result.earlier} == {"1.2.3.3"}

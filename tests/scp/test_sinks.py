"""Sinks: each failure is answered, and an incomplete instance is never committed."""

import errno
import threading
from collections.abc import Callable
from typing import Final

import pytest
from tests.core.messages import RELEASE_RQ
from tests.scp.messages import DATA_SET, STORE, in_fragments, store, store_command
from tests.scp.storages import Recorder

from dicomport import Sink, Status, StorageSCP, StoreOperation
from dicomport.scp import Storage, status_of
from dicomport.testing import ScriptedSCU
from dicomport.wire import Abort, AbortReason, CStoreRSP

LONG: Final = bytes(range(256)) * 200
"""A data set of more than one PDU."""

NO_SPACE: Final = "no space left to store the instance"
NOT_WRITTEN: Final = "the instance could not be written"

FAILURES: Final[dict[str, tuple[Exception, int, str]]] = {
    "ENOSPC": (OSError(errno.ENOSPC, "secret", "/secret/path"), 0xA700, NO_SPACE),
    "EDQUOT": (OSError(errno.EDQUOT, "secret"), 0xA700, NO_SPACE),
    "EIO": (OSError(errno.EIO, "secret"), 0x0110, NOT_WRITTEN),
    "EROFS": (OSError(errno.EROFS, "secret"), 0x0110, NOT_WRITTEN),
    "EMFILE": (OSError(errno.EMFILE, "secret"), 0x0110, NOT_WRITTEN),
    "an OSError without a number": (OSError("secret"), 0x0110, NOT_WRITTEN),
    "ValueError": (ValueError("secret"), 0x0110, ""),
    "ExceptionGroup": (ExceptionGroup("secret", [ValueError("secret")]), 0x0110, ""),
}

CALLS: Final = {
    "begin": ["begin"],
    "write": ["begin", "write", "discard"],
    "commit": ["begin", "write", "commit", "discard"],
}


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize(("error", "status", "comment"), FAILURES.values(), ids=FAILURES)
def test_a_sink_that_fails_is_answered_and_the_association_lives(
    method: str, error: Exception, status: int, comment: str
) -> None:
    storage = Recorder(fails=method, error=error)
    with StorageSCP(storage, port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate()
        for message_id in (1, 2):
            storage.calls.clear()
            peer.send(store_command(message_id), in_fragments(STORE, LONG, 10_000))
            answer = peer.expect(CStoreRSP).command
            assert (answer.message_id_being_responded_to, answer.status) == (message_id, status)
            assert answer.error_comment == comment
            assert storage.calls == CALLS[method]
        assert storage.data == {}
        # With free space again, stores succeed.
        storage.fails = ""
        assert peer.store("1.2.3.4", LONG, message_id=3).status == 0x0000
        peer.release()
    assert storage.data == {"1.2.3.4": LONG}


def test_a_discard_that_fails_changes_nothing_for_the_peer(caplog: pytest.LogCaptureFixture) -> None:
    class Worse(Recorder):
        def called(self, what: str) -> None:
            super().called(what)
            if what == "discard":
                raise RuntimeError("secret")

    storage = Worse(fails="write", error=OSError(errno.ENOSPC, "full"))
    with StorageSCP(storage, port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate()
        assert peer.store("1.2.3.4", DATA_SET).status == 0xA700
        storage.fails = ""
        assert peer.store("1.2.3.4", DATA_SET).status == 0x0000
        peer.release()
    assert "discard_failed" in caplog.text


def test_a_status_from_begin_refuses_and_the_data_set_is_passed_over() -> None:
    storage = Recorder(refusal=Status(0x0124, "not from you", (0x00100020,)))
    with StorageSCP(storage, port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate()
        peer.send(store_command(5), in_fragments(STORE, LONG, 1000))
        answer = peer.expect(CStoreRSP).command
        assert (answer.status, answer.error_comment, answer.offending_element) == (
            0x0124,
            "not from you",
            (0x00100020,),
        )
        storage.refusal = None
        assert peer.store("1.2.3.4", DATA_SET, message_id=6).status == 0x0000
    assert storage.calls == ["begin", "begin", "write", "commit"]
    assert storage.data == {"1.2.3.4": DATA_SET}


def test_a_status_from_begin_is_sent_only_once_the_data_set_is_over() -> None:
    storage = Recorder(refusal=Status(0xA700))
    with (
        StorageSCP(storage, port=0).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as peer,
        ScriptedSCU("127.0.0.1", scp.port) as other,
    ):
        peer.associate()
        other.associate()
        whole = in_fragments(STORE, LONG, 1000)
        peer.send(store_command(5), whole[:-1])
        assert other.store("1.2.3.4", DATA_SET).status == 0xA700
        assert peer.silent
        peer.send(whole[-1:])
        assert peer.expect(CStoreRSP).command.status == 0xA700


def test_a_sink_gets_the_received_bytes_in_order() -> None:
    storage = Recorder()
    with StorageSCP(storage, port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate()
        for size in (1, 7, 1000, 16378, 100_000):
            peer.send(store_command(1, f"1.2.{size}"), in_fragments(STORE, LONG, size))
            assert peer.expect(CStoreRSP).command.status == 0x0000
            assert storage.data[f"1.2.{size}"] == LONG
        peer.send(store(2, "1.2.0", b""))
        assert peer.expect(CStoreRSP).command.status == 0x0000
        assert storage.data["1.2.0"] == b""


def test_requests_sent_without_waiting_are_answered_in_order() -> None:
    """Without a negotiated window pipelined requests are not aborted: unserved ones wait (C9)."""
    storage = Recorder()
    with StorageSCP(storage, port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate()
        peer.send(*(store(number, f"1.2.{number}", LONG[: 2 * number]) for number in range(1, 101)), RELEASE_RQ)
        for number in range(1, 101):
            answer = peer.expect(CStoreRSP).command
            assert (answer.message_id_being_responded_to, answer.affected_sop_instance_uid, answer.status) == (
                number,
                f"1.2.{number}",
                0x0000,
            )
        assert peer.receive() is not None
    assert storage.data == {f"1.2.{number}": LONG[: 2 * number] for number in range(1, 101)}


@pytest.mark.parametrize("message_ids", [(7, 7, 7), (65534, 65535, 0, 1)])
def test_message_ids_may_repeat_and_wrap(message_ids: tuple[int, ...]) -> None:
    with StorageSCP(Recorder(), port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate()
        for message_id in message_ids:
            assert peer.store("1.2.3.4", DATA_SET, message_id=message_id).message_id_being_responded_to == message_id


class Watched(Recorder):
    """Sets events when data arrives and when it is discarded."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()
        self.discarded = threading.Event()

    def called(self, what: str) -> None:
        super().called(what)
        if what == "write":
            self.written.set()
        if what == "discard":
            self.discarded.set()


ENDINGS: Final[dict[str, Callable[[ScriptedSCU], None]]] = {
    "closes": lambda peer: peer.socket.close(),
    "resets": ScriptedSCU.reset,
    "aborts": ScriptedSCU.abort,
}


LAST_PDU: Final = 212
"""Length of the last P-DATA-TF of `LONG` in fragments of 1000 bytes. Each of those before it has 1012."""


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        *((name, missing) for name in ("closes", "resets") for missing in (1, 3, LAST_PDU, LAST_PDU + 1006, 25_000)),
        # Elsewhere than between PDUs, an A-ABORT would be data.
        ("aborts", LAST_PDU),
        ("aborts", LAST_PDU + 1012),
    ],
)
def test_a_peer_that_goes_inside_a_data_set_leaves_nothing(name: str, missing: int) -> None:
    storage = Watched()
    with StorageSCP(storage, port=0).in_thread() as scp:
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.associate()
            peer.send(store_command(), in_fragments(STORE, LONG, 1000)[:-missing])
            assert storage.written.wait(60)
            ENDINGS[name](peer)
        assert storage.discarded.wait(60)
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.associate()
            assert peer.store("1.2.9", DATA_SET).status == 0x0000
    assert storage.calls == ["begin", "write", "discard", "begin", "write", "commit"]
    assert list(storage.data) == ["1.2.9"]


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
def test_a_peer_that_leaves_before_the_data_set_leaves_nothing(end: Callable[[ScriptedSCU], None]) -> None:
    storage = Watched()
    with (
        StorageSCP(storage, port=0).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as peer,
        ScriptedSCU("127.0.0.1", scp.port) as other,
    ):
        peer.associate()
        peer.send(store_command())
        if end is ScriptedSCU.reset:
            # A reset may overtake sent bytes: the receiver may or may not have read the command.
            end(peer)
        else:
            end(peer)
            assert storage.discarded.wait(60)
        other.associate()
        assert other.store("1.2.9", DATA_SET).status == 0x0000
    assert "commit" not in storage.calls[:-3]
    assert list(storage.data) == ["1.2.9"]


def test_a_release_inside_a_data_set_is_an_abort_and_a_discard() -> None:
    storage = Watched()
    with StorageSCP(storage, port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.associate()
        peer.send(store_command(), in_fragments(STORE, LONG, 1000)[:-LAST_PDU], RELEASE_RQ)
        assert peer.expect(Abort) == Abort(AbortReason.UNEXPECTED_PDU)
        assert storage.discarded.wait(60)
    assert storage.calls == ["begin", "write", "discard"]


def test_a_commit_ends_although_the_peer_disconnects() -> None:
    entered, go = threading.Event(), threading.Event()
    done: list[str] = []

    def handler(_request: object) -> int:
        entered.set()
        assert go.wait(60)
        done.append("stored")
        return 0

    with StorageSCP(handler, port=0).in_thread() as scp:
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.associate()
            peer.send(store())
            assert entered.wait(60)
            peer.reset()
        go.set()
    assert done == ["stored"]


def test_a_recorder_is_a_storage_and_a_function_is_none() -> None:
    class Sinkless:
        async def begin(self, operation: StoreOperation) -> Sink | Status:
            return Status(0x0124)

    assert isinstance(Recorder(), Storage)
    assert isinstance(Sinkless(), Storage)
    assert not isinstance(lambda _request: 0, Storage)


def test_disk_errors_become_statuses_without_the_systems_text() -> None:
    assert status_of(OSError(errno.ENOSPC, "secret")) == Status(0xA700, NO_SPACE)
    assert status_of(OSError(errno.EACCES, "secret")) == Status(0x0110, NOT_WRITTEN)

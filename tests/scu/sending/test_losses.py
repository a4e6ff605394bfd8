"""Lost associations: each instance is tried once, the others are sent over another association (robustness T)."""

import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from tests.scu.data import CT, IMPLICIT, data_set_of, image, instance, part10
from tests.scu.runners import Api, with_both
from tests.scu.scripts import acceptance, accepted, pdus, refused, replying, requests, scripted, serving, stored

import dicomport
from dicomport.scu import Instance, RetryPolicy, SendReport
from dicomport.scu.inputs.locations import FileRegion, stamp_of
from dicomport.testing import Peer, Script
from dicomport.wire import (
    Abort,
    AbortReason,
    AssociateRQ,
    CStoreRQ,
    PDataTF,
    PresentationContextAC,
    PresentationContextRQ,
    ReleaseRP,
    ReleaseRQ,
)

HOST: Final = "127.0.0.1"
ONCE: Final = RetryPolicy(retries=0, first_delay=0.01)
CLOSED: Final = "the association was lost: the peer closed the connection"
BIG: Final = 32 << 20
"""More than the sockets of both sides hold, bytes."""


def send(what: object, port: int, **options: object) -> SendReport:
    """Send over one association at a time, one instance after the other, and each of them once."""
    plain = {"associations": 1, "window": 1, "retry": ONCE}
    return dicomport.blocking.send(what, HOST, port, **plain | options)  # type: ignore[arg-type]


def reasons(report: SendReport) -> list[str]:
    return [result.reason for result in report.results]


def big(path: Path, number: int = 0) -> Path:
    return part10(path / f"big{number}.dcm", sop_instance=f"1.2.3.{900 + number}", size=BIG)


def accepting(then: Callable[[Peer], None]) -> Script:
    """Build the script of a peer that accepts the association and then runs `then`."""

    def script(peer: Peer) -> None:
        peer.accept()
        then(peer)

    return script


def nothing(_peer: Peer) -> None:
    """Close at once."""


def reset(peer: Peer) -> None:
    peer.reset()


def read_one_pdu(peer: Peer) -> None:
    peer.expect(PDataTF)


def read_one_pdu_and_reset(peer: Peer) -> None:
    peer.expect(PDataTF)
    peer.reset()


def read_and_close(peer: Peer) -> None:
    peer.expect(CStoreRQ)


@pytest.mark.parametrize(
    "ending", [nothing, reset, read_one_pdu, read_one_pdu_and_reset, read_and_close], ids=lambda f: f.__name__
)
def test_an_instance_the_peer_closes_on_is_lost_and_the_others_are_sent(
    tmp_path: Path, ending: Callable[[Peer], None]
) -> None:
    what = [big(tmp_path), instance(1, syntax=IMPLICIT), instance(2, syntax=IMPLICIT)]

    with scripted(accepting(ending), serving()) as scp:
        report = send(what, scp.port)

    assert reasons(report) == [CLOSED, "", ""]
    assert report.results[0].status is None
    assert (report.associations, report.error) == (2, "")
    assert stored(scp)[1] == ["1.2.3.1", "1.2.3.2"]


def test_a_half_closed_connection_is_a_lost_one(tmp_path: Path) -> None:
    import socket

    def script(peer: Peer) -> None:
        peer.socket.shutdown(socket.SHUT_WR)
        peer.expect(CStoreRQ)
        assert peer.receive() is None

    with scripted(accepting(script), serving()) as scp:
        report = send([big(tmp_path), instance(1, syntax=IMPLICIT)], scp.port)

    assert reasons(report) == [CLOSED, ""]
    assert report.associations == 2


def test_each_instance_is_tried_once_and_no_more() -> None:
    """A peer that loses every second instance."""

    def script(peer: Peer) -> None:
        peer.answer(peer.expect(CStoreRQ))
        peer.expect(CStoreRQ)

    with scripted(*[accepting(script)] * 3) as scp:
        report = send(map(instance, range(6)), scp.port)

    assert reasons(report) == ["", CLOSED] * 3
    assert (report.associations, report.error) == (3, "")
    assert stored(scp) == [["1.2.3.0", "1.2.3.1"], ["1.2.3.2", "1.2.3.3"], ["1.2.3.4", "1.2.3.5"]]


def test_a_peer_that_loses_all_gets_one_association_for_each_instance() -> None:
    with scripted(*[accepting(nothing)] * 5) as scp:
        report = send(map(instance, range(4)), scp.port)

        assert reasons(report) == [CLOSED] * 4
        assert (report.associations, report.error) == (4, "")
        assert len(scp.peers) == 4


def test_after_the_loss_of_the_peer_each_remaining_instance_is_named() -> None:
    with scripted(serving(), accepting(nothing)) as scp:
        first = send([instance(1)], scp.port)
        report = send(map(instance, range(4)), scp.port)

    assert first.error == ""
    error = f"nothing listens on 127.0.0.1:{scp.port}: check the port, and that the peer runs"
    assert reasons(report) == [CLOSED, *[f"no association: {error}"] * 3]
    assert [result.sop_instance_uid for result in report.results] == ["1.2.3.0", "1.2.3.1", "1.2.3.2", "1.2.3.3"]
    assert (report.associations, report.error) == (1, error)


@pytest.mark.parametrize("status", [0, 0xB000, 0xA700])
def test_a_peer_that_closes_instead_of_releasing_has_answered_all_the_same(status: int) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.expect(CStoreRQ), status)

    with scripted(accepting(script)) as scp:
        report = send([instance()], scp.port)

    assert report.results[0].status is not None
    assert report.results[0].status.code == status
    assert (report.associations, report.error) == (1, "")


def test_a_close_on_the_release_request_keeps_the_results() -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.expect(CStoreRQ))
        assert peer.receive() == ReleaseRQ()

    with scripted(accepting(script)) as scp:
        report = send([instance()], scp.port)

    assert (reasons(report), report.error) == ([""], "")


def test_a_peer_that_never_answers_the_release_request_holds_nothing_up() -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.expect(CStoreRQ))
        assert peer.receive() == ReleaseRQ()
        assert peer.receive() == Abort(AbortReason.SERVICE_USER)

    with scripted(accepting(script)) as scp:
        report = send([instance()], scp.port, timeouts=dicomport.Timeouts(acse=0.2))

    assert (reasons(report), report.error) == ([""], "")


# Aborts.


@pytest.mark.parametrize("reason", AbortReason)
def test_an_abort_instead_of_a_response_is_reported_with_its_reason(reason: AbortReason) -> None:
    def script(peer: Peer) -> None:
        peer.expect(CStoreRQ)
        peer.send(Abort(reason))
        assert peer.receive() is None

    with scripted(accepting(script), serving()) as scp:
        report = send([instance(1), instance(2)], scp.port)

    assert reasons(report) == [f"the association was lost: the peer aborted the association ({reason.meaning})", ""]
    assert report.associations == 2


def test_an_abort_inside_an_instance_is_read_while_the_peer_reads_on(tmp_path: Path) -> None:
    """PS3.8 Table 9-10, AA-6: in Sta13 further PDUs are ignored."""

    def script(peer: Peer) -> None:
        peer.expect(PDataTF)
        peer.send(Abort(AbortReason.SERVICE_USER))
        peer.drain()

    with scripted(accepting(script), serving()) as scp:
        report = send([big(tmp_path), instance(1, syntax=IMPLICIT)], scp.port)

    assert reasons(report) == ["the association was lost: the peer aborted the association (service-user)", ""]


def test_an_abort_with_unread_bytes_is_reported_if_it_arrives(tmp_path: Path) -> None:
    """The RST that follows may overtake it."""

    def script(peer: Peer) -> None:
        peer.expect(PDataTF)
        peer.send(Abort(AbortReason.SERVICE_USER))

    with scripted(accepting(script), serving()) as scp:
        report = send([big(tmp_path), instance(1, syntax=IMPLICIT)], scp.port)

    aborted = "the association was lost: the peer aborted the association (service-user)"
    assert reasons(report) in ([aborted, ""], [CLOSED, ""])
    assert report.associations == 2


# Garbage.


@pytest.mark.parametrize(
    ("garbage", "answer"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", Abort(AbortReason.UNRECOGNIZED_PDU)),
        (bytes.fromhex("04 00 00000005 00000001 01"), Abort(AbortReason.INVALID_PDU_PARAMETER_VALUE)),
        (bytes.fromhex("04 00 ffffffff"), Abort(AbortReason.INVALID_PDU_PARAMETER_VALUE)),
        (bytes.fromhex("04 00 00000006 00000003 63 03 00"), Abort(AbortReason.INVALID_PDU_PARAMETER_VALUE)),
        (bytes.fromhex("02 00 00000004 00010000"), Abort(AbortReason.UNEXPECTED_PDU)),
        (bytes.fromhex("06 00 00000004 00000000"), Abort(AbortReason.UNEXPECTED_PDU)),
    ],
    ids=["HTTP", "a cut PDV", "a length", "a context", "a second acceptance", "a release nobody asked for"],
)
def test_garbage_after_the_acceptance_ends_the_association_and_no_more(garbage: bytes, answer: Abort) -> None:
    ends: list[Abort] = []

    def script(peer: Peer) -> None:
        peer.expect(CStoreRQ)
        peer.send(garbage)
        heard = peer.receive()
        assert isinstance(heard, Abort)
        ends.append(heard)

    with scripted(accepting(script), serving()) as scp:
        report = send([instance(1), instance(2)], scp.port)

    first, second = reasons(report)
    assert first.startswith(
        "the association was lost: the peer violated the protocol and the association was aborted: "
    )
    assert second == ""
    assert report.associations == 2
    assert ends == [answer]


def test_an_empty_p_data_tf_is_ignored() -> None:
    """Robustness P6: an empty P-DATA-TF is tolerated, and the response is still read."""

    def script(peer: Peer) -> None:
        message = peer.expect(CStoreRQ)
        peer.send(bytes.fromhex("04 00 00000000") * 3)
        peer.answer(message)
        peer.serve()

    with scripted(accepting(script)) as scp:
        report = send([instance()], scp.port)

    assert reasons(report) == [""]


# Timers.


def test_a_peer_that_never_answers_is_aborted_and_the_others_are_sent() -> None:
    def script(peer: Peer) -> None:
        peer.expect(CStoreRQ)
        assert peer.receive() == Abort(AbortReason.SERVICE_USER)

    with scripted(accepting(script), serving()) as scp:
        report = send([instance(1), instance(2)], scp.port, timeouts=dicomport.Timeouts(dimse=0.2))

    assert reasons(report) == ["the association was lost: the dimse timer expired after 0.2 s", ""]
    assert report.associations == 2


def test_a_response_after_the_timeout_is_ignored() -> None:
    """Robustness C10: the association is discarded, so that a late answer cannot be the next instance's."""

    def script(peer: Peer) -> None:
        late = peer.expect(CStoreRQ)
        assert peer.receive() == Abort(AbortReason.SERVICE_USER)
        try:
            peer.answer(late, 0)
        except ConnectionError:
            return

    with scripted(accepting(script), serving(0xA700)) as scp:
        report = send([instance(1), instance(2)], scp.port, timeouts=dicomport.Timeouts(dimse=0.2))

    assert [result.status and result.status.code for result in report.results] == [None, 0xA700]


@with_both
def test_a_peer_that_stops_reading_is_given_up(api: Api, tmp_path: Path) -> None:
    over = threading.Event()

    def script(peer: Peer) -> None:
        peer.expect(PDataTF)
        assert over.wait(30)

    with scripted(accepting(script), receive_buffer=4096) as scp:

        async def scenario() -> None:
            timeouts = dicomport.Timeouts(network=0.2)
            with pytest.raises(dicomport.TimerExpiredError, match="the write timer expired"):
                async with api.associate(
                    HOST, scp.port, contexts=[dicomport.sop_classes.CTImageStorage], timeouts=timeouts
                ) as association:
                    await association.c_store(
                        part10(tmp_path / "1.dcm", syntax="1.2.840.10008.1.2.1", data=image(bytes(BIG))),
                    )

        try:
            api.run(scenario())
        finally:
            over.set()


@with_both
def test_nothing_follows_a_partly_sent_pdu(api: Api, tmp_path: Path) -> None:
    """An A-ABORT behind half a P-DATA-TF would be read as the other half, and might even make a data set whole."""
    over = threading.Event()
    rest: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.expect(PDataTF)
        assert over.wait(30)
        while data := peer.socket.recv(1 << 16):
            rest.append(data)

    with scripted(accepting(script), receive_buffer=4096) as scp:

        async def scenario() -> None:
            async with api.associate(
                HOST, scp.port, contexts=[(CT, IMPLICIT)], timeouts=dicomport.Timeouts(network=0.2)
            ) as association:
                try:
                    await association.c_store(big(tmp_path))
                finally:
                    over.set()

        with pytest.raises(dicomport.TimerExpiredError):
            api.run(scenario())

    stream = b"".join(rest)
    at = 0
    while at + 6 <= len(stream):
        assert stream[at] == PDataTF.KIND
        at += 6 + int.from_bytes(stream[at + 2 : at + 6])
    assert at >= len(stream)
    assert stream.endswith(bytes(100))


def test_a_send_continues_after_a_peer_that_stops_reading(tmp_path: Path) -> None:
    over = threading.Event()

    def script(peer: Peer) -> None:
        peer.expect(PDataTF)
        # The association that replaces this one sends the other instance meanwhile.
        assert over.wait(30)

    what = [big(tmp_path), instance(1, syntax=IMPLICIT)]
    with scripted(accepting(script), serving(), receive_buffer=4096) as scp:
        report = send(what, scp.port, timeouts=dicomport.Timeouts(network=0.2), on_result=lambda _result: over.set())

    assert reasons(report) == ["the association was lost: the write timer expired after 0.2 s", ""]
    assert report.associations == 2


# Releases of the peer's.


def test_a_peer_that_releases_instead_of_answering_gets_its_confirmation() -> None:
    def script(peer: Peer) -> None:
        peer.expect(CStoreRQ)
        peer.send(ReleaseRQ())
        assert peer.receive() == ReleaseRP()

    with scripted(accepting(script), serving()) as scp:
        report = send([instance(1), instance(2)], scp.port)

    assert reasons(report) == ["the association was lost: the peer released the association", ""]
    assert report.associations == 2


def test_a_peer_that_releases_between_two_instances_gets_its_confirmation() -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.expect(CStoreRQ))
        peer.send(ReleaseRQ())
        peer.expect(CStoreRQ)
        assert peer.receive() == ReleaseRP()

    with scripted(accepting(script), serving()) as scp:
        report = send([instance(1), instance(2), instance(3)], scp.port)

    assert reasons(report) == ["", "the association was lost: the peer released the association", ""]


def test_a_peer_that_releases_and_resets_is_lost() -> None:
    """The connection ends before the confirmation."""

    def script(peer: Peer) -> None:
        peer.expect(CStoreRQ)
        peer.send(ReleaseRQ())
        peer.reset()

    with scripted(accepting(script), serving()) as scp:
        report = send([instance(1), instance(2)], scp.port)

    first, second = reasons(report)
    assert first in ("the association was lost: the peer released the association", CLOSED)
    assert second == ""
    assert report.associations == 2


# Files that change meanwhile.


def cutting(path: Path, size: int) -> Script:
    """Make the script of a peer at whose acceptance a file becomes shorter."""

    def script(peer: Peer) -> None:
        request = peer.expect(AssociateRQ)
        os.truncate(path, size)
        peer.send(acceptance(request))
        peer.serve()

    return script


def test_a_truncated_file_aborts_its_association(tmp_path: Path) -> None:
    path = big(tmp_path)
    # As if it had been longer when it was found, and cut while it is read.
    source = FileRegion(str(path), 0, 2 * BIG, stamp_of(path.stat()))

    with scripted(serving(), serving()) as scp:
        report = send([Instance(CT, "1.2.3.4", IMPLICIT, source), instance(1, syntax=IMPLICIT)], scp.port)

    assert reasons(report) == ["cannot be read to its end: the file became shorter while it was read", ""]
    assert report.associations == 2
    assert stored(scp) == [[], ["1.2.3.1"]]
    assert pdus(scp.peers[0]) == [Abort(AbortReason.SERVICE_USER)]


def test_a_file_that_is_empty_or_gone_by_then_costs_no_association(tmp_path: Path) -> None:
    empty, gone = part10(tmp_path / "1.dcm", sop_instance="1.2.3.1"), part10(tmp_path / "2.dcm", sop_instance="1.2.3.2")

    def script(peer: Peer) -> None:
        gone.unlink()
        cutting(empty, 0)(peer)

    with scripted(script) as scp:
        report = send([empty, gone, instance(3, syntax=IMPLICIT)], scp.port)

    first, second, third = reasons(report)
    assert first == "cannot be read: the file became shorter since it was found"
    assert second.startswith("cannot be read: ")
    assert "No such file or directory" in second
    assert third == ""
    assert (report.associations, stored(scp)) == (1, [["1.2.3.3"]])


# All of it, at our own receiver.


def test_a_restarted_receiver_gets_the_remaining_instances(tmp_path: Path) -> None:
    """The first association ends with the receiver that it was with; the next one finds another behind the port."""
    storage = dicomport.FolderStorage(tmp_path / "in", dicomport.Durability.FLUSH)
    paths = [part10(tmp_path / f"{number}.dcm", sop_instance=f"1.2.3.{number}") for number in range(4)]

    def vanish(peer: Peer) -> None:
        peer.accept()
        peer.expect(CStoreRQ)

    with scripted(vanish) as scp:
        first = send(paths, scp.port)
    with dicomport.StorageSCP(storage, port=0).in_thread() as receiver:
        second = send([result.path for result in first.failed], receiver.port)

    assert [result.path for result in first.failed] == paths
    assert second.failed == ()
    assert [data_set_of(path) for path in sorted((tmp_path / "in").iterdir())] == [data_set_of(path) for path in paths]


def test_contexts_are_negotiated_anew_after_a_loss() -> None:
    """A peer that refused a context before the loss may take it afterwards."""
    seen: list[int] = []

    def refuse_the_second(proposed: PresentationContextRQ) -> PresentationContextAC:
        return accepted(proposed) if proposed.context_id == 1 else refused(proposed)

    def vanish(peer: Peer) -> None:
        peer.send(acceptance(peer.expect(AssociateRQ), refuse_the_second))
        peer.expect(CStoreRQ)
        seen.append(1)

    jpeg = "1.2.840.10008.1.2.4.50"
    mr = "1.2.840.10008.5.1.4.1.1.4"
    with scripted(vanish, serving()) as scp:
        report = send([instance(1, syntax=jpeg), instance(2, syntax=jpeg, sop_class=mr)], scp.port)

    assert reasons(report) == [CLOSED, ""]
    first, second = requests(scp)
    assert first.presentation_contexts == second.presentation_contexts


def test_a_rejection_after_a_loss_ends_it() -> None:
    rejection = struct.pack(">BxLxBBB", 3, 4, 1, 1, 1)

    with scripted(accepting(nothing), replying(rejection)) as scp:
        report = send(map(instance, range(3)), scp.port)

    error = "the peer rejected the association (permanent): user no reason"
    assert reasons(report) == [CLOSED, f"no association: {error}", f"no association: {error}"]
    assert (report.associations, report.error) == (1, error)

"""Associations that end before their time: each instance is tried once, the rest goes another way (robustness T)."""

import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from tests.scu.data import CT, IMPLICIT, data_set_of, instance, part10
from tests.scu.peer import Link, Message, Script, accepted, refused, replying, scripted, serving
from tests.scu.runners import Api, with_both

import dicomport
from dicomport.scu import Instance, RetryPolicy, SendReport
from dicomport.scu.inputs.locations import FileRegion, stamp_of
from dicomport.wire import (
    Abort,
    AbortReason,
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


def accepting(then: Callable[[Link], None]) -> Script:
    """Make the script of a peer that accepts the association and goes on like that."""

    def script(link: Link) -> None:
        link.accept()
        then(link)

    return script


def nothing(_link: Link) -> None:
    """Close at once."""


def reset(link: Link) -> None:
    link.reset()


def read_one_pdu(link: Link) -> None:
    assert link.read_pdu()


def read_one_pdu_and_reset(link: Link) -> None:
    assert link.read_pdu()
    link.reset()


def read_and_close(link: Link) -> None:
    assert isinstance(link.hear(), Message)


@pytest.mark.parametrize(
    "ending", [nothing, reset, read_one_pdu, read_one_pdu_and_reset, read_and_close], ids=lambda f: f.__name__
)
def test_an_instance_that_the_peer_hangs_up_on_is_lost_and_the_rest_goes_another_way(
    tmp_path: Path, ending: Callable[[Link], None]
) -> None:
    what = [big(tmp_path), instance(1, syntax=IMPLICIT), instance(2, syntax=IMPLICIT)]

    with scripted(accepting(ending), serving()) as peer:
        report = send(what, peer.port)

    assert reasons(report) == [CLOSED, "", ""]
    assert report.results[0].status is None
    assert (report.associations, report.error) == (2, "")
    assert peer.stored[1] == ["1.2.3.1", "1.2.3.2"]


def test_a_half_closed_connection_is_a_lost_one(tmp_path: Path) -> None:
    import socket

    def script(link: Link) -> None:
        link.sock.shutdown(socket.SHUT_WR)
        assert isinstance(link.hear(), Message)
        assert link.hear() is None

    with scripted(accepting(script), serving()) as peer:
        report = send([big(tmp_path), instance(1, syntax=IMPLICIT)], peer.port)

    assert reasons(report) == [CLOSED, ""]
    assert report.associations == 2


def test_each_instance_is_tried_once_and_no_more() -> None:
    """A peer that loses every second instance."""

    def script(link: Link) -> None:
        link.respond(link.message())
        link.message()

    with scripted(*[accepting(script)] * 3) as peer:
        report = send(map(instance, range(6)), peer.port)

    assert reasons(report) == ["", CLOSED] * 3
    assert (report.associations, report.error) == (3, "")
    assert peer.stored == [["1.2.3.0", "1.2.3.1"], ["1.2.3.2", "1.2.3.3"], ["1.2.3.4", "1.2.3.5"]]


def test_a_peer_that_loses_everything_ends_it_after_as_many_associations_as_instances() -> None:
    with scripted(*[accepting(nothing)] * 5) as peer:
        report = send(map(instance, range(4)), peer.port)

        assert reasons(report) == [CLOSED] * 4
        assert (report.associations, report.error) == (4, "")
        assert len(peer.links) == 4


def test_once_the_peer_is_gone_every_instance_that_is_left_is_named() -> None:
    with scripted(serving(), accepting(nothing)) as peer:
        first = send([instance(1)], peer.port)
        report = send(map(instance, range(4)), peer.port)

    assert first.error == ""
    error = f"nothing listens on 127.0.0.1:{peer.port}: is the port right, and is the peer running?"
    assert reasons(report) == [CLOSED, *[f"no association: {error}"] * 3]
    assert [result.sop_instance_uid for result in report.results] == ["1.2.3.0", "1.2.3.1", "1.2.3.2", "1.2.3.3"]
    assert (report.associations, report.error) == (1, error)


@pytest.mark.parametrize("status", [0, 0xB000, 0xA700])
def test_a_peer_that_closes_instead_of_releasing_has_answered_all_the_same(status: int) -> None:
    def script(link: Link) -> None:
        link.respond(link.message(), status)

    with scripted(accepting(script)) as peer:
        report = send([instance()], peer.port)

    assert report.results[0].status is not None
    assert report.results[0].status.code == status
    assert (report.associations, report.error) == (1, "")


def test_a_peer_that_closes_on_the_release_request_has_answered_all_the_same() -> None:
    def script(link: Link) -> None:
        link.respond(link.message())
        assert link.hear() == ReleaseRQ()

    with scripted(accepting(script)) as peer:
        report = send([instance()], peer.port)

    assert (reasons(report), report.error) == ([""], "")


def test_a_peer_that_never_answers_the_release_request_holds_nothing_up() -> None:
    def script(link: Link) -> None:
        link.respond(link.message())
        assert link.hear() == ReleaseRQ()
        assert link.hear() == Abort(AbortReason.SERVICE_USER)

    with scripted(accepting(script)) as peer:
        report = send([instance()], peer.port, timeouts=dicomport.Timeouts(acse=0.2))

    assert (reasons(report), report.error) == ([""], "")


# Aborts.


@pytest.mark.parametrize("reason", AbortReason)
def test_an_abort_instead_of_an_answer_is_told_with_its_reason(reason: AbortReason) -> None:
    def script(link: Link) -> None:
        link.message()
        link.send(Abort(reason).encode())
        assert link.hear() is None

    with scripted(accepting(script), serving()) as peer:
        report = send([instance(1), instance(2)], peer.port)

    assert reasons(report) == [f"the association was lost: the peer aborted the association ({reason.meaning})", ""]
    assert report.associations == 2


def test_an_abort_in_the_middle_of_an_instance_is_told_where_the_peer_reads_on(tmp_path: Path) -> None:
    """PS3.8 Table 9-10, AA-6: in Sta13 what still comes is passed over."""

    def script(link: Link) -> None:
        assert link.read_pdu()
        link.send(Abort(AbortReason.SERVICE_USER).encode())
        link.drain()

    with scripted(accepting(script), serving()) as peer:
        report = send([big(tmp_path), instance(1, syntax=IMPLICIT)], peer.port)

    assert reasons(report) == ["the association was lost: the peer aborted the association (service-user)", ""]


def test_an_abort_with_bytes_unread_is_told_as_far_as_it_arrives(tmp_path: Path) -> None:
    """The RST that follows may overtake it."""

    def script(link: Link) -> None:
        assert link.read_pdu()
        link.send(Abort(AbortReason.SERVICE_USER).encode())

    with scripted(accepting(script), serving()) as peer:
        report = send([big(tmp_path), instance(1, syntax=IMPLICIT)], peer.port)

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

    def script(link: Link) -> None:
        link.message()
        link.send(garbage)
        heard = link.hear()
        assert isinstance(heard, Abort)
        ends.append(heard)

    with scripted(accepting(script), serving()) as peer:
        report = send([instance(1), instance(2)], peer.port)

    first, second = reasons(report)
    assert first.startswith(
        "the association was lost: the peer violated the protocol and the association was aborted: "
    )
    assert second == ""
    assert report.associations == 2
    assert ends == [answer]


def test_p_data_without_anything_in_it_is_no_answer() -> None:
    """Robustness P6: an empty P-DATA-TF is put up with, and the answer still comes."""

    def script(link: Link) -> None:
        message = link.message()
        link.send(bytes.fromhex("04 00 00000000") * 3)
        link.respond(message)
        link.serve()

    with scripted(accepting(script)) as peer:
        report = send([instance()], peer.port)

    assert reasons(report) == [""]


# Timers.


def test_a_peer_that_never_answers_is_aborted_and_the_rest_goes_another_way() -> None:
    def script(link: Link) -> None:
        link.message()
        assert link.hear() == Abort(AbortReason.SERVICE_USER)

    with scripted(accepting(script), serving()) as peer:
        report = send([instance(1), instance(2)], peer.port, timeouts=dicomport.Timeouts(dimse=0.2))

    assert reasons(report) == ["the association was lost: the dimse timer expired after 0.2 s", ""]
    assert report.associations == 2


def test_an_answer_after_the_timeout_is_nobody_s() -> None:
    """Robustness C10: the association is discarded, so that a late answer can't be the next instance's."""

    def script(link: Link) -> None:
        late = link.message()
        assert link.hear() == Abort(AbortReason.SERVICE_USER)
        try:
            link.respond(late, 0)
        except ConnectionError:
            return

    with scripted(accepting(script), serving(0xA700)) as peer:
        report = send([instance(1), instance(2)], peer.port, timeouts=dicomport.Timeouts(dimse=0.2))

    assert [result.status and result.status.code for result in report.results] == [None, 0xA700]


@with_both
def test_a_peer_that_stops_reading_is_given_up(api: Api, tmp_path: Path) -> None:
    over = threading.Event()

    def script(link: Link) -> None:
        assert link.read_pdu()
        assert over.wait(30)

    with scripted(accepting(script), receive_buffer=4096) as peer:

        async def scenario() -> None:
            timeouts = dicomport.Timeouts(network=0.2)
            with pytest.raises(dicomport.TimerExpiredError, match="the write timer expired"):
                async with api.associate(
                    HOST, peer.port, contexts=[dicomport.sop_classes.CTImageStorage], timeouts=timeouts
                ) as association:
                    await association.c_store(
                        part10(tmp_path / "1.dcm", syntax="1.2.840.10008.1.2.1", size=BIG),
                    )

        try:
            api.run(scenario())
        finally:
            over.set()


@with_both
def test_what_is_sent_in_part_is_followed_by_nothing(api: Api, tmp_path: Path) -> None:
    """An A-ABORT behind half a P-DATA-TF would be read as the other half, and might even make a data set whole."""
    over = threading.Event()
    rest: list[bytes] = []

    def script(link: Link) -> None:
        assert link.read_pdu()
        assert over.wait(30)
        while data := link.read(1 << 16):
            rest.append(data)

    with scripted(accepting(script), receive_buffer=4096) as peer:

        async def scenario() -> None:
            async with api.associate(
                HOST, peer.port, contexts=[(CT, IMPLICIT)], timeouts=dicomport.Timeouts(network=0.2)
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


def test_a_send_to_a_peer_that_stops_reading_goes_on_with_the_rest(tmp_path: Path) -> None:
    over = threading.Event()

    def script(link: Link) -> None:
        assert link.read_pdu()
        # The association that replaces this one is accepted once this script is over.
        assert over.wait(30)

    what = [big(tmp_path), instance(1, syntax=IMPLICIT)]
    with scripted(accepting(script), serving(), receive_buffer=4096) as peer:
        report = send(what, peer.port, timeouts=dicomport.Timeouts(network=0.2), on_result=lambda _result: over.set())

    assert reasons(report) == ["the association was lost: the write timer expired after 0.2 s", ""]
    assert report.associations == 2


# Releases of the peer's.


def test_a_peer_that_releases_instead_of_answering_gets_its_confirmation() -> None:
    def script(link: Link) -> None:
        link.message()
        link.send(ReleaseRQ().encode())
        assert link.hear() == ReleaseRP()

    with scripted(accepting(script), serving()) as peer:
        report = send([instance(1), instance(2)], peer.port)

    assert reasons(report) == ["the association was lost: the peer released the association", ""]
    assert report.associations == 2


def test_a_peer_that_releases_between_two_instances_gets_its_confirmation() -> None:
    def script(link: Link) -> None:
        link.respond(link.message())
        link.send(ReleaseRQ().encode())
        link.message()
        assert link.hear() == ReleaseRP()

    with scripted(accepting(script), serving()) as peer:
        report = send([instance(1), instance(2), instance(3)], peer.port)

    assert reasons(report) == ["", "the association was lost: the peer released the association", ""]


def test_a_peer_that_releases_and_resets_is_lost() -> None:
    """There is nobody left to confirm it to."""

    def script(link: Link) -> None:
        link.message()
        link.send(ReleaseRQ().encode())
        link.reset()

    with scripted(accepting(script), serving()) as peer:
        report = send([instance(1), instance(2)], peer.port)

    first, second = reasons(report)
    assert first in ("the association was lost: the peer released the association", CLOSED)
    assert second == ""
    assert report.associations == 2


# Files that change meanwhile.


def cutting(path: Path, size: int) -> Script:
    """Make the script of a peer at whose acceptance a file becomes shorter."""

    def script(link: Link) -> None:
        link.read_request()
        os.truncate(path, size)
        assert link.request is not None
        from tests.scu.peer import acceptance

        link.send(acceptance(link.request).encode())
        link.serve()

    return script


def test_a_file_that_became_shorter_aborts_the_association_that_its_message_began_on(tmp_path: Path) -> None:
    path = big(tmp_path)
    # As if it had been longer when it was found, and cut while it is read.
    source = FileRegion(str(path), 0, 2 * BIG, stamp_of(path.stat()))

    with scripted(serving(), serving()) as peer:
        report = send([Instance(CT, "1.2.3.4", IMPLICIT, source), instance(1, syntax=IMPLICIT)], peer.port)

    assert reasons(report) == ["can't be read to its end: the file became shorter while it was read", ""]
    assert report.associations == 2
    assert peer.stored == [[], ["1.2.3.1"]]
    assert peer.links[0].pdus == [Abort(AbortReason.SERVICE_USER)]


def test_a_file_that_is_empty_or_gone_by_then_costs_no_association(tmp_path: Path) -> None:
    empty, gone = part10(tmp_path / "1.dcm", sop_instance="1.2.3.1"), part10(tmp_path / "2.dcm", sop_instance="1.2.3.2")

    def script(link: Link) -> None:
        gone.unlink()
        cutting(empty, 0)(link)

    with scripted(script) as peer:
        report = send([empty, gone, instance(3, syntax=IMPLICIT)], peer.port)

    first, second, third = reasons(report)
    assert first == "can't be read: the file became shorter since it was found"
    assert second.startswith("can't be read: ")
    assert "No such file or directory" in second
    assert third == ""
    assert (report.associations, peer.stored) == (1, [["1.2.3.3"]])


# All of it, at our own receiver.


def test_a_receiver_that_is_restarted_gets_the_rest(tmp_path: Path) -> None:
    """The first association ends with the receiver that it was with; the next one finds another behind the port."""
    storage = dicomport.FolderStorage(tmp_path / "in", dicomport.Durability.FLUSH)
    paths = [part10(tmp_path / f"{number}.dcm", sop_instance=f"1.2.3.{number}") for number in range(4)]

    def vanish(link: Link) -> None:
        link.accept()
        link.message()

    with scripted(vanish) as peer:
        first = send(paths, peer.port)
    with dicomport.StorageSCP(storage, port=0).in_thread() as scp:
        second = send([result.path for result in first.failed], scp.port)

    assert [result.path for result in first.failed] == paths
    assert second.failed == ()
    assert [data_set_of(path) for path in sorted((tmp_path / "in").iterdir())] == [data_set_of(path) for path in paths]


def test_contexts_are_negotiated_anew_after_a_loss() -> None:
    """A peer that refused a context before the loss may take it afterwards."""
    seen: list[int] = []

    def refuse_the_second(proposed: PresentationContextRQ) -> PresentationContextAC:
        return accepted(proposed) if proposed.context_id == 1 else refused(proposed)

    def vanish(link: Link) -> None:
        link.accept(refuse_the_second)
        link.message()
        seen.append(1)

    jpeg = "1.2.840.10008.1.2.4.50"
    mr = "1.2.840.10008.5.1.4.1.1.4"
    with scripted(vanish, serving()) as peer:
        report = send([instance(1, syntax=jpeg), instance(2, syntax=jpeg, sop_class=mr)], peer.port)

    assert reasons(report) == [CLOSED, ""]
    first, second = peer.requests
    assert first.presentation_contexts == second.presentation_contexts


def test_a_rejection_after_a_loss_ends_it() -> None:
    rejection = struct.pack(">BxLxBBB", 3, 4, 1, 1, 1)

    with scripted(accepting(nothing), replying(rejection)) as peer:
        report = send(map(instance, range(3)), peer.port)

    error = "the peer rejected the association (permanent): user no reason"
    assert reasons(report) == [CLOSED, f"no association: {error}", f"no association: {error}"]
    assert (report.associations, report.error) == (1, error)

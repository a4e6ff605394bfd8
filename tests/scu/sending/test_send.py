"""`send`: each instance has a result with a readable reason, for any peer (robustness A8, C10, P13)."""

import asyncio
import contextlib
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from tests.ports import unused_port
from tests.scu.data import (
    CR,
    CT,
    CT_FILE,
    DEFLATED,
    EXPLICIT,
    FILES,
    IMPLICIT,
    JPEG,
    MR,
    bare,
    data_set_of,
    instance,
    part10,
    pattern,
)
from tests.scu.runners import Api, with_both
from tests.scu.scripts import (
    acceptance,
    accepted,
    messages,
    pdus,
    refused,
    replying,
    requests,
    scripted,
    serving,
    stored,
)

import dicomport
from dicomport.scu import InstanceResult, RetryPolicy, SendReport
from dicomport.testing import Message, Peer, encode_message, response
from dicomport.wire import (
    Abort,
    AbortReason,
    AssociateRJ,
    AssociateRQ,
    ContextResult,
    CStoreRQ,
    Element,
    PDataTF,
    PresentationContextAC,
    PresentationContextRQ,
    Priority,
    RawCommand,
    RejectReason,
    ReleaseRQ,
    encode_command,
)

HOST: Final = "127.0.0.1"
ONCE: Final = RetryPolicy(retries=0, first_delay=0.01)


def send(what: object, port: int, **options: object) -> SendReport:
    """Send over one association at a time, one instance after the other, and each of them once."""
    plain = {"associations": 1, "window": 1, "retry": ONCE}
    return dicomport.blocking.send(what, HOST, port, **plain | options)  # type: ignore[arg-type]


def reasons(report: SendReport) -> list[str]:
    return [result.reason for result in report.results]


# Successful sends.


@with_both
def test_files_folders_data_sets_and_instances_are_sent(api: Api, tmp_path: Path) -> None:
    import pydicom

    part10(tmp_path / "1", sop_instance="1.2.3.1")
    (tmp_path / "text").write_bytes(b"text" * 100)
    what = [tmp_path, str(CT_FILE), pydicom.dcmread(FILES / "MR_small.dcm"), instance(9)]

    with scripted(serving()) as scp:
        report = api.run(_sent(api, what, scp.port))

    assert [(result.path, result.accepted, result.reason) for result in report.results] == [
        (tmp_path / "text", False, "not a DICOM file, or a bare data set with unknown encoding or UIDs"),
        (tmp_path / "1", True, ""),
        (CT_FILE, True, ""),
        (None, True, ""),
        (None, True, ""),
    ]
    assert (report.associations, report.error) == (1, "")
    assert (len(report.accepted), len(report.failed), len(report.skipped)) == (4, 0, 1)
    [peer] = scp.peers
    assert [message.data for message in messages(peer)] == [
        bare(CT, "1.2.3.1"),
        data_set_of(CT_FILE),
        data_set_of(FILES / "MR_small.dcm"),
        pattern(100),
    ]
    assert report.accepted_bytes == sum(len(message.data) for message in messages(peer))
    assert pdus(peer) == [ReleaseRQ()]


async def _sent(api: Api, what: object, port: int) -> SendReport:
    return await api.send(what, HOST, port)


@with_both
def test_nothing_to_send_is_no_association_and_no_error(api: Api) -> None:
    report = api.run(_sent(api, [], unused_port()))

    assert (report.results, report.associations, report.error) == ((), 0, "")
    assert (report.accepted, report.failed, report.accepted_bytes) == ((), (), 0)


def test_a_folder_without_instances_is_no_association_either(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"text" * 100)

    report = send(tmp_path, unused_port())

    assert (len(report.skipped), report.associations, report.error) == (1, 0, "")
    assert [(result.path, result.reason) for result in report.failed] == [
        (tmp_path, "nothing to send: no instances found in this folder")
    ]


def test_the_blocking_send_works_inside_a_running_loop_too() -> None:
    async def scenario(port: int) -> SendReport:
        return dicomport.blocking.send([instance()], HOST, port)

    with scripted(serving()) as scp:
        report = asyncio.run(scenario(scp.port))

    assert len(report.accepted) == 1


def test_each_result_is_reported_at_once_and_in_order(tmp_path: Path) -> None:
    told: list[InstanceResult] = []
    known_at_the_peer: list[int] = []

    def script(peer: Peer) -> None:
        peer.accept()
        for status in (0, 0xA700, 0xB000):
            message = peer.expect(CStoreRQ)
            known_at_the_peer.append(len(told))
            peer.answer(message, status)
        peer.serve()

    with scripted(script) as scp:
        report = send([tmp_path / "nothing", *map(instance, range(3))], scp.port, on_result=told.append)

    assert tuple(told) == report.results
    assert [result.sop_instance_uid for result in told] == ["", "1.2.3.0", "1.2.3.1", "1.2.3.2"]
    assert known_at_the_peer == [1, 2, 3]


def test_an_exception_of_on_result_ends_the_send_and_the_association() -> None:
    def stop(_result: InstanceResult) -> None:
        raise KeyError("enough")

    with scripted(serving()) as scp, pytest.raises(KeyError, match="enough"):
        send([instance(1), instance(2)], scp.port, on_result=stop)

    assert stored(scp) == [["1.2.3.1"]]
    assert pdus(scp.peers[0]) == [Abort(AbortReason.SERVICE_USER)]


def test_titles_priority_and_negotiation_items_reach_the_peer() -> None:
    with scripted(serving()) as scp:
        send(
            [instance()],
            scp.port,
            ae_title=" ME ",
            called_ae_title="YOU",
            priority=Priority.HIGH,
            maximum_length=4096,
        )

    [request] = requests(scp)
    assert (request.calling_ae_title, request.called_ae_title) == ("ME", "YOU")
    assert request.user_information.maximum_length == 4096
    [message] = messages(scp.peers[0])
    assert message.command == CStoreRQ(
        message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3.1", priority=1
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"ae_title": ""}, "at least one character"),
        ({"called_ae_title": "x" * 17}, "the maximum is 16"),
        ({"ae_title": "A\\B"}, "invalid characters"),
    ],
)
def test_invalid_arguments_are_refused_before_anything_is_sent(options: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        send([instance()], unused_port(), **options)


@pytest.mark.parametrize("port", [-1, 0, 65536, 77104])
def test_an_invalid_port_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match=f"port {port} is not between 1 and 65535"):
        send([instance()], port)


def test_message_ids_count_up_and_the_answers_are_each_one_s_own() -> None:
    with scripted(serving()) as scp:
        send(map(instance, range(5)), scp.port)

    assert [message.command.message_id for message in messages(scp.peers[0])] == [1, 2, 3, 4, 5]


def test_a_deflated_data_set_of_odd_length_goes_in_even_fragments() -> None:
    """PS3.8 E.1, PS3.5 A.5."""
    with scripted(serving(maximum_length=1000)) as scp:
        report = send([FILES / "image_dfl.dcm", instance(2, syntax=DEFLATED, size=5001)], scp.port)

    assert len(report.accepted) == 2
    file, memory = messages(scp.peers[0])
    assert file.data == data_set_of(FILES / "image_dfl.dcm") + b"\0"
    assert memory.data == pattern(5001) + b"\0"
    assert all(size % 2 == 0 for message in (file, memory) for size in message.fragments)


# Results of the contexts.


def test_a_peer_that_refuses_half_of_the_contexts_gets_the_other_half() -> None:
    instances = [
        instance(number, sop_class=sop_class, syntax=JPEG) for number, sop_class in enumerate((CT, MR, CR, MR))
    ]

    def answer(proposed: PresentationContextRQ) -> PresentationContextAC:
        return refused(proposed) if proposed.abstract_syntax == MR else accepted(proposed)

    with scripted(serving(answer=answer)) as scp:
        report = send(instances, scp.port)

    no = (
        "the peer does not accept MR Image Storage in JPEG Baseline (Process 1): "
        "the peer does not support the SOP Class"
    )
    assert reasons(report) == ["", no, "", no]
    assert [result.status for result in report.failed] == [None, None]
    assert stored(scp) == [["1.2.3.0", "1.2.3.2"]]
    assert (report.associations, report.error) == (1, "")
    assert pdus(scp.peers[0]) == [ReleaseRQ()]


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (ContextResult.USER_REJECTION, "rejected by the peer's user"),
        (ContextResult.NO_REASON, "rejected by the peer without a reason"),
        (ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED, "the peer does not support the SOP Class"),
        (ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED, "the peer supports none of the transfer syntaxes"),
    ],
)
def test_the_reason_for_a_rejected_context_is_reported(result: ContextResult, reason: str) -> None:
    with scripted(serving(answer=lambda proposed: refused(proposed, result))) as scp:
        report = send([instance(syntax=JPEG)], scp.port)

    assert reasons(report) == [f"the peer does not accept CT Image Storage in JPEG Baseline (Process 1): {reason}"]
    assert (stored(scp), report.associations) == ([[]], 1)


def test_nothing_is_converted_for_a_peer_that_takes_implicit_only() -> None:
    def answer(proposed: PresentationContextRQ) -> PresentationContextAC:
        return accepted(proposed) if IMPLICIT in proposed.transfer_syntaxes else refused(proposed)

    with scripted(serving(answer=answer)) as scp:
        report = send([CT_FILE, instance(2, syntax=IMPLICIT)], scp.port)

    assert reasons(report) == [
        (
            "the peer does not accept CT Image Storage in Explicit VR Little Endian, "
            "only in Implicit VR Little Endian: it would have to be converted (--convert, or Transform(convert=True))"
        ),
        "",
    ]
    assert stored(scp) == [["1.2.3.2"]]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda _proposed: None, "the peer's answer is missing"),
        (
            lambda proposed: PresentationContextAC(proposed.context_id, ContextResult.ACCEPTED, JPEG),
            f"the peer chose '{JPEG}', which was not proposed",
        ),
        (
            lambda proposed: PresentationContextAC(proposed.context_id, ContextResult.ACCEPTED, ""),
            "the peer chose '', which was not proposed",
        ),
        (
            lambda proposed: PresentationContextAC(proposed.context_id + 100, ContextResult.ACCEPTED, IMPLICIT),
            "the peer's answer is missing",
        ),
    ],
    ids=["left out", "a syntax never proposed", "no syntax", "another id"],
)
def test_an_invalid_answer_to_a_context_is_a_rejection(
    answer: Callable[[PresentationContextRQ], PresentationContextAC | None], reason: str
) -> None:
    with scripted(serving(answer=answer)) as scp:
        report = send([instance(syntax=IMPLICIT)], scp.port)

    assert reasons(report) == [f"the peer does not accept CT Image Storage in Implicit VR Little Endian: {reason}"]
    assert pdus(scp.peers[0]) == [ReleaseRQ()]


def test_reserved_fields_and_unknown_ids_in_an_acceptance_are_ignored() -> None:
    """PS3.8 9.3.3: the AE titles of an A-ASSOCIATE-AC are not to be tested, nor the syntax of a refused context."""

    def item(kind: int, body: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0xFF, len(body)) + body

    def script(peer: Peer) -> None:
        request = peer.expect(AssociateRQ)
        body = (
            struct.pack(">HH", 1, 0xFFFF)
            + bytes(range(64))
            + item(0x10, b"1.2.840.10008.3.1.1.1")
            + item(0x21, bytes((1, 0xFF, 0, 0xFF)) + item(0x40, JPEG.encode()))
            + item(0x21, bytes((3, 0, 3, 0)) + item(0x40, b"\xff\0junk"))
            + item(0x21, bytes((5, 0, 77, 0)))
            + item(0x21, bytes((201, 0, 0, 0)) + item(0x40, JPEG.encode()))
            + item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3.5"))
        )
        assert len(request.presentation_contexts) == 3
        peer.send(struct.pack(">BxL", 2, len(body)), body)
        peer.serve()

    instances = [instance(number, sop_class=uid, syntax=JPEG) for number, uid in enumerate((CT, MR, CR))]
    with scripted(script) as scp:
        report = send(instances, scp.port)

    assert [result.accepted for result in report.results] == [True, False, False]
    assert reasons(report)[1].endswith(": the peer does not support the SOP Class")
    assert reasons(report)[2].endswith(": rejected by the peer without a reason")


# Statuses.


@pytest.mark.parametrize(
    ("code", "took", "reason"),
    [
        (0x0000, True, ""),
        (0xB000, True, "0xB000 Warning: data elements coerced"),
        (0xB006, True, "0xB006 Warning: elements discarded"),
        (0xB007, True, "0xB007 Warning: data set does not match SOP Class"),
        (0xA700, False, "0xA700 Failure: out of resources"),
        (0xA900, False, "0xA900 Failure: data set does not match SOP Class"),
        (0xC123, False, "0xC123 Failure: cannot understand"),
        (0x0112, False, ""),
        (0x0122, False, "0x0122 Failure: SOP Class not supported"),
        (0x0124, False, ""),
        (0x0211, False, ""),
        (0xFE00, False, ""),
        (0xFF00, False, ""),
        (0xFFFF, False, ""),
    ],
)
def test_the_status_is_the_peer_s_and_decides(code: int, took: bool, reason: str) -> None:
    with scripted(serving(code)) as scp:
        report = send([instance(1), instance(2)], scp.port)

    first, second = report.results
    assert first.status is not None
    assert (first.status.code, first.accepted) == (code, took)
    assert first.reason == (str(first.status) if code else "")
    assert first.reason.lower().startswith(reason.lower())
    assert (second.accepted, report.associations) == (True, 1)


def test_a_response_without_affected_uids_is_taken() -> None:
    """They are optional in a response (PS3.7 9.3.1.2)."""

    def script(peer: Peer) -> None:
        peer.accept()
        message = peer.expect(CStoreRQ)
        elements = dict(response(message.command, 0xB000).to_raw().elements)
        del elements[Element.AFFECTED_SOP_CLASS_UID]
        del elements[Element.AFFECTED_SOP_INSTANCE_UID]
        peer.send_message(message.context_id, RawCommand(elements))
        peer.serve()

    with scripted(script) as scp:
        report = send([instance(1), instance(2)], scp.port)

    assert [result.status and result.status.code for result in report.results] == [0xB000, 0]


def test_an_error_comment_is_escaped_for_the_terminal() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        message = peer.expect(CStoreRQ)
        elements = dict(response(message.command, 0xA700).to_raw().elements)
        elements[Element.ERROR_COMMENT] = b"\x1b[2J disk\r\nfull \\ \xfc " + b"x" * 80
        elements[Element.OFFENDING_ELEMENT] = struct.pack("<HHHH", 0x10, 0x20, 8, 0x18)
        peer.send_message(message.context_id, RawCommand(elements))
        peer.serve()

    with scripted(script) as scp:
        report = send([instance()], scp.port)

    [result] = report.results
    assert result.status is not None
    comment = ("?[2J disk??full ? ? " + "x" * 80)[:64]
    assert result.status.comment == comment
    assert result.status.offending == (0x00100020, 0x00080018)
    assert comment in result.reason
    assert result.reason.isprintable()


# Answers to something else.


def test_only_the_answer_to_this_request_is_its_answer() -> None:
    """A late or wrong response is never matched (robustness C10)."""

    def script(peer: Peer) -> None:
        peer.accept()
        first = peer.expect(CStoreRQ)
        peer.answer(first, replace(response(first.command, 0xA700), message_id_being_responded_to=2))
        peer.answer(first, replace(response(first.command, 0xA701), message_id_being_responded_to=0))
        peer.answer(first, 0)
        second = peer.expect(CStoreRQ)
        peer.answer(first, 0xA702)
        peer.answer(second, 0xB000)
        peer.serve()

    with scripted(script) as scp:
        report = send([instance(1), instance(2), instance(3)], scp.port)

    assert [result.status and result.status.code for result in report.results] == [0, 0xB000, 0]


def test_an_echo_response_is_no_store_response() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        message = peer.expect(CStoreRQ)
        elements = {**response(message.command).to_raw().elements, Element.COMMAND_FIELD: struct.pack("<H", 0x8030)}
        peer.send_message(message.context_id, RawCommand(elements))
        peer.answer(message, 0xA700)
        peer.serve()

    with scripted(script) as scp:
        report = send([instance()], scp.port)

    assert [result.status and result.status.code for result in report.results] == [0xA700]


def test_an_answer_that_comes_before_the_end_of_the_data_set_counts() -> None:
    """Some peers refuse an instance on its command alone."""

    def script(peer: Peer) -> None:
        peer.accept()
        [value] = peer.expect(PDataTF).values
        command = CStoreRQ(message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3.1")
        assert encode_command(command) == value.data
        peer.answer(Message(1, command, b"", (), 0), 0xA700)
        while not peer.expect(PDataTF).values[-1].is_last:
            pass
        peer.serve()

    with scripted(script) as scp:
        report = send([instance(1, size=5_000_000), instance(2)], scp.port)

    assert [result.status and result.status.code for result in report.results] == [0xA700, 0]


def test_the_answer_may_come_byte_by_byte() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        for _ in range(2):
            message = peer.expect(CStoreRQ)
            answer = encode_message(message.context_id, response(message.command, 0xB000), None)
            for at in range(len(answer)):
                peer.send(answer[at : at + 1])
        peer.serve()

    with scripted(script) as scp:
        report = send([instance(1), instance(2)], scp.port)

    assert [result.status and result.status.code for result in report.results] == [0xB000, 0xB000]


# Maximum lengths.


@pytest.mark.parametrize("length", [8, 9, 12, 13, 4096, 4097, 16384, 0, 0xFFFFFFFF, None])
def test_no_pdu_is_longer_than_the_peer_takes(length: int | None) -> None:
    """PS3.8 D.1 and E.1; 0, or a missing item, is unlimited."""
    size = 3000 if length and length < 100 else 800_000
    with scripted(serving(maximum_length=length)) as scp:
        report = send([instance(1, size=size), CT_FILE], scp.port)

    assert len(report.accepted) == 2
    for message, data in zip(messages(scp.peers[0]), [pattern(size), data_set_of(CT_FILE)], strict=True):
        assert message.data == data
        assert message.longest <= (length or 1 << 32)
        assert all(fragment % 2 == 0 for fragment in message.fragments)
        assert min(message.fragments) > 0


@pytest.mark.parametrize("length", [1, 4, 6, 7])
def test_a_length_that_leaves_no_room_for_data_is_no_association(length: int) -> None:
    with scripted(serving(maximum_length=length)) as scp:
        report = send([instance(1), instance(2)], scp.port)

    error = (
        "the peer violated the protocol and the association was aborted: "
        f"a maximum length of {length} bytes is too short for data"
    )
    assert (report.error, report.associations) == (error, 0)
    assert reasons(report) == [f"no association: {error}"] * 2
    assert pdus(scp.peers[0]) == [Abort(AbortReason.INVALID_PDU_PARAMETER_VALUE)]


# No association.


@pytest.mark.parametrize("transient", [False, True])
@pytest.mark.parametrize("reason", RejectReason)
def test_a_rejection_is_reported_with_its_reason(reason: RejectReason, transient: bool) -> None:
    with scripted(replying(AssociateRJ(reason, transient=transient).encode())) as scp:
        report = send([instance(1), instance(2)], scp.port)

    result = "transient" if transient else "permanent"
    error = f"the peer rejected the association ({result}): {reason.meaning}"
    assert (report.error, report.associations) == (error, 0)
    assert reasons(report) == [f"no association: {error}"] * 2


@pytest.mark.parametrize(
    ("pdus", "error"),
    [
        ((Abort(AbortReason.SERVICE_USER).encode(),), "the peer aborted the association (service-user)"),
        (
            (Abort(AbortReason.UNRECOGNIZED_PDU).encode(),),
            "the peer aborted the association (service-provider: unrecognized pdu)",
        ),
        (
            (b"HTTP/1.1 400 Bad Request\r\n\r\n",),
            (
                "the peer violated the protocol and the association was aborted: "
                "unknown PDU type 48H: does the peer use HTTP?"
            ),
        ),
        ((bytes.fromhex("02 00 ffffffff"),), None),
        ((bytes.fromhex("02 00 00000004 00010000"),), None),
        ((bytes.fromhex("04 00 00000000"),), None),
        ((bytes.fromhex("06 00 00000004 00000000"),), None),
    ],
    ids=["abort", "abort of the provider", "a web server", "too long", "too short", "data", "a release"],
)
def test_a_reply_other_than_an_acceptance_is_reported(pdus: tuple[bytes, ...], error: str | None) -> None:
    with scripted(replying(*pdus)) as scp:
        report = send([instance(1), instance(2)], scp.port)

    if error is None:
        assert report.error.startswith("the peer violated the protocol and the association was aborted: ")
    else:
        assert report.error == error
    assert reasons(report) == [f"no association: {report.error}"] * 2
    assert report.associations == 0


def test_a_peer_that_closes_on_the_request_is_reported() -> None:
    def hang_up(peer: Peer) -> None:
        peer.expect(AssociateRQ)

    with scripted(hang_up) as scp:
        report = send([instance()], scp.port)

    assert (report.error, report.associations) == ("the peer closed the connection", 0)


def test_a_peer_that_never_answers_the_request_is_given_up() -> None:
    with scripted(replying()) as scp:
        report = send([instance(1), instance(2)], scp.port, timeouts=dicomport.Timeouts(acse=0.2))

    error = "the acse timer expired after 0.2 s"
    assert (report.error, report.associations) == (error, 0)
    assert reasons(report) == [f"no association: {error}"] * 2
    assert pdus(scp.peers[0]) == [Abort(AbortReason.SERVICE_USER)]


@with_both
def test_a_port_without_a_listener_is_reported(api: Api) -> None:
    port = unused_port()

    report = api.run(_sent(api, [instance(1), instance(2)], port))

    error = f"nothing listens on 127.0.0.1:{port}: check the port, and that the peer runs"
    assert (report.error, report.associations) == (error, 0)
    assert reasons(report) == [f"no association: {error}"] * 2


@with_both
@pytest.mark.parametrize("host", ["no-such-host.invalid", "pacs..example", "x" * 64 + ".example", ""])
def test_an_unknown_host_name_is_in_the_report(api: Api, host: str) -> None:
    async def scenario() -> SendReport:
        return await api.send([instance()], host, 104)

    report = api.run(scenario())

    assert report.error == f"unknown host name {host}: check its spelling"
    assert report.associations == 0


def test_each_planned_association_is_tried() -> None:
    """130 pairs take two: the first is rejected for now, the second is accepted."""
    instances = [instance(number, sop_class=f"1.2.826.0.1.3680043.99.{number}", syntax=JPEG) for number in range(130)]
    rejection = AssociateRJ(RejectReason.TEMPORARY_CONGESTION, transient=True)

    with scripted(replying(rejection.encode()), serving()) as scp:
        report = send(instances, scp.port)

    assert (report.associations, len(report.accepted), len(report.failed)) == (1, 2, 128)
    assert report.error == "the peer rejected the association (transient): temporary congestion"
    assert stored(scp) == [[], ["1.2.3.128", "1.2.3.129"]]


def test_a_cancelled_send_leaves_no_association_behind() -> None:
    async def scenario(port: int) -> None:
        told: list[InstanceResult] = []
        arrived = asyncio.Event()

        def tell(result: InstanceResult) -> None:
            told.append(result)
            arrived.set()

        task = asyncio.create_task(dicomport.send([instance(1), instance(2)], HOST, port, on_result=tell))
        await arrived.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert [result.reason for result in told] == ["", "interrupted: it is unknown whether the peer has stored it"]

    def script(peer: Peer) -> None:
        peer.accept()
        peer.answer(peer.expect(CStoreRQ))
        while peer.receive() is not None:
            pass

    with scripted(script) as scp:
        asyncio.run(scenario(scp.port))

    assert pdus(scp.peers[0])[-1:] == [Abort(AbortReason.SERVICE_USER)]


def test_an_acceptance_may_come_together_with_what_follows_it() -> None:
    """A request of the peer directly after its acceptance is refused, and the instance is sent."""

    def script(peer: Peer) -> None:
        request = peer.expect(AssociateRQ)
        find = RawCommand(
            {
                Element.AFFECTED_SOP_CLASS_UID: CT.encode() + b"\0",
                Element.COMMAND_FIELD: struct.pack("<H", 0x0020),
                Element.MESSAGE_ID: struct.pack("<H", 77),
                Element.COMMAND_DATA_SET_TYPE: struct.pack("<H", 0x0101),
            }
        )
        peer.send(acceptance(request), encode_message(1, find, None))
        peer.serve()

    with scripted(script) as scp:
        report = send([instance(syntax=EXPLICIT)], scp.port)

    assert len(report.accepted) == 1
    refusals = [message.command for message in messages(scp.peers[0]) if isinstance(message.command, RawCommand)]
    assert [refusal.elements[Element.STATUS] for refusal in refusals] == [struct.pack("<H", 0x0211)]

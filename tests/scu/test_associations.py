"""An association of one's own, in both runners: each test is the same for asyncio and for a blocking socket."""

import asyncio
import contextlib
import struct
import time
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import pytest
from tests.core.messages import COMMAND, DATA, LAST_DATA, p_data, pdv
from tests.ports import unused_port
from tests.scu.data import (
    CR,
    CT,
    CT_FILE,
    EXPLICIT,
    IMPLICIT,
    JPEG,
    MR,
    VERIFICATION,
    data_set_of,
    instance,
    part10,
    pattern,
)
from tests.scu.runners import APIS, Api, Association, with_both
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
from dicomport.core import NegotiationResult
from dicomport.scu import Instance, NotSendableError
from dicomport.scu.inputs.locations import FileRegion, stamp_of
from dicomport.testing import GoneError, Peer, encode_message, response
from dicomport.wire import (
    Abort,
    AbortReason,
    AssociateRJ,
    AssociateRQ,
    AsynchronousOperationsWindow,
    CEchoRQ,
    CStoreRQ,
    Element,
    PresentationContextAC,
    PresentationContextRQ,
    RawCommand,
    RejectReason,
    ReleaseRP,
    ReleaseRQ,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityRQ,
    encode_command,
)

HOST: Final = "127.0.0.1"
CONTEXTS: Final = (VERIFICATION, dicomport.sop_classes.CTImageStorage, (MR, JPEG))
SHORT: Final = 0.2


class OursError(Exception):
    """What the block itself raises."""


def raw(field: int, message_id: int, *, data_set: bool = False, sop_class: str = CT, **elements: bytes) -> RawCommand:
    """Make a request of the peer's that we know nothing of."""
    return RawCommand(
        {
            Element.AFFECTED_SOP_CLASS_UID: sop_class.encode() + b"\0" * (len(sop_class) % 2),
            Element.COMMAND_FIELD: struct.pack("<H", field),
            Element.MESSAGE_ID: struct.pack("<H", message_id),
            Element.COMMAND_DATA_SET_TYPE: struct.pack("<H", 0 if data_set else 0x0101),
            **{Element[name]: value for name, value in elements.items()},
        }
    )


def statuses(peer: Peer) -> list[tuple[int, int, int]]:
    """Give command field, message id and status of each refusal that the peer got."""
    commands = [message.command for message in messages(peer)]
    responses = [command if isinstance(command, RawCommand) else command.to_raw() for command in commands]

    def number(command: RawCommand, element: Element) -> int:
        return int.from_bytes(command.elements[element], "little")

    return [
        (
            command.command_field,
            number(command, Element.MESSAGE_ID_BEING_RESPONDED_TO),
            number(command, Element.STATUS),
        )
        for command in responses
        if command.is_response
    ]


# From its beginning to its end.


@with_both
def test_a_block_is_an_association_and_its_end_the_release(api: Api) -> None:
    with scripted(serving(0xB000)) as scp:

        async def scenario() -> None:
            async with api.associate(HOST, scp.port, contexts=CONTEXTS) as association:
                assert association.open
                assert (await association.c_echo()).code == 0
                stored = await association.c_store(CT_FILE)
                assert (stored.status.code, stored.accepted, stored.category) == (
                    0xB000,
                    True,
                    dicomport.Category.WARNING,
                )
                assert stored.sop_instance_uid.startswith("1.3.6.1.4.1.5962")
                assert stored.error_comment == ""
            assert not association.open

        api.run(scenario())

    [peer] = scp.peers
    assert [message.data for message in messages(peer)] == [b"", data_set_of(CT_FILE)]
    assert pdus(peer) == [ReleaseRQ()]


@with_both
def test_the_result_of_negotiation_is_available(api: Api) -> None:
    def answer(proposed: PresentationContextRQ) -> PresentationContextAC:
        return refused(proposed) if proposed.abstract_syntax == MR else accepted(proposed)

    async def scenario(port: int) -> NegotiationResult:
        async with api.associate(HOST, port, contexts=CONTEXTS) as association:
            outcome: NegotiationResult = association.outcome
            return outcome

    with scripted(serving(answer=answer, maximum_length=1234)) as scp:
        outcome = api.run(scenario(scp.port))

    assert [(c.context_id, c.abstract_syntax, c.transfer_syntax, c.reason) for c in outcome.contexts] == [
        (1, VERIFICATION, EXPLICIT, "accepted"),
        (3, CT, EXPLICIT, "accepted"),
        (5, MR, "", "the peer does not support the SOP Class"),
    ]
    assert (outcome.peer_maximum_length, outcome.peer.class_uid) == (1234, "1.2.3.5")
    assert outcome.operations_window == AsynchronousOperationsWindow(1, 1)


@with_both
def test_all_that_can_be_negotiated_reaches_the_peer(api: Api) -> None:
    items: dict[str, Any] = {
        "maximum_length": 0,
        "operations_window": AsynchronousOperationsWindow(3, 1),
        "roles": (RoleSelection(CT, scu=True, scp=True),),
        "extended": (SOPClassExtendedNegotiation(CT, b"\2\0\3\0"),),
        "common_extended": (SOPClassCommonExtendedNegotiation(CT, "1.2.840.10008.4.2", ()),),
        "user_identity": UserIdentityRQ(2, True, b"me", b"secret"),
    }

    async def scenario(port: int) -> None:
        async with api.associate(HOST, port, contexts=[CT], ae_title="ME", called_ae_title="YOU", **items):
            pass

    with scripted(serving()) as scp:
        api.run(scenario(scp.port))

    [request] = requests(scp)
    assert (request.calling_ae_title, request.called_ae_title) == ("ME", "YOU")
    assert {name: getattr(request.user_information, name) for name in items} == items


@with_both
def test_a_block_that_raises_aborts(api: Api) -> None:
    with scripted(serving()) as scp:

        async def scenario() -> None:
            async with api.associate(HOST, scp.port, contexts=CONTEXTS) as association:
                await association.c_echo()
                raise OursError

        with pytest.raises(OursError):
            api.run(scenario())

    assert pdus(scp.peers[0]) == [Abort(AbortReason.SERVICE_USER)]


@with_both
@pytest.mark.parametrize("how", ["release", "abort"])
def test_a_block_may_end_the_association_itself(api: Api, how: str) -> None:
    with scripted(serving()) as scp:

        async def scenario() -> None:
            async with api.associate(HOST, scp.port, contexts=CONTEXTS) as association:
                await getattr(association, how)()
                assert not association.open
                for use in (association.c_echo(), association.c_store(CT_FILE), association.release()):
                    with pytest.raises(dicomport.ConnectionLostError, match="the association has ended"):
                        await use
                await association.abort()

        api.run(scenario())

    assert pdus(scp.peers[0]) == [ReleaseRQ() if how == "release" else Abort(AbortReason.SERVICE_USER)]


@with_both
def test_after_the_block_nothing_can_be_sent(api: Api) -> None:
    with scripted(serving()) as scp:

        async def scenario() -> None:
            async with api.associate(HOST, scp.port, contexts=CONTEXTS) as association:
                pass
            with pytest.raises(dicomport.ConnectionLostError, match="the association has ended"):
                await association.c_echo()

        api.run(scenario())


def test_a_cancelled_task_aborts() -> None:
    async def scenario(port: int) -> None:
        asked = asyncio.Event()

        async def ask() -> None:
            async with dicomport.associate(HOST, port, contexts=CONTEXTS) as association:
                asked.set()
                await association.c_echo()

        task = asyncio.create_task(ask())
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with scripted(replying_to_nothing) as scp:
        asyncio.run(scenario(scp.port))

    assert pdus(scp.peers[0]) == [Abort(AbortReason.SERVICE_USER)]


def replying_to_nothing(peer: Peer) -> None:
    peer.accept()
    while peer.receive() is not None:
        pass


# What goes wrong with one instance and leaves the association as it was.


@with_both
def test_an_unsendable_instance_leaves_the_association_open(api: Api, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"text" * 100)
    gone = part10(tmp_path / "gone", syntax=IMPLICIT)
    unread = dicomport.scu.instance_from_path(gone)
    gone.unlink()

    def answer(proposed: PresentationContextRQ) -> PresentationContextAC:
        return refused(proposed) if proposed.abstract_syntax == MR else accepted(proposed)

    with scripted(serving(0xA700, answer=answer)) as scp:

        async def scenario() -> None:
            contexts = [VERIFICATION, (CT, IMPLICIT), (MR, JPEG)]
            async with api.associate(HOST, scp.port, contexts=contexts) as association:
                with pytest.raises(NotSendableError, match="not a DICOM file"):
                    await association.c_store(tmp_path / "text")
                with pytest.raises(NotSendableError, match="No such file or directory"):
                    await association.c_store(str(tmp_path / "nothing"))
                with pytest.raises(NotSendableError, match=r"can't be read: .*No such file"):
                    await association.c_store(unread)
                with pytest.raises(dicomport.NoContextError, match="does not accept MR Image Storage") as refusal:
                    await association.c_store(instance(sop_class=MR, syntax=JPEG))
                assert "the peer does not support the SOP Class" in str(refusal.value)
                with pytest.raises(dicomport.NoContextError, match=r"only in Implicit .* conversion is required"):
                    await association.c_store(CT_FILE)
                with pytest.raises(
                    dicomport.NoContextError, match="no presentation context was proposed for Computed Radiography"
                ):
                    await association.c_store(instance(sop_class=CR))
                assert association.open
                assert not (await association.c_store(instance(7, syntax=IMPLICIT))).accepted
                assert (await association.c_store(instance(8, syntax=IMPLICIT))).accepted

        api.run(scenario())

    [peer] = scp.peers
    assert [store.command.affected_sop_instance_uid for store in peer.stores] == ["1.2.3.7", "1.2.3.8"]
    assert pdus(peer) == [ReleaseRQ()]


@with_both
def test_without_a_context_for_it_there_is_no_echo_and_no_harm(api: Api) -> None:
    with scripted(serving()) as scp:

        async def scenario() -> None:
            async with api.associate(HOST, scp.port, contexts=[CT]) as association:
                with pytest.raises(dicomport.NoContextError, match="no presentation context for verification"):
                    await association.c_echo()
                assert (await association.c_store(instance())).accepted

        api.run(scenario())

    assert pdus(scp.peers[0]) == [ReleaseRQ()]


@with_both
def test_a_message_that_has_begun_and_cannot_end_aborts(api: Api, tmp_path: Path) -> None:
    path = part10(tmp_path / "1.dcm", syntax=IMPLICIT, size=2 << 20)
    # As if the file had been longer when it was found, and cut while it is read.
    source = FileRegion(str(path), 0, 4 << 20, stamp_of(path.stat()))
    found = Instance(CT, "1.2.3.4", IMPLICIT, source)

    with scripted(serving()) as scp:

        async def scenario() -> None:
            async with api.associate(HOST, scp.port, contexts=[(CT, IMPLICIT)]) as association:
                with pytest.raises(NotSendableError, match="can't be read to its end"):
                    await association.c_store(found)
                assert not association.open
                with pytest.raises(dicomport.ConnectionLostError):
                    await association.c_store(instance())

        api.run(scenario())

    assert pdus(scp.peers[0]) == [Abort(AbortReason.SERVICE_USER)]


@with_both
def test_a_context_with_several_syntaxes_sends_in_the_one_that_was_chosen(api: Api) -> None:
    def answer(proposed: PresentationContextRQ) -> PresentationContextAC:
        from dicomport.wire import ContextResult

        return PresentationContextAC(proposed.context_id, ContextResult.ACCEPTED, proposed.transfer_syntaxes[-1])

    with scripted(serving(answer=answer)) as scp:

        async def scenario() -> None:
            async with api.associate(HOST, scp.port, contexts=[(CT, (JPEG, EXPLICIT, IMPLICIT))]) as association:
                assert (await association.c_store(instance(1, syntax=IMPLICIT))).accepted
                with pytest.raises(dicomport.NoContextError, match="only in Implicit VR Little Endian"):
                    await association.c_store(instance(2, syntax=JPEG))

        api.run(scenario())

    assert stored(scp) == [["1.2.3.1"]]


@with_both
@pytest.mark.parametrize("count", [0, 129])
def test_contexts_that_make_no_request_are_refused_at_once(api: Api, count: int) -> None:
    async def scenario() -> None:
        async with api.associate(HOST, unused_port(), contexts=[CT] * count):
            pass

    with pytest.raises(ValueError, match="1 to 128 presentation contexts"):
        api.run(scenario())


# What goes wrong with the association.


@with_both
def test_a_rejection_has_its_value(api: Api) -> None:
    rejection = AssociateRJ(RejectReason.CALLED_AE_TITLE_NOT_RECOGNIZED)

    async def scenario(port: int) -> None:
        async with api.associate(HOST, port, contexts=CONTEXTS):
            raise AssertionError

    with (
        scripted(replying(rejection.encode())) as scp,
        pytest.raises(
            dicomport.RejectedError, match=r"rejected the association \(permanent\): called AE title"
        ) as error,
    ):
        api.run(scenario(scp.port))

    assert error.value.rejection == rejection


@with_both
def test_an_abort_has_its_value(api: Api) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect(CEchoRQ)
        peer.send(Abort(AbortReason.UNEXPECTED_PDU))
        assert peer.receive() is None

    with scripted(script) as scp:

        async def scenario() -> None:
            async with api.associate(HOST, scp.port, contexts=CONTEXTS) as association:
                try:
                    await association.c_echo()
                finally:
                    assert not association.open

        with pytest.raises(dicomport.AbortedError, match="service-provider: unexpected pdu") as error:
            api.run(scenario())

    assert (error.value.aborted.by_peer, error.value.aborted.reason) == (True, AbortReason.UNEXPECTED_PDU)


@with_both
def test_a_protocol_error_of_the_peer_is_raised_and_aborted(api: Api) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect(CEchoRQ)
        peer.send(b"\xff" * 6)
        while peer.receive() is not None:
            pass

    with scripted(script) as scp:

        async def scenario() -> None:
            async with api.associate(HOST, scp.port, contexts=CONTEXTS) as association:
                await association.c_echo()

        with pytest.raises(dicomport.AbortedError, match=r"violated the protocol.*unknown PDU type FFH") as error:
            api.run(scenario())

    assert not error.value.aborted.by_peer
    assert pdus(scp.peers[0])[0] == Abort(AbortReason.UNRECOGNIZED_PDU)


@with_both
@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_lost_connection_is_told(api: Api, ending: str) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect(CEchoRQ)
        if ending == "reset":
            peer.reset()

    with scripted(script) as scp:

        async def scenario() -> None:
            async with api.associate(HOST, scp.port, contexts=CONTEXTS) as association:
                with pytest.raises(dicomport.ConnectionLostError, match="the peer closed the connection"):
                    await association.c_echo()
                assert not association.open

        api.run(scenario())


@with_both
def test_an_unconfirmed_release_raises_at_the_end_of_the_block(api: Api) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        assert peer.receive() == ReleaseRQ()

    async def scenario(port: int) -> None:
        async with api.associate(HOST, port, contexts=CONTEXTS):
            pass

    with scripted(script) as scp, pytest.raises(dicomport.ConnectionLostError, match="the peer closed the connection"):
        api.run(scenario(scp.port))


# Timers.


@with_both
def test_the_acse_timer_bounds_the_wait_for_the_acceptance(api: Api) -> None:
    async def scenario(port: int) -> None:
        async with api.associate(HOST, port, contexts=CONTEXTS, timeouts=dicomport.Timeouts(acse=SHORT)):
            raise AssertionError

    with (
        scripted(replying()) as scp,
        pytest.raises(dicomport.TimerExpiredError, match=r"acse timer .* 0\.2 s") as error,
    ):
        api.run(scenario(scp.port))

    assert error.value.timer.name == "acse"
    assert pdus(scp.peers[0]) == [Abort(AbortReason.SERVICE_USER)]


@with_both
@pytest.mark.parametrize("timeouts", [dicomport.Timeouts(acse=SHORT), dicomport.Timeouts(release=SHORT)])
def test_the_release_timer_bounds_the_wait_for_the_release(api: Api, timeouts: dicomport.Timeouts) -> None:
    """By default it is the ACSE timer's time."""

    async def scenario(port: int) -> None:
        async with api.associate(HOST, port, contexts=CONTEXTS, timeouts=timeouts):
            pass

    with scripted(replying_to_nothing) as scp, pytest.raises(dicomport.TimerExpiredError, match="release timer"):
        api.run(scenario(scp.port))

    assert pdus(scp.peers[0]) == [ReleaseRQ(), Abort(AbortReason.SERVICE_USER)]


@with_both
def test_the_dimse_timer_bounds_the_wait_for_an_answer(api: Api) -> None:
    with scripted(replying_to_nothing) as scp:

        async def scenario() -> None:
            timeouts = dicomport.Timeouts(dimse=SHORT)
            async with api.associate(HOST, scp.port, contexts=CONTEXTS, timeouts=timeouts) as association:
                with pytest.raises(dicomport.TimerExpiredError, match="dimse timer"):
                    await association.c_echo()
                assert not association.open

        api.run(scenario())

    assert pdus(scp.peers[0]) == [Abort(AbortReason.SERVICE_USER)]


def test_the_dimse_timer_is_not_started_anew_by_what_is_no_answer() -> None:
    """`Timeouts.dimse` runs from the moment that the request's last byte has left."""

    def script(peer: Peer) -> None:
        peer.accept()
        message = peer.expect(CEchoRQ)
        patience = time.monotonic() + 1
        with contextlib.suppress(GoneError):
            while time.monotonic() < patience:
                peer.answer(message, replace(response(message.command), message_id_being_responded_to=2))

    with scripted(script) as scp, pytest.raises(dicomport.TimerExpiredError, match="dimse timer"):
        APIS[0].run(_echo(APIS[0], scp.port, dicomport.Timeouts(dimse=SHORT)))


# Message ids.


@with_both
def test_message_ids_wrap_from_65535_to_1(api: Api) -> None:
    """0 is no Message ID that every peer knows (robustness C11)."""
    with scripted(serving()) as scp:

        async def scenario() -> None:
            async with api.associate(HOST, scp.port, contexts=CONTEXTS) as association:
                await association.c_echo()
                inner = getattr(association, "blocking", association)
                inner._requestor.exchange._message_id = 65533
                for _ in range(2):
                    assert (await association.c_echo()).code == 0
                assert (await association.c_store(instance())).accepted
                assert (await association.c_echo()).code == 0

        api.run(scenario())

    assert [message.command.message_id for message in messages(scp.peers[0])] == [1, 65534, 65535, 1, 2]


# What the peer asks while it owes an answer.


async def _echo(api: Api, port: int, timeouts: dicomport.Timeouts | None = None) -> dicomport.Status:
    async with api.associate(HOST, port, contexts=CONTEXTS, timeouts=timeouts) as association:
        status: dicomport.Status = await cast("Association", association).c_echo()
        return status


def interrupted(*pdus: bytes, status: int = 0xB000) -> Any:
    """Make the script of a peer that says something else before it answers."""

    def script(peer: Peer) -> None:
        peer.accept()
        message = peer.expect(CEchoRQ)
        peer.send(*pdus)
        peer.answer(message, status)
        peer.serve()

    return script


@with_both
@pytest.mark.parametrize("field", [0x0020, 0x0021, 0x0010, 0x0110, 0x0120, 0x0140, 0x0150, 0x7777])
def test_a_request_of_the_peer_s_is_refused_and_the_wait_goes_on(api: Api, field: int) -> None:
    with scripted(interrupted(encode_message(3, raw(field, 42), None))) as scp:
        assert api.run(_echo(api, scp.port)).code == 0xB000

    assert statuses(scp.peers[0]) == [(field | 0x8000, 42, 0x0211)]
    assert pdus(scp.peers[0]) == [ReleaseRQ()]


@with_both
def test_a_c_store_of_the_peer_s_is_refused_with_its_data_set_passed_over(api: Api) -> None:
    command = CStoreRQ(message_id=9, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3")
    pdus = (
        encode_message(3, command, None),
        p_data(pdv(3, DATA, pattern(5000))),
        p_data(pdv(3, LAST_DATA, pattern(100))),
    )

    with scripted(interrupted(*pdus)) as scp:
        assert api.run(_echo(api, scp.port)).code == 0xB000

    assert statuses(scp.peers[0]) == [(0x8001, 9, 0x0211)]


@with_both
def test_a_c_echo_of_the_peer_s_is_refused_too(api: Api) -> None:
    command = CEchoRQ(message_id=9, affected_sop_class_uid=VERIFICATION)

    with scripted(interrupted(encode_message(1, command, None))) as scp:
        assert api.run(_echo(api, scp.port)).code == 0xB000

    assert statuses(scp.peers[0]) == [(0x8030, 9, 0x0211)]


@with_both
def test_a_malformed_request_of_the_peer_s_is_refused_as_what_it_is(api: Api) -> None:
    command = raw(0x0001, 9)
    without = RawCommand({**command.elements, Element.AFFECTED_SOP_INSTANCE_UID: b""})

    with scripted(interrupted(encode_message(3, without, None))) as scp:
        assert api.run(_echo(api, scp.port)).code == 0xB000

    assert statuses(scp.peers[0]) == [(0x8001, 9, 0x0117)]


@with_both
def test_a_c_cancel_is_never_answered(api: Api) -> None:
    """PS3.7 9.3.2.3."""
    cancel = RawCommand(
        {
            Element.COMMAND_FIELD: struct.pack("<H", 0x0FFF),
            Element.MESSAGE_ID_BEING_RESPONDED_TO: struct.pack("<H", 1),
            Element.COMMAND_DATA_SET_TYPE: struct.pack("<H", 0x0101),
        }
    )

    with scripted(interrupted(encode_message(1, cancel, None))) as scp:
        assert api.run(_echo(api, scp.port)).code == 0xB000

    assert statuses(scp.peers[0]) == []


@with_both
def test_responses_to_nobody_are_passed_over(api: Api) -> None:
    """Robustness C10."""
    answer = response(CEchoRQ(message_id=1, affected_sop_class_uid=VERIFICATION), 0xA700)
    unasked = [encode_message(1, replace(answer, message_id_being_responded_to=number)) for number in (0, 2, 65535)]
    unknown = raw(0x8020, 0, STATUS=b"\0\xff", MESSAGE_ID_BEING_RESPONDED_TO=b"\1\0")

    with scripted(interrupted(*unasked, encode_message(1, unknown, None))) as scp:
        assert api.run(_echo(api, scp.port)).code == 0xB000

    assert statuses(scp.peers[0]) == []


# Releases of the peer's (PS3.8 7.2, Table 9-8).


@with_both
def test_a_release_collision_ends_well_for_the_requestor(api: Api) -> None:
    """AR-8, AR-9, AR-3: the requestor confirms first, and is confirmed then."""

    def script(peer: Peer) -> None:
        peer.accept()
        assert peer.receive() == ReleaseRQ()
        peer.send(ReleaseRQ())
        assert peer.receive() == ReleaseRP()
        peer.send(ReleaseRP())
        assert peer.receive() is None

    async def scenario(port: int) -> None:
        async with api.associate(HOST, port, contexts=CONTEXTS):
            pass

    with scripted(script) as scp:
        api.run(scenario(scp.port))

    assert pdus(scp.peers[0]) == [ReleaseRQ(), ReleaseRP()]


@with_both
def test_a_release_that_crosses_ours_on_the_way_is_a_collision_too(api: Api) -> None:
    def script(peer: Peer) -> None:
        request = peer.expect(AssociateRQ)
        peer.send(acceptance(request), ReleaseRQ())
        assert peer.receive() == ReleaseRQ()
        assert peer.receive() == ReleaseRP()
        peer.send(ReleaseRP())
        assert peer.receive() is None

    async def scenario(port: int) -> None:
        async with api.associate(HOST, port, contexts=CONTEXTS):
            pass

    with scripted(script) as scp:
        api.run(scenario(scp.port))


@with_both
def test_answers_that_come_late_do_not_disturb_the_release(api: Api) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        message = peer.expect(CEchoRQ)
        peer.answer(message)
        assert peer.receive() == ReleaseRQ()
        peer.answer(message)
        peer.send(ReleaseRP())
        assert peer.receive() is None

    with scripted(script) as scp:
        assert api.run(_echo(api, scp.port)).code == 0


@with_both
def test_a_peer_that_releases_instead_of_answering_is_told(api: Api) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect(CEchoRQ)
        peer.send(ReleaseRQ())
        assert peer.receive() == ReleaseRP()

    with (
        scripted(script) as scp,
        pytest.raises(dicomport.ConnectionLostError, match="the peer released the association"),
    ):
        api.run(_echo(api, scp.port))


@with_both
def test_a_peer_that_releases_and_goes_is_told_likewise(api: Api) -> None:
    """There is nobody left to confirm it to; the RST may even take the request with it."""

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect(CEchoRQ)
        peer.send(ReleaseRQ())
        peer.reset()

    for _ in range(10):
        with scripted(script) as scp, pytest.raises(dicomport.ConnectionLostError):
            api.run(_echo(api, scp.port))


@with_both
def test_a_release_request_inside_a_message_breaks_the_protocol(api: Api) -> None:
    part = p_data(pdv(1, COMMAND, encode_command(raw(0x0020, 7))[:20]))

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect(CEchoRQ)
        peer.send(part, ReleaseRQ())
        assert peer.receive() == Abort(AbortReason.UNEXPECTED_PDU)

    with scripted(script) as scp, pytest.raises(dicomport.AbortedError, match="A-RELEASE-RQ inside a message"):
        api.run(_echo(api, scp.port))


# Both, at our own receiver.


@with_both
@pytest.mark.parametrize("length", [4096, 1 << 18])
def test_bytes_arrive_as_they_left(api: Api, tmp_path: Path, length: int) -> None:
    received: list[bytes] = []

    def handle(request: dicomport.StoreRequest) -> int:
        received.append(request.encoded())
        return 0

    path = part10(tmp_path / "1.dcm", syntax=EXPLICIT, data=pattern(1_200_000))

    with dicomport.StorageSCP(handle, port=0, maximum_length=length).in_thread() as scp:

        async def scenario() -> None:
            async with api.associate(HOST, scp.port, contexts=CONTEXTS) as association:
                assert (await association.c_echo()).code == 0
                for what in (path, CT_FILE, instance(3, size=70_000)):
                    assert (await association.c_store(what)).accepted

        api.run(scenario())

    assert received == [pattern(1_200_000), data_set_of(CT_FILE), pattern(70_000)]


def test_many_blocking_associations_in_threads_do_not_meet(tmp_path: Path) -> None:
    import threading

    storage = dicomport.FolderStorage(tmp_path, dicomport.Durability.FLUSH)
    failures: list[BaseException] = []

    def store(number: int, port: int) -> None:
        try:
            with dicomport.blocking.associate(HOST, port, contexts=[CT]) as association:
                for step in range(10):
                    assert association.c_store(instance(number * 100 + step, size=5000 + number)).accepted
        except BaseException as error:  # noqa: BLE001  # it fails the test, in the test's own thread
            failures.append(error)

    with dicomport.StorageSCP(storage, port=0).in_thread() as scp:
        threads = [threading.Thread(target=store, args=(number, scp.port)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert failures == []
    assert len(list(tmp_path.iterdir())) == 80


def test_many_associations_in_one_loop_do_not_meet(tmp_path: Path) -> None:
    storage = dicomport.FolderStorage(tmp_path, dicomport.Durability.FLUSH)

    async def scenario() -> None:
        async with dicomport.StorageSCP(storage, port=0) as scp:

            async def store(number: int) -> None:
                async with dicomport.associate(HOST, scp.port, contexts=[CT]) as association:
                    for step in range(5):
                        assert (await association.c_store(instance(number * 100 + step, size=5000 + number))).accepted

            stores: list[Coroutine[Any, Any, None]] = [store(number) for number in range(16)]
            await asyncio.gather(*stores)

    asyncio.run(scenario())

    assert len(list(tmp_path.iterdir())) == 80

"""A client association, in both runners: each test is the same for asyncio and for a blocking socket."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

import pytest
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
    image,
    instance,
    part10,
    pattern,
)
from tests.scu.runners import Api, with_both
from tests.scu.scripts import (
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
from dicomport.testing import Peer
from dicomport.wire import (
    Abort,
    AbortReason,
    AssociateRJ,
    AsynchronousOperationsWindow,
    CEchoRQ,
    PresentationContextAC,
    PresentationContextRQ,
    RejectReason,
    ReleaseRQ,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityRQ,
)

HOST: Final = "127.0.0.1"
CONTEXTS: Final = (VERIFICATION, dicomport.sop_classes.CTImageStorage, (MR, JPEG))
SHORT: Final = 0.2


class OursError(Exception):
    """Raised by the block itself."""


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


# Failures of one instance that leave the association open.


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
                with pytest.raises(NotSendableError, match=r"cannot be read: .*No such file"):
                    await association.c_store(unread)
                with pytest.raises(dicomport.NoContextError, match="does not accept MR Image Storage") as refusal:
                    await association.c_store(instance(sop_class=MR, syntax=JPEG))
                assert "the peer does not support the SOP Class" in str(refusal.value)
                with pytest.raises(
                    dicomport.NoContextError, match=r"only in Implicit .* would have to be converted \(--convert"
                ):
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
def test_an_echo_without_a_context_raises_and_keeps_the_association(api: Api) -> None:
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
                with pytest.raises(NotSendableError, match="cannot be read to its end"):
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


# Failures of the association.


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
def test_a_lost_connection_is_reported(api: Api, ending: str) -> None:
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
    """The default is the time of the ACSE timer."""

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


# Both, at our own receiver.


@with_both
@pytest.mark.parametrize("length", [4096, 1 << 18])
def test_bytes_arrive_as_they_left(api: Api, tmp_path: Path, length: int) -> None:
    received: list[bytes] = []

    def handle(request: dicomport.StoreRequest) -> int:
        received.append(request.encoded())
        return 0

    path = part10(tmp_path / "1.dcm", syntax=EXPLICIT, data=image(pattern(1_200_000)))

    with dicomport.StorageSCP(handle, port=0, maximum_length=length).in_thread() as scp:

        async def scenario() -> None:
            async with api.associate(HOST, scp.port, contexts=CONTEXTS) as association:
                assert (await association.c_echo()).code == 0
                for what in (path, CT_FILE, instance(3, size=70_000)):
                    assert (await association.c_store(what)).accepted

        api.run(scenario())

    assert received == [image(pattern(1_200_000)), data_set_of(CT_FILE), pattern(70_000)]


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

"""Our sender to DCMTK's receiver, which writes down what it gets bit for bit: the files' bytes, no more and no less."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pydicom
import pytest
from pydicom.uid import UID
from tests.interop.conftest import (
    HOST,
    ONE_BY_ONE,
    TEST_FILES,
    TLS,
    Copies,
    StartStoreSCP,
    contexts_for,
    copies_of,
    paths,
    sendable,
)
from tests.scu.data import explicit, part10, uid
from tests.scu.inputs.scanning import scan

import dicomport
from dicomport import (
    AbortedError,
    ConnectError,
    ConnectionLostError,
    InstanceResult,
    RejectedError,
    Timeouts,
    TimerExpiredError,
)
from dicomport.scu import Instance, instance_from_dataset, instance_from_path
from dicomport.standard import MEDIA_STORAGE_DIRECTORY, VERIFICATION, find_transfer_syntax
from dicomport.wire import RejectReason

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]

CT: Final = TEST_FILES / "CT_small.dcm"
CT_CLASS: Final = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
PRIVATE_CLASS: Final = "1.2.826.0.1.3680043.9.3811.99"
CONTEXTS: Final = [(CT_CLASS, EXPLICIT), (VERIFICATION, EXPLICIT)]
UNCOMPRESSED: Final = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}


def private_instance() -> Instance:
    dataset = pydicom.dcmread(CT)
    dataset.SOPClassUID = PRIVATE_CLASS
    dataset.file_meta.MediaStorageSOPClassUID = UID(PRIVATE_CLASS)
    return instance_from_dataset(dataset)


def fates(results: tuple[InstanceResult, ...]) -> Copies:
    """Return the accepted instances among the files, by the results."""
    taken = {result.path for result in results if result.accepted}
    return copies_of(instance for instance in sendable() if instance.path in taken)


@pytest.mark.parametrize("options", [(), ("-pdu", "4096"), ("-pdu", "131072"), ("-pm",), ("--fork",)], ids=" ".join)
def test_every_file_arrives_as_it_is(storescp: StartStoreSCP, options: tuple[str, ...]) -> None:
    peer = storescp("+B", "+xa", *options)
    report = dicomport.blocking.send(paths(sendable()), HOST, peer.port)
    assert [(result.path, result.reason) for result in report.failed] == []
    assert (report.associations in {1, 2}, report.error) == (True, "")
    assert peer.copies == copies_of(sendable())


def test_the_folder_itself_is_sent_from_asyncio(storescp: StartStoreSCP) -> None:
    peer = storescp("+B", "+xa")
    told: list[InstanceResult] = []
    report = asyncio.run(dicomport.send(TEST_FILES, HOST, peer.port, on_result=told.append))
    assert report.results == tuple(told)
    assert {result.path for result in report.accepted} == set(paths(sendable()))
    # Exactly the files that are not instances have a reason and no response.
    assert all(result.status is None and result.reason and not result.sop_class_uid for result in report.failed)
    assert peer.copies == copies_of(sendable())


def test_blocking_association(storescp: StartStoreSCP) -> None:
    peer = storescp("+B", "+xa", "-pdu", "4096")
    contexts = [*contexts_for(sendable()), (VERIFICATION, EXPLICIT)]
    with dicomport.blocking.associate(HOST, peer.port, contexts=contexts, called_ae_title="STORESCP") as association:
        assert association.outcome.peer.version_name == "OFFIS_DCMTK_367"
        assert association.outcome.peer_maximum_length == 4096
        assert all(association.c_store(instance).status.code == 0x0000 for instance in sendable())
        assert association.c_echo().code == 0x0000
    assert peer.copies == copies_of(sendable())


def test_asyncio_association(storescp: StartStoreSCP) -> None:
    peer = storescp("+B", "+xa")

    async def store() -> None:
        async with dicomport.associate(HOST, peer.port, contexts=CONTEXTS) as association:
            assert (await association.c_echo()).code == 0x0000
            response = await association.c_store(CT)
            assert response.status.code == 0x0000
            assert (await association.c_echo()).code == 0x0000

    asyncio.run(store())
    assert peer.copies == copies_of([instance_from_path(CT)])


def test_every_file_arrives_over_tls(storescp: StartStoreSCP, tls: TLS) -> None:
    peer = storescp("+B", "+xa", *tls.options)
    report = dicomport.blocking.send(paths(sendable()), HOST, peer.port, tls=tls.client())
    assert [(result.path, result.reason) for result in report.failed] == []
    assert peer.copies == copies_of(sendable())


@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
@pytest.mark.parametrize("ours", dicomport.TLSProfile)
def test_both_our_profiles_go_with_those_of_dcmtk(
    storescp: StartStoreSCP, tls: TLS, ours: dicomport.TLSProfile, profile: str
) -> None:
    peer = storescp("+B", *tls.options, profile)
    with dicomport.blocking.associate(HOST, peer.port, contexts=CONTEXTS, tls=tls.client(ours)) as association:
        assert association.c_store(CT).accepted
    assert peer.copies == copies_of([instance_from_path(CT)])


def test_a_receiver_in_a_retired_profile_is_not_talked_to(storescp: StartStoreSCP, tls: TLS) -> None:
    peer = storescp("+B", *tls.options, "+pa")
    with (
        pytest.raises(ConnectError, match="no TLS version or cipher suite in common"),
        dicomport.blocking.associate(HOST, peer.port, contexts=CONTEXTS, tls=tls.client()),
    ):
        pass


def test_many_associations_at_once(storescp: StartStoreSCP) -> None:
    peer = storescp("+B", "+xa", "--fork")
    files = sorted((TEST_FILES / "dicomdirtests").glob("98892003/*/*"))

    async def send() -> None:
        reports = await asyncio.gather(*(dicomport.send(files, HOST, peer.port) for _ in range(4)))
        assert [len(report.accepted) for report in reports] == [len(files)] * 4

    asyncio.run(send())
    assert peer.copies == copies_of([instance_from_path(path) for path in files] * 4)


@pytest.mark.parametrize("contexts", [[VERIFICATION], CONTEXTS])
def test_echo(storescp: StartStoreSCP, contexts: list[dicomport.scu.ContextLike]) -> None:
    peer = storescp()
    with dicomport.blocking.associate(HOST, peer.port, contexts=contexts) as association:
        assert [association.c_echo().code for _ in range(3)] == [0x0000] * 3


def test_instances_dcmtk_rejects_are_named(storescp: StartStoreSCP) -> None:
    """The default storescp accepts uncompressed instances only: the others fail with a reason, without conversion."""
    peer = storescp("+B")
    report = dicomport.blocking.send(paths(sendable()), HOST, peer.port)
    assert {result.transfer_syntax_uid for result in report.accepted} == UNCOMPRESSED
    assert report.failed
    for result in report.failed:
        assert result.transfer_syntax_uid not in UNCOMPRESSED
        assert result.status is None
        syntax = find_transfer_syntax(result.transfer_syntax_uid)
        assert syntax is not None
        assert result.reason.startswith("the peer does not accept ")
        assert f" in {syntax.name}" in result.reason
        assert result.reason.endswith(("Transform(convert=True))", "the peer supports none of the transfer syntaxes"))
    assert peer.copies == fates(report.results)


def test_implicit_only(storescp: StartStoreSCP) -> None:
    peer = storescp("+B", "+xi")
    report = dicomport.blocking.send(paths(sendable()), HOST, peer.port)
    assert {result.transfer_syntax_uid for result in report.accepted} == {"1.2.840.10008.1.2"}
    refused = next(result for result in report.failed if result.path == CT)
    assert refused.reason == (
        "the peer does not accept CT Image Storage in Explicit VR Little Endian, only in Implicit VR Little Endian: "
        "it would have to be converted (--convert, or Transform(convert=True))"
    )
    assert peer.copies == fates(report.results)


def test_a_private_class_is_refused_by_name(storescp: StartStoreSCP) -> None:
    peer = storescp("+B", "+xa")
    report = dicomport.blocking.send([private_instance(), CT], HOST, peer.port)
    private, ct = report.results
    assert private.reason == (
        f"the peer does not accept {PRIVATE_CLASS} in Explicit VR Little Endian: "
        "the peer does not support the SOP Class"
    )
    assert ct.accepted
    assert peer.copies == copies_of([instance_from_path(CT)])


def test_a_private_class_goes_where_it_is_taken(storescp: StartStoreSCP) -> None:
    peer = storescp("+B", "+xa", "-pm")
    instance = private_instance()
    report = dicomport.blocking.send([instance], HOST, peer.port)
    assert len(report.accepted) == 1
    (copy,) = peer.copies
    assert copy.sop_instance_uid == instance.sop_instance_uid


def test_statuses_of_a_receiver_that_reads_the_data_sets(storescp: StartStoreSCP) -> None:
    """Without +B storescp decodes, and refuses some of pydicom's files: each still has a response."""
    peer = storescp("+xa")
    report = dicomport.blocking.send(paths(sendable()), HOST, peer.port, **ONE_BY_ONE)
    assert {result.path for result in report.results} == set(paths(sendable()))
    answered = [result.status for result in report.failed if result.status is not None]
    # 0xA900 would be a request that disagrees with its data set.
    assert {status.code for status in answered} == {0xC000}
    assert all(result.reason == str(result.status) for result in report.failed if result.status is not None)
    # It aborts the association on a data set that it cannot read; the others are sent over the next one.
    lost = [result.reason for result in report.failed if result.status is None]
    assert set(lost) == {"the association was lost: the peer aborted the association (service-user)"}
    assert report.associations == len(lost) + 1
    assert len(report.accepted) + len(answered) + len(lost) == len(sendable())


def test_refusal(storescp: StartStoreSCP) -> None:
    peer = storescp("--refuse")
    with (
        pytest.raises(RejectedError, match=r"the peer rejected the association \(permanent\)") as caught,
        dicomport.blocking.associate(HOST, peer.port, contexts=CONTEXTS),
    ):
        pass
    assert caught.value.rejection.reason is RejectReason.USER_NO_REASON
    report = dicomport.blocking.send([CT, CT], HOST, peer.port)
    assert report.associations == 0
    assert report.error == str(caught.value)
    assert [result.reason for result in report.results] == [f"no association: {caught.value}"] * 2


@pytest.mark.parametrize("option", ["--abort-after", "--abort-during"])
def test_an_abort_leaves_a_result_for_each_instance(storescp: StartStoreSCP, option: str) -> None:
    peer = storescp("+B", "+xa", option)
    files = [CT, TEST_FILES / "examples_overlay.dcm", TEST_FILES / "MR_small.dcm"]
    report = dicomport.blocking.send(files, HOST, peer.port, **ONE_BY_ONE)
    assert [result.path for result in report.results] == files
    for result in report.results:
        assert result.status is None
        assert result.reason == "the association was lost: the peer aborted the association (service-user)"
    with (
        pytest.raises(AbortedError) as caught,
        dicomport.blocking.associate(HOST, peer.port, contexts=CONTEXTS) as association,
    ):
        association.c_store(CT)
    assert caught.value.aborted.by_peer
    assert not association.open


def test_a_slow_answer_runs_into_the_timer(storescp: StartStoreSCP) -> None:
    peer = storescp("+B", "+xa", "--sleep-during", "30")
    timeouts = Timeouts(dimse=0.2)
    with (
        pytest.raises(TimerExpiredError, match=r"the dimse timer expired after 0\.2 s"),
        dicomport.blocking.associate(HOST, peer.port, contexts=CONTEXTS, timeouts=timeouts) as association,
    ):
        association.c_store(CT)
    assert not association.open


def test_an_unanswered_release(storescp: StartStoreSCP) -> None:
    peer = storescp("+B", "+xa", "--sleep-after", "30")
    timeouts = Timeouts(acse=0.2)
    with dicomport.blocking.associate(HOST, peer.port, contexts=CONTEXTS, timeouts=timeouts) as association:
        assert association.c_store(CT).status.code == 0x0000
        with pytest.raises(TimerExpiredError, match=r"the release timer expired after 0\.2 s"):
            association.release()
        assert not association.open


def test_an_unanswered_release_changes_no_result(storescp: StartStoreSCP) -> None:
    peer = storescp("+B", "+xa", "--sleep-after", "30")
    report = dicomport.blocking.send([CT], HOST, peer.port, timeouts=Timeouts(acse=0.2))
    assert len(report.accepted) == 1
    assert peer.copies == copies_of([instance_from_path(CT)])


def test_a_stopped_receiver(storescp: StartStoreSCP) -> None:
    peer = storescp("+B", "+xa")
    peer.process.kill()
    peer.process.wait()
    report = dicomport.blocking.send([CT, CT], HOST, peer.port)
    assert report.associations == 0
    assert all(result.reason.startswith("no association: ") for result in report.failed)
    assert len(report.failed) == 2
    with pytest.raises(ConnectError), dicomport.blocking.associate(HOST, peer.port, contexts=CONTEXTS):
        pass


def test_a_receiver_that_dies_under_the_association(storescp: StartStoreSCP) -> None:
    peer = storescp("+B", "+xa")
    with dicomport.blocking.associate(HOST, peer.port, contexts=CONTEXTS) as association:
        assert association.c_store(CT).status.code == 0x0000
        peer.process.kill()
        peer.process.wait()
        with pytest.raises(ConnectionLostError):
            association.c_store(CT)
        assert not association.open


def data_set(sop_class: str, number: int) -> bytes:
    """Encode a data set in Explicit VR Little Endian with the UIDs of the instance and a distinct value."""
    uids = explicit(8, 0x16, b"UI", uid(sop_class)) + explicit(8, 0x18, b"UI", uid(f"1.2.3.{number}"))
    return uids + explicit(0x20, 0x13, b"IS", f"{number:4}".encode())


def test_300_pairs_of_class_and_syntax_arrive_whole(storescp: StartStoreSCP, tmp_path: Path) -> None:
    """+xa takes every transfer syntax, -pm every abstract syntax."""
    peer = storescp("+B", "+xa", "-pm")
    syntaxes = (EXPLICIT, "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90")
    folder = tmp_path / "files"
    folder.mkdir()
    classes = [sop_class.uid for sop_class in dicomport.sop_classes if sop_class.uid != MEDIA_STORAGE_DIRECTORY]
    pairs = [(sop_class, syntax) for sop_class in classes[:100] for syntax in syntaxes]
    files = [
        part10(
            folder / str(number),
            sop_class=sop_class,
            sop_instance=f"1.2.3.{number}",
            syntax=syntax,
            data=data_set(sop_class, number),
        )
        for number, (sop_class, syntax) in enumerate(pairs)
    ]
    report = dicomport.blocking.send(folder, HOST, peer.port)
    assert (len(report.accepted), report.failed, report.error) == (300, (), "")
    assert peer.copies == copies_of(scan([folder]).instances)
    assert len(files) == len(set(pairs)) == 300

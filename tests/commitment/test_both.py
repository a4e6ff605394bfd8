"""Our SCU and our SCP with an archive: stored instances are committed, with reports over either association."""

import contextlib
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import trustme
from tests.archive.sending import instance
from tests.commitment.asking import Log
from tests.commitment.test_scu import other_address
from tests.ports import unused_port

import dicomport
from dicomport import Address, CommitmentReport, CommitmentSCP, SOPReference, Status, StorageSCP
from dicomport.archive import Archive

CT: Final = "1.2.840.10008.5.1.4.1.1.2"
MR: Final = "1.2.840.10008.5.1.4.1.1.4"
TLS: TypeAlias = tuple[ssl.SSLContext, ssl.SSLContext]
"""For the server and for the client, each with a certificate."""

PATH: Final = "1.2.3/1.2.3.1/{}.dcm"


@dataclass
class Running:
    """A receiver with an archive."""

    archive: Archive
    scp: StorageSCP
    tls: ssl.SSLContext | None
    """For those who connect."""
    host: str

    def store(self, *uids: str) -> tuple[SOPReference, ...]:
        """Store CT images."""
        what = [instance(uid) for uid in uids]
        report = dicomport.blocking.send(what, self.host, self.scp.port, ae_title="MODALITY", tls=self.tls)
        assert len(report.accepted) == len(uids)
        return tuple(SOPReference(CT, uid) for uid in uids)

    def commit(self, *references: SOPReference, **options: Any) -> CommitmentReport:
        options = {"ae_title": "MODALITY", "tls": self.tls} | options
        return dicomport.blocking.commit(references, self.host, self.scp.port, **options)

    def kept(self) -> list[Path]:
        return list(self.archive.paths.commitments.rglob("*.json"))


class Cutting:
    """Looks up in an archive, once the association that asks is cut off."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.scp: StorageSCP | None = None

    async def look_up(self, references: Sequence[SOPReference]) -> list[Status]:
        assert self.scp is not None
        for association in self.scp._associations:
            association.stop()
        return await self.archive.look_up(references)


@contextlib.contextmanager
def running(
    folder: Path, listener: Address | None = None, tls: TLS | None = None, host: str = "127.0.0.1"
) -> Iterator[Running]:
    """Serve an archive on a host. `listener` is where the SCU listens: then the association that asks is cut off."""
    server, client = tls or (None, None)
    with contextlib.closing(Archive(folder)) as archive:
        cutting = Cutting(archive)
        commitment = CommitmentSCP(
            archive if listener is None else cutting,
            archive.paths.commitments,
            report_to={} if listener is None else {"MODALITY": listener},
        )
        with StorageSCP(
            archive, host=host, port=0, commitment=commitment, tls=server, allow_any=host != "127.0.0.1"
        ).in_thread() as scp:
            cutting.scp = scp
            yield Running(archive, scp, client, host)


@pytest.fixture(scope="module")
def tls() -> TLS:
    authority = trustme.CA()
    shown = authority.issue_cert("127.0.0.1")
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    server.verify_mode = ssl.CERT_REQUIRED
    for context in (server, client):
        shown.configure_cert(context)
        authority.configure_trust(context)
    return server, client


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
def test_over_the_association_that_asks(tmp_path: Path, tls: TLS, log: Log, *, encrypted: bool) -> None:
    with running(tmp_path, tls=tls if encrypted else None) as served:
        references = served.store(*(f"1.2.{number}" for number in range(20)))
        report = served.commit(*references)
        assert [one.reference for one in report.committed] == list(references)
        assert report.failed == ()
        # Both sides log it.
        log.await_event("commitment_reported", 2)
    assert served.kept() == []


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
def test_over_one_of_the_archive_s_own(tmp_path: Path, tls: TLS, *, encrypted: bool) -> None:
    server, client = tls if encrypted else (None, None)
    port = unused_port()
    with running(tmp_path, Address("127.0.0.1", port, client), tls if encrypted else None) as served:
        references = served.store("1.2.1", "1.2.2")
        report = served.commit(*references, SOPReference(CT, "1.2.3"), listen_port=port, listen_tls=server)
        assert [one.committed for one in report.commitments] == [True, True, False]
        assert report.error == ""
    assert served.kept() == []


def test_the_requested_peer_may_report_from_its_own_address(tmp_path: Path) -> None:
    """The requested host is another one than loopback."""
    host, port = other_address(), unused_port()
    with running(tmp_path, Address(host, port), host=host) as served:
        references = served.store("1.2.1")
        report = served.commit(*references, listen_port=port)
        assert [one.committed for one in report.commitments] == [True]
    assert served.kept() == []


def test_each_instance_has_its_own_result(tmp_path: Path) -> None:
    with running(tmp_path) as served:
        stored = served.store("1.2.1", "1.2.2", "1.2.3")
        while not served.archive.index.find("1.2.3"):
            pass
        damaged, gone = (tmp_path / PATH.format(uid) for uid in ("1.2.2", "1.2.3"))
        data = bytearray(damaged.read_bytes())
        data[-1] ^= 1
        damaged.write_bytes(data)
        gone.unlink()
        report = served.commit(*stored, SOPReference(CT, "1.2.4"), SOPReference(MR, "1.2.1"))
        assert [(one.committed, one.status) for one in report.commitments] == [
            (True, Status(0x0000)),
            (False, Status(0x0110)),
            (False, Status(0x0112)),
            (False, Status(0x0112)),
            (False, Status(0x0119)),
        ]


def test_many_are_committed(tmp_path: Path) -> None:
    with running(tmp_path) as served:
        references = served.store("1.2.7")
        wanted = tuple(SOPReference(CT, f"1.2.{number}") for number in range(1200))
        report = served.commit(*wanted)
        assert tuple(one.reference for one in report.committed) == references
        assert {one.status for one in report.failed} == {Status(0x0112)}
        assert tuple(one.reference for one in report.commitments) == wanted


def test_an_scu_without_association_and_address_gets_no_report(tmp_path: Path, log: Log) -> None:
    with running(tmp_path, Address("127.0.0.1", unused_port())) as served:
        references = served.store("1.2.1")
        report = served.commit(*references, ae_title="STRANGER", wait=86400)
        assert report.error == "the association was lost: the peer aborted the association (service-user)"
        log.await_event("report_not_sent")
    assert len(served.kept()) == 1

"""Storage commitment in the commands: the addresses of reports, with TLS too, and the archive for each peer."""

from __future__ import annotations

import json
import queue
from pathlib import Path

import pytest
from tests.certificates import Files, Identity
from tests.cli.commands import FILES, dicomport, receiver
from tests.commitment.asking import MAX_BYTES, SCU
from tests.ports import unused_port
from tests.users import as_member, give_to_group, shared_folder

from dicomport import Address, SOPReference, blocking, tls_client_context, tls_server_context
from dicomport.cli.storescp import storescp
from dicomport.commitment.data_sets import CommitmentResult
from dicomport.scp import hash_password
from dicomport.testing import Peer, ScriptedSCP
from dicomport.wire import Abort, AbortReason, NEventReportRQ

CT = FILES / "CT_small.dcm"
UID = "1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322"
REFERENCE = SOPReference("1.2.840.10008.5.1.4.1.1.2", UID)


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("CT1=192.0.2.7:104", ("CT1", Address("192.0.2.7", 104))),
        ("CT1=[2001:db8::7]:104", ("CT1", Address("2001:db8::7", 104))),
        ("A=B=ward.example:11112", ("A=B", Address("ward.example", 11112))),
    ],
)
def test_an_address_for_reports_is_read(value: str, address: tuple[str, Address], tmp_path: Path) -> None:
    assert storescp.make_context("storescp", ["--commit-to", value]).params["report_to"] == (address,)
    file = tmp_path / "storescp.toml"
    file.write_text(f'commit-to = ["{value}"]\n')
    assert storescp.make_context("storescp", ["--config", str(file)]).params["report_to"] == (address,)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("192.0.2.7:104", "is invalid; expected AE=HOST:PORT"),
        ("CT1=192.0.2.7", "is invalid; expected AE=HOST:PORT"),
        ("CT1=:104", "is invalid; expected AE=HOST:PORT"),
        ("CT1=host:", "is invalid; expected AE=HOST:PORT"),
        ("CT1=host:1o4", "is invalid; expected AE=HOST:PORT"),
        ("CT1=host:70000", "port 70000 is not between 1 and 65535"),
        ("=host:104", "AE title"),
        ("A" * 17 + "=host:104", "has 17 characters"),
    ],
)
def test_an_invalid_address_is_reported(value: str, told: str) -> None:
    done = dicomport("storescp", "0", "--commit-to", value)
    assert (done.returncode, told in done.stderr.replace("\n", " ")) == (2, True), done.stderr


class Listener:
    """Takes reports."""

    def __init__(self) -> None:
        self.results: queue.SimpleQueue[CommitmentResult] = queue.SimpleQueue()

    def __call__(self, peer: Peer) -> None:
        peer.accept()
        for message in peer.requests():
            assert isinstance(message.command, NEventReportRQ)
            peer.answer(message)
            self.results.put(
                CommitmentResult.decode(message.data, peer.contexts[message.context_id].transfer_syntax, MAX_BYTES)
            )


@pytest.fixture
def hospital(tmp_path: Path) -> Files:
    return Files(tmp_path / "hospital")


def options(hospital: Files, identity: Identity) -> list[str | Path]:
    return ["--tls-cert", identity.certificate, "--tls-key", identity.key, "--tls-ca", hospital.authority]


def test_a_receiver_with_tls_reports_over_tls(hospital: Files, tmp_path: Path) -> None:
    listener, ours, theirs = Listener(), hospital.issue("localhost"), hospital.issue("127.0.0.1")
    server = tls_server_context(theirs.certificate, theirs.key, authorities=hospital.authority)
    client = tls_client_context(certificate=theirs.certificate, key=theirs.key, authorities=hospital.authority)
    with (
        ScriptedSCP(listener, tls=server) as peer,
        receiver(
            tmp_path / "archive",
            *options(hospital, ours),
            *("-ba", "localhost", "--commit-to", f"SCRIPTED=127.0.0.1:{peer.port}"),
        ) as found,
    ):
        with SCU(int(found.port), host="localhost", tls=client) as scu:
            assert scu.ask("1.2.3", UID) == 0x0000
            scu.send(Abort(AbortReason.SERVICE_USER))
        result = listener.results.get(timeout=60)
        assert found.stop()[0] == 0
    assert (result.transaction_uid, [status.code for _, status in result.failed]) == ("1.2.3", [0x0112])


def test_the_sender_asks_and_listens_over_tls(hospital: Files, tmp_path: Path) -> None:
    ours, theirs = hospital.issue("localhost"), hospital.issue("modality.example")
    with receiver(tmp_path / "archive", *options(hospital, ours)) as found:
        port = unused_port()
        arguments = ("localhost", found.port, CT, "--commit", "--commit-port", str(port))
        done = dicomport("storescu", *arguments, *options(hospital, theirs))
        assert done.returncode == 0, done.stderr
        assert "1 of 1 instance committed" in done.stderr
        # Without a certificate it cannot be connected to.
        done = dicomport("storescu", *arguments, "--tls-ca", hospital.authority)
        assert done.returncode == 2
        assert "--tls-cert" in done.stderr


def test_the_sender_says_who_the_user_is_when_it_asks(tmp_path: Path) -> None:
    passwords, mine = tmp_path / "passwords", tmp_path / "mine"
    passwords.write_text(hash_password("jane", "hunter2") + "\n")
    mine.write_text("hunter2\n")
    with receiver(tmp_path / "archive", "--passwords", passwords) as found:
        done = dicomport("storescu", "localhost", found.port, CT, "--commit", "--user", "jane", "--password-file", mine)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 instance committed" in done.stderr


def test_a_peer_is_answered_from_its_own_archive(tmp_path: Path) -> None:
    config = tmp_path / "storescp.toml"
    config.write_text('[peers.own]\nae-title = "OWN"\narchive = "own"\n\n[peers.others]\nae-title = "*"\n')
    with receiver(tmp_path / "archive", "--config", config) as found:
        port = int(found.port)
        assert len(blocking.send(CT, "127.0.0.1", port, ae_title="OWN").accepted) == 1
        own = blocking.commit([REFERENCE], "127.0.0.1", port, ae_title="OWN")
        other = blocking.commit([REFERENCE], "127.0.0.1", port, ae_title="OTHER")
        assert found.stop()[0] == 0
    assert [one.committed for one in own.commitments] == [True]
    assert [(one.committed, one.status and one.status.code) for one in other.commitments] == [(False, 0x0112)]
    assert (tmp_path / "own" / ".dicomport" / "commitments").is_dir()


def pending_of(archive: Path) -> list[dict[str, object]]:
    """Return the lines of `archive commitments ls`."""
    done = dicomport("archive", "commitments", "ls", "--archive", archive, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_pending_commitments_are_listed_and_cleared(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    with receiver(archive) as found:
        for calling, transaction in (("CT1", "1.2.3"), ("CT1", "1.2.4"), ("MR1", "1.2.5")):
            with SCU(int(found.port), calling) as scu:
                assert scu.ask(transaction, UID, "1.2.840") == 0x0000
                scu.send(Abort(AbortReason.SERVICE_USER))
                scu.drain()
        listed = pending_of(archive)
        assert [(row["calling_ae_title"], row["transaction_uid"], row["instances"]) for row in listed] == [
            ("CT1", "1.2.3", 2),
            ("CT1", "1.2.4", 2),
            ("MR1", "1.2.5", 2),
        ]
        assert {row["address"] for row in listed} == {"127.0.0.1"}
        done = dicomport("archive", "commitments", "clear", "--archive", archive, "--ae", "CT1")
        assert (done.returncode, "2 requests removed" in done.stderr) == (0, True), done.stderr
        assert [row["transaction_uid"] for row in pending_of(archive)] == ["1.2.5"]
        # The running receiver has forgotten a cleared request.
        with SCU(int(found.port), "CT1") as scu:
            assert scu.ask("1.2.3", UID) == 0x0000
            report = scu.expect(NEventReportRQ)
            assert report.command.event_type_id == 2
            scu.answer(report)
            scu.release()
    done = dicomport("archive", "commitments", "clear", "--archive", archive, "--all")
    assert (done.returncode, "removed" in done.stderr, pending_of(archive)) == (0, True, []), done.stderr
    table = dicomport("archive", "commitments", "ls", "--archive", archive)
    assert (table.returncode, "Transaction UID" in table.stdout) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("clear", "--archive", "archive"), "--all"),
        (("ls", "--archive", "nowhere"), "no archive in"),
    ],
)
def test_a_wrong_use_of_commitments_is_reported(
    arguments: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = dicomport("archive", "commitments", *arguments)
    assert done.returncode != 0
    assert told in done.stderr


def test_requests_without_permission_are_reported_with_the_remedy() -> None:
    with shared_folder() as folder:
        archive = folder / "archive"
        with receiver(archive) as found, SCU(int(found.port), "CT1") as scu:
            assert scu.ask("1.2.3", UID) == 0x0000
            found.process.kill()
            found.process.wait()
        give_to_group(archive)
        own = archive / ".dicomport" / "commitments"
        cleared = as_member("archive", "commitments", "clear", "--archive", archive, "--all")
        [path] = own.rglob("*.json")
        listed = []
        for unreadable in (path.parent, own):
            unreadable.chmod(0)
            listed.append(as_member("archive", "commitments", "ls", "--archive", archive))
            unreadable.chmod(0o750)
        assert path.exists()
    for done, problem in ((cleared, "cannot remove"), *((done, "cannot read") for done in listed)):
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert problem in line
        assert "Permission denied; check the owner and the mode of the file and its folders" in line

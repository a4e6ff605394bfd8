"""The commands on both event loops: asyncio's and, if it is installed, uvloop's."""

import signal
import threading
from pathlib import Path

import pytest
from tests.certificates import Files, Identity
from tests.cli.commands import FILES, dicomport, receiver, start
from tests.event_loops import use_uvloop

from dicomport.testing import Peer, ScriptedSCP
from dicomport.wire import AssociateRQ

SENT = [*sorted(FILES.glob("CT_*.dcm")), FILES / "MR_small.dcm"]


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if name == "uvloop":
        pytest.importorskip("uvloop")
        use_uvloop(monkeypatch)
    return name


def options(hospital: Files, identity: Identity) -> list[str | Path]:
    return ["--tls-cert", identity.certificate, "--tls-key", identity.key, "--tls-ca", hospital.authority]


def uses_uvloop(pid: int) -> bool:
    return "/uvloop/" in Path(f"/proc/{pid}/maps").read_text()


def test_instances_arrive_on_each_event_loop(event_loop: str, tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", "--durability", "fsync") as found:
        assert uses_uvloop(found.process.pid) == (event_loop == "uvloop")
        sent = dicomport("storescu", "--associations", "2", "localhost", found.port, *SENT)
        assert sent.returncode == 0, sent.stderr
        assert len(found.kept()) == len(SENT)
        found.process.send_signal(signal.SIGHUP)
        assert dicomport("echoscu", "localhost", found.port).returncode == 0
        code, _, errors = found.stop()
    assert code == 0
    assert "Traceback" not in errors


@pytest.mark.usefixtures("event_loop")
def test_tls_and_workers_work_on_each_event_loop(tmp_path: Path) -> None:
    hospital = Files(tmp_path / "hospital")
    server, client = (options(hospital, hospital.issue(name)) for name in ("localhost", "modality.example"))
    with receiver(tmp_path / "archive", "--workers", "2", *server) as found:
        sent = dicomport("storescu", *client, "localhost", found.port, *SENT)
        assert sent.returncode == 0, sent.stderr
        assert len(found.kept()) == len(SENT)
        code, _, errors = found.stop()
    assert code == 0
    assert "Traceback" not in errors


def test_ctrl_c_ends_a_sender_on_each_event_loop(event_loop: str) -> None:
    asked = threading.Event()

    def silent(peer: Peer) -> None:
        peer.expect(AssociateRQ)
        asked.set()
        peer.drain()

    with ScriptedSCP(silent) as scp:
        process = start("storescu", "127.0.0.1", str(scp.port), *SENT)
        assert asked.wait(60)
        assert uses_uvloop(process.pid) == (event_loop == "uvloop")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"0 of {len(SENT)} files accepted" in errors
    assert "Traceback" not in errors

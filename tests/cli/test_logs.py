"""The commands' log: one line for each event, no patient data, and no text that a peer could forge."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from tests.cli.commands import FILES, dicomport, receiver
from tests.core.messages import CT as CT_CLASS, VERIFICATION, command_set, number, p_data, pdv, uid
from tests.scp.messages import DATA_SET, context, request

from dicomport import testing
from dicomport.testing import ScriptedSCU
from dicomport.wire import AssociateRQ, CStoreRQ, UserInformation

CT: Final = FILES / "CT_small.dcm"

ESCAPES: Final = "\x1b[2J\r\n\x9b1m"
FORGED: Final = '\n2026-01-01T00:00:00.000Z ERROR forged calling="x"\n{"event": "forged"}\n'
TITLE: Final = "X\n\x1b[2J\r\x9b1m ERR"

LINE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) ([a-z_]+)( [a-z_]+=.*)?")


def events_in_text(err: str) -> list[str]:
    """Return the names of the events; the other lines on stderr are our messages for people."""
    assert err.isascii()
    assert err.replace("\n", "").isprintable()
    found = [LINE.fullmatch(line) for line in err.splitlines()]
    assert all(
        match or line.startswith(("listening on", "1 of 1", "0 of 1", "  "))
        for match, line in zip(found, err.splitlines(), strict=True)
    ), err
    return [match[2] for match in found if match]


def events_in_json(err: str) -> list[dict[str, Any]]:
    assert err.isascii()
    assert err.replace("\n", "").isprintable()
    return [json.loads(line) for line in err.splitlines()]


def be_hostile(port: int) -> None:
    """Send text that could forge a line or control a terminal in each field of a peer, and still be served."""
    items = UserInformation(
        maximum_length=16384, implementation_class_uid=f"1.2{ESCAPES}", implementation_version_name=FORGED
    )
    contexts = (
        context(1, VERIFICATION),
        context(3, CT_CLASS),
        context(5, f"1.2.840{FORGED}"),
        context(7, "1.2" * 20000),
    )
    with ScriptedSCU("127.0.0.1", port) as peer:
        peer.associate(request=request(*contexts, calling=TITLE, called=TITLE, items=items))
        assert peer.store("1.2\x1b[2J\r", DATA_SET).status
        assert peer.store(FORGED, DATA_SET).status
        peer.release()
    with ScriptedSCU("127.0.0.1", port) as peer:
        peer.send(replace(request(*contexts, calling=TITLE, items=items), application_context=f"1.2{FORGED}"))
        peer.receive()


def test_no_peer_can_forge_a_line_of_the_receivers_log(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", "-d") as found:
        be_hostile(int(found.port))
        code, _, err = found.stop()
    assert code == 0
    names = events_in_text(err)
    assert {"association_accepted", "instance_refused", "association_ended", "association_rejected"} <= set(names)
    assert "forged" not in names


def test_nor_of_its_log_in_json(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", "-d", "--log-format", "json") as found:
        be_hostile(int(found.port))
        code, _, err = found.stop()
    assert code == 0
    events = events_in_json(err)
    assert {"association_accepted", "instance_refused", "association_ended"} <= {event["event"] for event in events}
    assert "forged" not in {event["event"] for event in events}
    assert TITLE in {event.get("calling") for event in events}
    assert max(map(len, err.splitlines())) < 8000


def comment_hostilely(peer: testing.Peer) -> None:
    """Accept, and answer a C-STORE with an Error Comment that no Status of ours could hold."""
    accepted = testing.acceptance(peer.expect(AssociateRQ))
    items = replace(accepted.user_information, implementation_version_name=FORGED)
    peer.send(replace(accepted, user_information=items))
    store = peer.expect(CStoreRQ)
    elements = {
        0x0100: number(0x8001),
        0x0120: number(store.command.message_id),
        0x0800: number(0x0101),
        0x0900: number(0xA700),
        0x0902: (FORGED + ESCAPES).encode("latin-1"),
        0x1000: uid("1.2.3"),
    }
    peer.send(p_data(pdv(store.context_id, 3, command_set(elements))))
    peer.serve()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_peer_can_forge_a_line_of_the_senders_log(log_format: str) -> None:
    with testing.ScriptedSCP(comment_hostilely) as scp:
        done = dicomport("storescu", "-d", "--retries", "0", "--log-format", log_format, "127.0.0.1", str(scp.port), CT)
    assert done.returncode == 1
    assert "forged" in done.stderr
    if log_format == "json":
        assert "forged" not in {event["event"] for event in events_in_json(done.stderr)}
    else:
        assert "forged" not in events_in_text(done.stderr)


def test_messages_for_people_exist_in_json_too(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", "--log-format", "json", "-v") as found:
        sent = dicomport("storescu", "--log-format", "json", "127.0.0.1", found.port, CT)
        wrong = dicomport("storescu", "--log-format", "json", "127.0.0.1", found.port, "-ta", "0", CT)
        _, _, err = found.stop()
    assert sent.returncode == 0
    assert "1 of 1 file accepted" in events_in_json(sent.stderr)[0]["text"]
    [usage] = events_in_json(wrong.stderr)
    assert (wrong.returncode, usage["level"], usage["event"]) == (2, "error", "message")
    [stored] = [event for event in events_in_json(err) if event["event"] == "instance_stored"]
    assert stored["calling"] == "DICOMPORT"
    assert stored["size"] == 38870


def test_no_patient_s_data_is_logged(tmp_path: Path) -> None:
    values = ("CompressedSamples", "1CT1", "JFK IMAGING")
    assert all(value.encode() in CT.read_bytes() for value in values)
    layout = ("--layout", "{patient_id}/{study}/{series}/{instance}")
    with receiver(tmp_path / "archive", "-d", *layout) as found:
        sent = dicomport("storescu", "-d", "127.0.0.1", found.port, CT)
        again = dicomport("storescu", "-d", "127.0.0.1", found.port, CT)
        _, _, err = found.stop()
    assert sent.returncode == again.returncode == 0
    for value in values:
        assert value not in err + sent.stderr + again.stderr


def test_the_sender_logs_each_association_and_each_instance(tmp_path: Path) -> None:
    (tmp_path / "none.dcm").write_text("no image")
    with receiver(tmp_path / "archive") as found:
        sent = dicomport(
            "storescu",
            "-v",
            "--log-format",
            "json",
            "127.0.0.1",
            found.port,
            CT,
            tmp_path / "none.dcm",
            FILES / "MR_small.dcm",
        )
    events = [event for event in events_in_json(sent.stderr) if event["logger"] == "dicomport.scu"]
    assert {event["event"] for event in events if event.get("association")} == {
        "association_established",
        "instance_sent",
    }
    stored = [event for event in events if event["event"] == "instance_sent"]
    assert {(event["size"], event["status"], event["attempts"]) for event in stored} == {
        (38870, "0x0000 Success: Done", 1),
        (9496, "0x0000 Success: Done", 1),
    }
    [failed] = [event for event in events if event["event"] == "instance_not_sent"]
    assert ("status" in failed, failed["attempts"]) == (False, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ("demo", "--keep", "file"),
        ("storescp", "--archive", "file"),
        ("storescu", "127.0.0.1", "1", "file", "-ta", "x"),
        ("echoscu", "127.0.0.1", "0"),
        ("archive", "ls"),
        ("archive", "show", "1.2.3"),
        ("archive", "verify"),
        ("archive", "reindex"),
        ("archive", "export", "1.2.3", "there"),
        ("password", "#"),
    ],
    ids=" ".join,
)
def test_each_command_reports_errors_in_json(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = dicomport(*arguments, "--log-format", "json", cwd=tmp_path, given="x\n")
    assert done.returncode in {1, 2}
    [event] = events_in_json(done.stderr)
    assert event["event"] == "message"
    assert event["text"]


def test_no_peer_can_forge_a_line_of_an_explanation() -> None:
    def name_hostilely(peer: testing.Peer) -> None:
        accepted = testing.acceptance(peer.expect(AssociateRQ))
        items = replace(accepted.user_information, implementation_version_name=FORGED + ESCAPES)
        peer.send(replace(accepted, user_information=items))
        peer.serve()

    with testing.ScriptedSCP(name_hostilely) as scp:
        done = dicomport("echoscu", "--explain", "127.0.0.1", str(scp.port))
    assert done.returncode == 0
    assert done.stderr.isascii()
    assert done.stderr.replace("\n", "").isprintable()
    [line] = [line for line in done.stderr.splitlines() if "forged" in line]
    assert line.startswith("  implementation: ")


def test_no_file_name_can_forge_a_line(tmp_path: Path) -> None:
    evil = tmp_path / "a\n2026-01-01T00:00:00.000Z ERROR forged"
    evil.write_text("no image")
    with receiver(tmp_path / "archive") as found:
        done = dicomport("storescu", "-d", "127.0.0.1", found.port, evil)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("2026-01-01")] == []
    assert "forged" in done.stderr

"""Each event and each field of the log is documented, and a field has one type in all events."""

import ast
import asyncio
import logging
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Final

import pydicom
import pytest
from tests.log_fields import EVENTS, FIELDS, TYPES, Audit
from tests.scu.data import CT_FILE

import dicomport
from dicomport.archive import Archive, ArchiveOptions, Duplicates
from dicomport.wire import Command

SOURCE: Final = Path(dicomport.__file__).parent
METHODS: Final = {"debug", "info", "warning", "error", "exception", "log", "bind"}
LOGGER: Final = re.compile(r"(\w+\.)*(_log|log|peer_log)(\.(bind|with_peer)\(.*\))?")


def log_calls() -> Iterator[ast.Call]:
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
                receiver = ast.unparse(node.func.value)
                if LOGGER.fullmatch(receiver) or receiver.startswith("get_logger("):
                    yield node


def texts(node: ast.AST) -> set[str]:
    return {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def pdu_fields() -> set[str]:
    """Return the fields of PDU lines: keys of dictionaries, yielded names, and the fields of commands."""
    nodes = list(ast.walk(ast.parse((SOURCE / "net" / "pdu_log.py").read_text())))
    names = {text for node in nodes if isinstance(node, ast.Dict) for key in node.keys if key for text in texts(key)}
    for node in nodes:
        if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
            names |= texts(node.value.elts[0])
    commands = [Command]
    for command in commands:
        commands += command.__subclasses__()
        names |= {field.name for field in fields(command)}
    return names


def test_the_page_lists_exactly_the_events_that_are_logged() -> None:
    logged = {"message", "library_log"}
    for call in log_calls():
        if isinstance(call.func, ast.Attribute) and call.func.attr != "bind":
            logged |= {text for argument in call.args[:2] for text in texts(argument)}
    assert logged == EVENTS


def test_the_page_lists_exactly_the_fields_that_are_logged() -> None:
    logged = {"event", "text", "library", "error", "at", "address", "port"}
    for call in log_calls():
        logged |= {keyword.arg for keyword in call.keywords if keyword.arg} - {"exc_info"}
    assert logged | pdu_fields() == set(FIELDS)
    assert set(FIELDS.values()) <= set(TYPES)
    assert not {"timestamp", "level", "logger"} & set(FIELDS)


def test_records_have_the_documented_types(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "dicomport")
    audit = Audit()
    logging.getLogger("dicomport").addHandler(audit)

    async def run() -> None:
        archive = Archive(tmp_path)
        async with dicomport.StorageSCP(archive, port=0) as scp:
            for paths in ([CT_FILE, CT_FILE], [__file__]):
                await dicomport.send(paths, "127.0.0.1", scp.port)
        archive.close()

    asyncio.run(run())
    logging.getLogger("dicomport").removeHandler(audit)
    assert audit.faults == set()
    by_event = {record.fields["event"]: record.fields for record in caplog.records}  # type: ignore[attr-defined]
    assert {"pdu_sent", "association_accepted", "association_ended", "server_stopped", "instance_sent"} <= set(by_event)
    stored = by_event["instance_stored"]
    assert stored["study_instance_uid"] == "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"
    assert (stored["address"], type(stored["port"])) == ("127.0.0.1", int)


def test_a_refused_instance_has_the_path_of_its_file_in_quarantine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit = Audit()
    logging.getLogger("dicomport").addHandler(audit)
    cut = CT_FILE.read_bytes()[:-1000]
    (tmp_path / "cut.dcm").write_bytes(cut)

    async def run() -> None:
        archive = Archive(tmp_path / "archive", ArchiveOptions(duplicates=Duplicates.REJECT))
        other = pydicom.dcmread(CT_FILE)
        other.PatientComments = "other bytes"
        async with dicomport.StorageSCP(archive, port=0) as scp:
            for sources in ([tmp_path / "cut.dcm"], [CT_FILE, other]):
                await dicomport.send(sources, "127.0.0.1", scp.port)
        archive.close()

    asyncio.run(run())
    logging.getLogger("dicomport").removeHandler(audit)
    assert audit.faults == set()
    fields = [record.fields for record in caplog.records if record.getMessage().startswith("instance_refused")]  # type: ignore[attr-defined]
    assert [field["status"][:6] for field in fields] == ["0xC210", "0x0111"]
    [kept] = (tmp_path / "archive" / ".dicomport" / "quarantine").glob("*.dcm")
    # The duplicate was not kept.
    assert [field.get("quarantine_path") for field in fields] == [str(kept), None]
    assert cut.endswith(kept.read_bytes()[-10_000:])


def test_a_study_that_is_unknown_is_absent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dicomport")

    async def run() -> None:
        async with dicomport.StorageSCP(dicomport.FolderStorage(tmp_path), port=0) as scp:
            await dicomport.send(CT_FILE, "127.0.0.1", scp.port)

    asyncio.run(run())
    [stored] = [record.fields for record in caplog.records if record.getMessage().startswith("instance_stored")]  # type: ignore[attr-defined]
    assert "study_instance_uid" not in stored


def test_a_wrong_type_is_noticed() -> None:
    audit = Audit()
    for given in ({"size": "1"}, {"size": True}, {"size": None}, {"sizes": 1}):
        audit.emit(logging.makeLogRecord({"fields": {"event": "instance_stored", **given}}))
    audit.emit(logging.makeLogRecord({"fields": {"event": "instance_vanished", "size": 1}}))
    assert len(audit.faults) == 5

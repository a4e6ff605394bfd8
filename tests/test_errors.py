"""The tree of exceptions: its base, its branches, and the standard library's classes that some of them also are."""

import importlib
import inspect
import pkgutil
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from tests.scu.runners import Api, with_both

import dicomport
from dicomport.errors import DicomportError
from dicomport.scu import Instance
from dicomport.testing import Peer, ScriptedSCP, healthy
from dicomport.wire import CStoreRQ

CT: Final = dicomport.sop_classes.CTImageStorage.uid
MR: Final = dicomport.sop_classes.MRImageStorage.uid
VERIFICATION: Final = "1.2.840.10008.1.1"
TREE: Final = """
DicomportError: Exception
AssociationError: DicomportError
ConnectError: AssociationError ConnectionError
RejectedError: AssociationError
AbortedError: AssociationError
ConnectionLostError: AssociationError ConnectionError
TimerExpiredError: AssociationError TimeoutError
NoContextError: DicomportError
NotSendableError: DicomportError
NotAnInstanceError: NotSendableError
JournalError: DicomportError
UndecodableDataSetError: DicomportError
HookError: DicomportError
IndexDatabaseError: DicomportError
BusyIndexError: IndexDatabaseError
DamagedIndexError: IndexDatabaseError
SchemaError: IndexDatabaseError
LaterSchemaError: SchemaError
UnreadableFolderError: DicomportError
ExportError: DicomportError
ProtocolError: DicomportError
LimitExceededError: ProtocolError
CommandError: ProtocolError
StateError: DicomportError
EncodeError: DicomportError ValueError
FileMetaError: DicomportError ValueError
NotPart10Error: FileMetaError
EmptyFileError: NotPart10Error
TruncatedFileMetaError: FileMetaError
DataSetError: DicomportError ValueError
DataSetTooLongError: DataSetError
CommitmentDataSetError: DicomportError ValueError
NotTLSError: DicomportError OSError
SettingError: DicomportError
StoppedError: DicomportError
ScriptError: DicomportError AssertionError
GoneError: ScriptError
"""
CONTROL_FLOW: Final = {"AssociationEnded", "DoubtError", "PaddingError", "StopError"}
"""Exceptions that end a loop or a step of one, and that two modules of one room share."""


def exceptions() -> set[type[BaseException]]:
    """Return the exception classes of the package, without those of `CONTROL_FLOW`."""
    found = set()
    modules = {module.name for module in pkgutil.walk_packages(dicomport.__path__, "dicomport.")} - {
        "dicomport.__main__"
    }
    for module in modules:
        for name, value in vars(importlib.import_module(module)).items():
            if (
                inspect.isclass(value)
                and issubclass(value, BaseException)
                and not (name.startswith("_") or name in CONTROL_FLOW)
            ):
                found |= {value} if value.__module__.startswith("dicomport.") else set()
    return found


def test_each_exception_has_its_place_in_the_tree() -> None:
    found = {f"{one.__name__}: {' '.join(base.__name__ for base in one.__bases__)}" for one in exceptions()}
    assert found == set(TREE.split("\n")) - {""}
    assert all(issubclass(one, DicomportError) for one in exceptions())


def tree_in(text: str) -> list[tuple[str, str]]:
    """Parse a tree that is drawn by indentation: return each class with its parent."""
    found: list[tuple[str, str]] = []
    above: list[tuple[int, str]] = []
    for indent, name in re.findall(r"^( *)(?:wire\.)?(\w+Error)\b", text, re.MULTILINE):
        while above and above[-1][0] >= len(indent):
            above.pop()
        if above:
            found.append((name, above[-1][1]))
        above.append((len(indent), name))
    return found


def test_the_docstring_of_the_base_draws_the_whole_tree() -> None:
    drawn = tree_in(DicomportError.__doc__ or "")
    assert sorted(drawn) == sorted((one.__name__, one.__bases__[0].__name__) for one in exceptions() - {DicomportError})


def test_the_page_draws_a_part_of_it() -> None:
    page = (Path(__file__).parents[1] / "docs" / "library.md").read_text()
    drawn = tree_in(page.partition("## Errors\n")[2].partition("## ")[0])
    assert len(drawn) == 13
    assert set(drawn) <= {(one.__name__, one.__bases__[0].__name__) for one in exceptions()}


def test_the_module_of_the_base_imports_nothing_of_the_package() -> None:
    assert "dicomport." not in Path(inspect.getfile(DicomportError)).read_text().partition('"""\n')[2].split("class")[0]


def store(api: Api, port: int, instance: Instance, **timeouts: float) -> None:
    async def run() -> None:
        options: dict[str, Any] = {"contexts": [CT, VERIFICATION], "timeouts": dicomport.Timeouts(**timeouts)}
        async with api.associate("127.0.0.1", port, **options) as association:
            try:
                await association.c_store(instance)
            except dicomport.NoContextError:
                assert (await association.c_echo()).code == 0
                raise

    api.run(run())


def instance(sop_class_uid: str, size: int = 8) -> Instance:
    return Instance(sop_class_uid, "1.2.3", "1.2.840.10008.1.2.1", bytes(size))


@with_both
def test_a_refused_connection_is_a_connection_error(api: Api) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionError) as raised:
            store(api, unused.getsockname()[1], instance(CT))
    assert type(raised.value) is dicomport.ConnectError
    assert "nothing listens" in str(raised.value)


def closing(peer: Peer) -> None:
    peer.accept()
    peer.expect(CStoreRQ)
    peer.close()


def resetting(peer: Peer) -> None:
    peer.accept()
    peer.expect(CStoreRQ)
    peer.reset()


@with_both
@pytest.mark.parametrize("script", [closing, resetting])
def test_a_connection_that_is_lost_is_a_connection_error(api: Api, script: Callable[[Peer], None]) -> None:
    with ScriptedSCP(script) as peer, pytest.raises(ConnectionError) as raised:
        store(api, peer.port, instance(CT))
    assert type(raised.value) is dicomport.ConnectionLostError


def silent(peer: Peer) -> None:
    peer.accept()
    peer.expect(CStoreRQ)
    peer.drain()


def deaf(peer: Peer) -> None:
    peer.accept()
    peer.stall()


@with_both
@pytest.mark.parametrize(("script", "timer", "size"), [(silent, "dimse", 8), (deaf, "write", 32 << 20)])
def test_a_timer_that_expires_is_a_timeout_error(
    api: Api, script: Callable[[Peer], None], timer: str, size: int
) -> None:
    """The write timer too, though it expires where the loss of the connection is passed over."""
    with ScriptedSCP(script) as peer, pytest.raises(TimeoutError) as raised:
        store(api, peer.port, instance(CT, size), **{timer: 0.2})
    assert isinstance(raised.value, dicomport.TimerExpiredError)
    assert raised.value.timer.name == timer


@with_both
def test_an_instance_without_a_context_leaves_the_association_open(api: Api) -> None:
    with ScriptedSCP(healthy) as peer, pytest.raises(dicomport.NoContextError) as raised:
        store(api, peer.port, instance(MR))
    assert not isinstance(raised.value, dicomport.AssociationError)


def test_storage_errors_of_an_association_are_no_errors_of_the_disk() -> None:
    """A storage that forwards to a peer that is not there is answered as one with a defect."""

    class Forwarding:
        async def begin(self, operation: dicomport.StoreOperation) -> dicomport.Status:
            raise dicomport.ConnectError("nothing listens there")

    with dicomport.StorageSCP(Forwarding(), port=0).in_thread() as scp:
        report = dicomport.blocking.send([instance(CT)], "127.0.0.1", scp.port)
    [result] = report.results
    assert str(result.status) == "0x0110 Failure: Processing failure"

"""The sources that `send` takes: one or many, of each kind; the others are refused by name."""

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pydicom
import pytest
from tests.scu.data import CT_FILE, data_set_of

import dicomport
from dicomport import SendReport, StorageSCP, StoreRequest, blocking
from dicomport.scu import Instance, instance_from_path


class OnlyAPath:
    """A path of another class than `Path`, such as an `os.DirEntry`."""

    def __fspath__(self) -> str:
        return str(CT_FILE)


SOURCES: Final[dict[str, Callable[[], Any]]] = {
    "str": lambda: str(CT_FILE),
    "Path": lambda: CT_FILE,
    "PurePath": lambda: PurePosixPath(CT_FILE),
    "os.PathLike": OnlyAPath,
    "data set": lambda: pydicom.dcmread(CT_FILE),
    "Instance": lambda: instance_from_path(CT_FILE),
}
every_source: Final = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
NO_SOURCES: Final[dict[str, Callable[[], Any]]] = {
    "bytes": CT_FILE.read_bytes,
    "bytearray": lambda: bytearray(CT_FILE.read_bytes()),
    "BytesIO": lambda: io.BytesIO(CT_FILE.read_bytes()),
    "StringIO": io.StringIO,
    "int": lambda: 5,
    "None": lambda: None,
}
no_source: Final = pytest.mark.parametrize("source", NO_SOURCES.values(), ids=NO_SOURCES)


@pytest.fixture
def received() -> list[bytes]:
    return []


@pytest.fixture
def port(received: list[bytes]) -> Iterator[int]:
    def accept(request: StoreRequest) -> int:
        received.append(request.encoded())
        return 0x0000

    with StorageSCP(accept, port=0).in_thread() as scp:
        yield scp.port


def send_async(sources: Any, port: int) -> SendReport:
    async def scenario() -> SendReport:
        return await dicomport.send(sources, "localhost", port)

    return asyncio.run(scenario())


async def asynchronous(*sources: Any) -> AsyncIterator[Any]:
    for source in sources:
        yield source


@every_source
@pytest.mark.parametrize("send", [send_async, lambda sources, port: blocking.send(sources, "localhost", port)])
def test_one_source_is_taken_alone_and_in_any_iterable(
    port: int, received: list[bytes], source: Callable[[], Any], send: Callable[[Any, int], SendReport]
) -> None:
    given = [source(), [source()], (source(),), iter([source()]), {1: source()}.values()]
    if send is send_async:
        given.append(asynchronous(source()))
    for sources in given:
        assert [result.reason for result in send(sources, port).results] == [""]

    assert received == [data_set_of(CT_FILE)] * len(given)


def test_the_entries_of_a_folder_are_taken(port: int, received: list[bytes]) -> None:
    with os.scandir(CT_FILE.parent) as entries:
        entry = next(entry for entry in entries if entry.name == CT_FILE.name)

    assert blocking.send([entry], "localhost", port).accepted
    assert received == [data_set_of(CT_FILE)]


@every_source
def test_an_association_takes_one_source(port: int, received: list[bytes], source: Callable[[], Any]) -> None:
    instance = instance_from_path(CT_FILE)
    contexts = [(instance.sop_class_uid, instance.transfer_syntax_uid)]
    with blocking.associate("localhost", port, contexts=contexts) as association:
        assert association.c_store(source()).accepted

    assert received == [data_set_of(CT_FILE)]


@no_source
@pytest.mark.parametrize(
    "wrap", [lambda one: one, lambda one: [one], lambda one: (CT_FILE, one)], ids=["alone", "list", "tuple"]
)
def test_another_object_is_refused_before_anything_is_sent(
    port: int, received: list[bytes], source: Callable[[], Any], wrap: Callable[[Any], Any]
) -> None:
    with pytest.raises(TypeError, match="expected a path, a pydicom data set or an Instance, not "):
        blocking.send(wrap(source()), "localhost", port)
    with pytest.raises(TypeError, match="expected a path, a pydicom data set or an Instance, not "):
        dicomport.send(wrap(source()), "localhost", port)
    assert received == []


def test_an_open_file_is_refused(port: int) -> None:
    with CT_FILE.open("rb") as file, pytest.raises(TypeError, match=r"pydicom\.dcmread reads an open file"):
        blocking.send(file, "localhost", port)  # type: ignore[arg-type]  # this is the test


@no_source
def test_another_object_of_an_iterator_has_a_result(
    port: int, received: list[bytes], source: Callable[[], Any]
) -> None:
    report = blocking.send(iter([CT_FILE, source(), CT_FILE]), "localhost", port)

    assert len(report.accepted) == len(received) == 2
    [result] = report.failed
    assert result.reason.startswith("expected a path, a pydicom data set or an Instance, not ")


@no_source
def test_an_association_refuses_another_object(port: int, source: Callable[[], Any]) -> None:
    instance = instance_from_path(CT_FILE)
    contexts = [(instance.sop_class_uid, instance.transfer_syntax_uid)]
    with blocking.associate("localhost", port, contexts=contexts) as association:
        with pytest.raises(TypeError, match="expected a path"):
            association.c_store(source())
        assert association.c_store(CT_FILE).accepted


def test_a_path_is_a_path(tmp_path: Path) -> None:
    assert isinstance(instance_from_path(OnlyAPath()), Instance)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sources", ["", [""], (CT_FILE, ""), {CT_FILE, ""}], ids=["alone", "list", "tuple", "set"])
def test_an_empty_path_is_refused_before_anything_is_sent(port: int, received: list[bytes], sources: Any) -> None:
    with pytest.raises(ValueError, match="empty path"):
        blocking.send(sources, "localhost", port)
    with pytest.raises(ValueError, match="empty path"):
        dicomport.send(sources, "localhost", port)
    assert received == []


def test_an_empty_path_of_an_iterator_has_a_result(port: int, received: list[bytes]) -> None:
    sources: list[str | Path] = [CT_FILE, "", CT_FILE]
    report = blocking.send(iter(sources), "localhost", port)

    assert len(report.accepted) == len(received) == 2
    [result] = report.failed
    assert "empty path" in result.reason

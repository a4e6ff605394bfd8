"""Row A9: sequences nested as deep as no real one is are an error for every reader of data sets, never a traceback."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from tests.archive.sending import CT
from tests.encoding.encode import (
    BIG,
    EXPLICIT,
    IMPLICIT,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    element,
    header,
    scan,
)

from dicomport.commitment.data_sets import CommitmentDataSetError, CommitmentRequest, CommitmentResult
from dicomport.encoding.datasets import DataSetReader
from dicomport.encoding.deviations import ScanFlag
from dicomport.encoding.errors import DataSetError
from dicomport.encoding.headers import encoding_of
from dicomport.encoding.templates import SeriesTemplate
from dicomport.scp import UndecodableDataSetError
from dicomport.scp.decoding import decode
from dicomport.scu import Instance, NotSendableError, instance_from_path
from dicomport.scu.inputs.dicomdir import references
from dicomport.scu.results import InstanceResult
from dicomport.scu.transform.conversion import convert
from dicomport.scu.transform.editing import Editor
from dicomport.standard import find_transfer_syntax
from dicomport.wire import FileMeta, FileMetaError, encode_file_meta

SYNTAXES: Final = {"implicit": IMPLICIT, "explicit": EXPLICIT, "big endian": BIG}
DEPTH: Final = 5000


def nested(syntax: str, vr: str, *, ended: bool) -> bytes:
    """Encode one sequence in the other, all of undefined length; those in a UN are in Implicit VR Little Endian."""
    inner = IMPLICIT if vr == "UN" else syntax
    outer = header(syntax, 0x00081115, vr, UNDEFINED) + header(inner, ITEM, "", UNDEFINED)
    level = header(inner, 0x00081115, vr, UNDEFINED) + header(inner, ITEM, "", UNDEFINED)
    end = header(inner, ITEM_END, "", 0) + header(inner, SEQUENCE_END, "", 0)
    return outer + level * DEPTH + (end * (DEPTH + 1) if ended else b"")


def data_set(syntax: str, vr: str, *, ended: bool) -> bytes:
    uids = element(syntax, 0x00080016, "UI", CT.encode() + bytes(len(CT) % 2))
    return uids + element(syntax, 0x00080018, "UI", b"1.2.3\0") + nested(syntax, vr, ended=ended)


def file_of(syntax: str, data: bytes, folder: Path) -> Path:
    meta = FileMeta(media_storage_sop_class_uid=CT, media_storage_sop_instance_uid="1.2.3", transfer_syntax_uid=syntax)
    path = folder / "deep.dcm"
    path.write_bytes(encode_file_meta(meta) + data)
    return path


def read_by_the_scanner(syntax: str, data: bytes, _: Path) -> None:
    result = scan(syntax, data)
    assert result.problem is None
    assert ScanFlag.NOT_WALKED in result.flags


def read_by_a_template(syntax: str, data: bytes, _: Path) -> None:
    template, encoding = SeriesTemplate(), encoding_of(find_transfer_syntax(syntax))
    for _again in range(2):
        template.match(encoding, memoryview(data), (0x00080018,), 64)


def read_in_memory(syntax: str, data: bytes, _: Path) -> None:
    reader = DataSetReader(data, syntax, len(data))
    with pytest.raises(DataSetError, match="sequences within one another"):
        reader.elements(reader.whole)


def read_by_storage_commitment(syntax: str, data: bytes, _: Path) -> None:
    for kind in (CommitmentRequest, CommitmentResult):
        with pytest.raises(CommitmentDataSetError) as refusal:
            kind.decode(data, syntax, len(data))
        assert refusal.value.status.code == 0x0115


def read_for_a_handler(syntax: str, data: bytes, folder: Path) -> None:
    part10 = io.BytesIO(file_of(syntax, data, folder).read_bytes())
    with pytest.raises(UndecodableDataSetError):
        decode(part10, syntax)


def converted(syntax: str, data: bytes, _: Path) -> None:
    target = EXPLICIT if syntax != EXPLICIT else BIG
    with pytest.raises(NotSendableError):
        convert(Instance(CT, "1.2.3", syntax, data), target)


def edited(syntax: str, data: bytes, _: Path) -> None:
    with pytest.raises(NotSendableError):
        Editor({"PatientName": "A^B"}).edit(Instance(CT, "1.2.3", syntax, data))


def read_from_a_file(syntax: str, data: bytes, folder: Path) -> None:
    """Read the first elements; the rest is sent unread."""
    instance = instance_from_path(file_of(syntax, data, folder))
    assert b"".join(map(bytes, instance.chunks(1 << 20))) == data


def read_without_file_meta(_: str, data: bytes, folder: Path) -> None:
    path = folder / "bare.dcm"
    path.write_bytes(data)
    instance = instance_from_path(path)
    assert instance.sop_instance_uid == "1.2.3"


def read_as_a_dicomdir(syntax: str, data: bytes, folder: Path) -> None:
    path = folder / "DICOMDIR"
    records = header(syntax, 0x00041220, "SQ", UNDEFINED) + header(syntax, ITEM, "", UNDEFINED)
    path.write_bytes(file_of(syntax, element(syntax, 0x00041130, "CS", b"") + records + data, folder).read_bytes())
    [result] = references(str(path))
    assert isinstance(result, InstanceResult)


READERS: Final[dict[str, Callable[[str, bytes, Path], None]]] = {
    "scanner": read_by_the_scanner,
    "template": read_by_a_template,
    "in memory": read_in_memory,
    "commitment": read_by_storage_commitment,
    "handler": read_for_a_handler,
    "conversion": converted,
    "editing": edited,
    "file": read_from_a_file,
    "bare file": read_without_file_meta,
    "DICOMDIR": read_as_a_dicomdir,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ended", [False, True], ids=["not ended", "ended"])
@pytest.mark.parametrize("vr", ["SQ", "UN"])
@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES)
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a9_nested_sequences_are_an_error_for_each_reader(
    reader: Callable[[str, bytes, Path], None], syntax: str, vr: str, ended: bool, tmp_path: Path
) -> None:
    reader(syntax, data_set(syntax, vr, ended=ended), tmp_path)


def test_a9_sequences_nested_in_file_meta_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "deep.dcm"
    level = header(EXPLICIT, 0x00020102, "SQ", UNDEFINED) + header(EXPLICIT, ITEM, "", UNDEFINED)
    path.write_bytes(bytes(128) + b"DICM" + level * DEPTH)
    with pytest.raises((NotSendableError, FileMetaError)):
        instance_from_path(path)

"""UIDs of peers that are paths or commands: the archive stays inside its folder, and executes nothing."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.core.messages import CT
from tests.encoding.encode import EXPLICIT, element

from dicomport import FolderStorage, StorageSCP
from dicomport.archive import Archive, ArchiveOptions, Check, Checks, Policy
from dicomport.testing import ScriptedSCU

HOSTILE: Final = (
    *("..", ".", "../..", "../../x", "..\\..\\x", "/etc/x", "//x", "C:\\x", "~", "~root", ".dicomport"),
    *("$(touch x)", "`touch x`", ";touch x", "|touch x", "&&touch x", "\ntouch x", "-rf", "--help", "*", "%s%n"),
    *("${IFS}", "CON", "nul", "1.2/../../x", "\x1b[2J", "1.2.3\0x", " ", "x" * 64, ".dicomport/index"),
)


def data_set(study: str, series: str, instance: str) -> bytes:
    def uid(tag: int, value: str) -> bytes:
        data = value.encode()
        return element(EXPLICIT, tag, "UI", data + bytes(len(data) % 2))

    parts = [uid(0x00080016, CT), uid(0x00080018, instance), uid(0x0020000D, study), uid(0x0020000E, series)]
    return b"".join(parts)


def files(folder: Path) -> Iterator[Path]:
    for path, _, names in os.walk(folder):
        yield from (Path(path, name) for name in names)


@pytest.mark.parametrize("policy", [None, Policy.ACCEPT])
def test_hostile_uids_stay_inside_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: Policy | None
) -> None:
    root, outside = tmp_path / "one" / "two" / "archive", tmp_path / "cwd"
    outside.mkdir()
    monkeypatch.chdir(outside)
    archive = Archive(root, ArchiveOptions(checks=Checks({} if policy is None else dict.fromkeys(Check, policy))))
    statuses: list[int] = []
    try:
        with StorageSCP(archive, port=0).in_thread() as scp, ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.associate()
            for text in HOSTILE:
                for uids in ((text, "1.2", "1.3"), ("1.1", text, "1.3"), ("1.1", "1.2", text), (text, text, text)):
                    response = peer.store(uids[2], data_set(*uids), message_id=len(statuses) + 1)
                    statuses.append(response.status)
            assert peer.store("1.9", data_set("1.1", "1.2", "1.9"), message_id=999).status == 0x0000
            peer.release()
    finally:
        archive.close()
    found = list(files(tmp_path))
    assert [path for path in found if not path.is_relative_to(root)] == []
    stored = [path for path in found if path.suffix == ".dcm" and ".dicomport" not in path.parts]
    assert len(stored) >= (len(HOSTILE) if policy else 1)
    # Besides the studies, there is only the folder of the index.
    assert {path.name for path in root.iterdir() if path.name.startswith(".")} == {".dicomport"}


def test_hostile_uids_stay_inside_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, outside = tmp_path / "one" / "folder", tmp_path / "cwd"
    outside.mkdir()
    monkeypatch.chdir(outside)
    with (
        StorageSCP(FolderStorage(root), port=0).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as peer,
    ):
        peer.associate()
        for number, text in enumerate(HOSTILE, 1):
            peer.store(text, data_set(text, text, text), message_id=number)
        peer.release()
    found = list(files(tmp_path))
    assert found
    assert {path.parent for path in found} == {root}

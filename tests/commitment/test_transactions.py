"""Transactions on the disk: complete or absent, and taken over by the next process after a crash."""

import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, strategies as st
from tests.files.faults import Disk, Fault

from dicomport.commitment import transactions as module
from dicomport.commitment.data_sets import SOPReference
from dicomport.commitment.transactions import Transaction

ONE: Final = Transaction(
    uid="1.2.3",
    ae_title="MODALITY",
    host="192.0.2.7",
    tls_fingerprint="sha256:00",
    references=(SOPReference("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"), SOPReference("1.2", "1.2.5")),
    requested=1_700_000_000.25,
    duplicate=False,
)

OTHER: Final = Transaction(
    uid="1.2.4", ae_title="CT 1", host="::1", tls_fingerprint="", references=(), requested=1.0, duplicate=True
)

KEEP: Final = """
import sys
from pathlib import Path
from dicomport.commitment.transactions import Transaction, Transactions
from dicomport.commitment.data_sets import SOPReference

transactions = Transactions(Path(sys.argv[1]))
for number in range(3):
    transactions.add(Transaction(
        uid=f"1.2.{number}", ae_title="A", host="::1", tls_fingerprint="", references=(), requested=1.0, duplicate=False
    ))
print("kept", flush=True)
sys.stdin.read()
"""


opened: list[module.Transactions] = []


class Transactions(module.Transactions):
    """Each is closed at the end of its test."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        opened.append(self)

    def close(self) -> None:
        opened.remove(self)
        super().close()


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while opened:
        opened[0].close()


def kept(transactions: Transactions) -> list[Transaction]:
    return [transactions.read(path) for path in transactions.paths()]


references = st.builds(SOPReference, st.text(), st.text())


@given(
    st.builds(
        Transaction,
        uid=st.text(),
        ae_title=st.text(),
        host=st.text(),
        tls_fingerprint=st.text(),
        references=st.lists(references).map(tuple),
        requested=st.floats(0, 1e12),
        duplicate=st.booleans(),
    )
)
def test_any_transaction_is_read_as_it_was_written(transaction: Transaction) -> None:
    assert Transaction.from_json(transaction.to_json()) == transaction


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "7", '{"references": 5}', ONE.to_json()[:-9]])
def test_an_invalid_transaction_raises(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a valid transaction|Expecting|Unterminated|delimiter"):
        Transaction.from_json(text)


def test_they_are_kept_and_removed(tmp_path: Path) -> None:
    transactions = Transactions(tmp_path / "commitments")
    paths = [transactions.add(one) for one in (ONE, OTHER)]
    assert kept(transactions) == [ONE, OTHER]
    transactions.remove(paths[0])
    transactions.remove(paths[0])
    assert kept(transactions) == [OTHER]
    transactions.close()


def test_remaining_transactions_are_taken_over(tmp_path: Path) -> None:
    first = Transactions(tmp_path)
    for one in (ONE, OTHER):
        first.add(one)
    first.close()
    second = Transactions(tmp_path)
    assert kept(second) == [ONE, OTHER]
    second.close()
    assert kept(Transactions(tmp_path)) == [ONE, OTHER]


def test_nothing_stays_where_nothing_is_left(tmp_path: Path) -> None:
    transactions = Transactions(tmp_path)
    transactions.remove(transactions.add(ONE))
    transactions.close()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_process_that_lives_keeps_its_own(tmp_path: Path) -> None:
    first, second = Transactions(tmp_path), Transactions(tmp_path)
    first.add(ONE)
    second.add(OTHER)
    third = Transactions(tmp_path)
    assert (kept(first), kept(second), kept(third)) == ([ONE], [OTHER], [])
    second.close()
    assert kept(Transactions(tmp_path)) == [OTHER]


def test_they_outlive_a_kill(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KEEP, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "kept\n"
        assert kept(Transactions(tmp_path)) == []
        process.kill()
    assert [one.uid for one in kept(Transactions(tmp_path))] == ["1.2.0", "1.2.1", "1.2.2"]


def test_half_a_file_is_nobodys(tmp_path: Path) -> None:
    transactions = Transactions(tmp_path)
    path = transactions.add(ONE)
    (path.parent / "half.part").write_text(ONE.to_json()[:50])
    transactions.close()
    after = Transactions(tmp_path)
    assert kept(after) == [ONE]
    assert list(tmp_path.rglob("*.part")) == []


def test_it_is_on_the_disk_before_it_is_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transactions = Transactions(tmp_path)
    disk = Disk(tmp_path, monkeypatch)
    path = transactions.add(ONE)
    folder = path.parent.name
    calls = [call for call in disk.calls if call[0] in ("fsync", "replace")]
    assert calls == [("fsync", f"{folder}/{path.stem}.part"), ("replace", f"{folder}/{path.name}"), ("fsync", folder)]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(Fault("fsync", errno.EIO, ".part"), "Input/output error"), (Fault("replace", errno.ENOSPC), "No space left")],
    ids=["fsync", "replace"],
)
def test_one_that_could_not_be_kept_is_not_there(
    tmp_path: Path, fault: Fault, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transactions = Transactions(tmp_path)
    transactions.add(OTHER)
    disk = Disk(tmp_path, monkeypatch)
    disk.fail(fault)
    with pytest.raises(OSError, match=reason):
        transactions.add(ONE)
    assert kept(transactions) == [OTHER]
    assert [name for name in disk.visible() if name.endswith(".part")] == []
    disk.recover()
    transactions.add(ONE)
    assert kept(transactions) == [OTHER, ONE]


def test_one_whose_folder_could_not_be_synced_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transactions = Transactions(tmp_path)
    disk = Disk(tmp_path, monkeypatch)
    disk.fail(Fault("fsync", errno.EIO, spared=1))
    with pytest.raises(OSError, match="Input/output error"):
        transactions.add(ONE)
    assert kept(transactions) == []


def test_it_says_what_is_in_it(tmp_path: Path) -> None:
    path = Transactions(tmp_path).add(ONE)
    assert json.loads(path.read_text()) == {
        "transaction_uid": "1.2.3",
        "ae_title": "MODALITY",
        "host": "192.0.2.7",
        "tls_fingerprint": "sha256:00",
        "requested": 1_700_000_000.25,
        "duplicate": False,
        "references": [["1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"], ["1.2", "1.2.5"]],
    }


@pytest.mark.parametrize("text", ["[" * 100_000, '{"transaction_uid": ' * 50_000])
def test_a_deeply_nested_transaction_is_invalid(text: str) -> None:
    with pytest.raises(ValueError, match="not a valid transaction"):
        Transaction.from_json(text)

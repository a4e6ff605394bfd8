"""Other protocols told by their first bytes."""

import pytest
from hypothesis import given, strategies as st

from dicomport.wire import Abort, AssociateRJ, RejectReason, encode, guess_protocol

BEGINNINGS = {
    "TLS": (bytes.fromhex("15 0303 0002 0228"), bytes.fromhex("16 0301 0200 01")),
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\n", b"GET / HTTP/1.1\r\n", b"POST /studies HTTP/1.1\r\n"),
    "SSH": (b"SSH-2.0-OpenSSH_9.2p1\r\n",),
    "FTP or SMTP": (b"220 mail.example ESMTP\r\n",),
    "DICOM": (encode(Abort()), encode(AssociateRJ(RejectReason.USER_NO_REASON)), bytes.fromhex("0100 000000cd 0001")),
}
SAMPLES = [(name, sample) for name, samples in BEGINNINGS.items() for sample in samples]


@pytest.mark.parametrize(("name", "sample"), SAMPLES)
def test_a_protocol_is_recognized_by_its_first_bytes(name: str, sample: bytes) -> None:
    assert {guess_protocol(sample[:size]) for size in range(1, len(sample) + 1)} == {name}


@pytest.mark.parametrize(
    ("name", "answer"), [(name, sample) for name, sample in SAMPLES if sample[:1] in (b"\3", b"\7", b"S", b"H")]
)
def test_an_answer_is_recognized_without_its_first_bytes(name: str, answer: bytes) -> None:
    assert guess_protocol(answer[5:], missing=5) == name


@pytest.mark.parametrize("first", [b"", bytes(20), b"\xff\xff", b"hello", bytes.fromhex("15 00"), b"HTML"])
def test_other_protocols_have_no_name(first: bytes) -> None:
    assert guess_protocol(first) == ""
    assert guess_protocol(first, missing=5) == ""


@given(st.binary(max_size=20), st.integers(0, 10))
def test_any_bytes_have_a_name_or_none(first: bytes, missing: int) -> None:
    assert guess_protocol(first, missing=missing) in {"", *BEGINNINGS}

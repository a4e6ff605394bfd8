"""The transfer syntaxes, with pydicom as the oracle."""

import pynetdicom  # noqa: F401  # adds four newer ones to pydicom's dictionary
import pytest
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID

from dicomport.standard import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TransferSyntax,
    find_transfer_syntax,
    transfer_syntaxes,
)

# Syntaxes that pydicom calls "encapsulated" by default, and the reason why they are not.
NOT_ENCAPSULATED = {
    "1.2.840.10008.1.2.4.94": "a URL instead of pixel data",
    "1.2.840.10008.1.2.4.95": "a URL instead of pixel data",
    "1.2.840.10008.1.2.4.204": "a URL instead of pixel data",
    "1.2.840.10008.1.2.4.205": "a URL instead of pixel data",
    "1.2.840.10008.1.2.6.1": "a MIME document",
    "1.2.840.10008.1.2.6.2": "an XML document",
    "1.2.840.10008.1.2.7.1": "pixels in another stream",
    "1.2.840.10008.1.2.7.2": "pixels in another stream",
    "1.2.840.10008.1.2.7.3": "sound in another stream",
    "1.2.840.10008.1.20": "Papyrus 3 Implicit VR Little Endian",
}
DEFLATED_TOO = {"1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}  # JPIP Referenced Deflate (PS3.5 A.7)
IMPLICIT_TOO = {"1.2.840.10008.1.20"}


def by_keyword(syntax: TransferSyntax) -> str:
    return syntax.keyword


def test_all_of_ps3_6() -> None:
    uids = {uid for uid, row in UID_dictionary.items() if row[1] == "Transfer Syntax"}
    assert {syntax.uid for syntax in transfer_syntaxes} == uids
    assert len(transfer_syntaxes) == 63
    assert sum(syntax.retired for syntax in transfer_syntaxes) == 18


@pytest.mark.parametrize("syntax", transfer_syntaxes, ids=by_keyword)
def test_pydicom_agrees_save_for_the_exceptions(syntax: TransferSyntax) -> None:
    oracle = UID(syntax.uid)
    assert (syntax.keyword, syntax.name, syntax.retired) == (oracle.keyword, oracle.name, oracle.is_retired)
    assert syntax.encapsulated is (oracle.is_encapsulated and syntax.uid not in NOT_ENCAPSULATED)
    assert syntax.deflated is (oracle.is_deflated or syntax.uid in DEFLATED_TOO)
    assert syntax.implicit_vr is (oracle.is_implicit_VR or syntax.uid in IMPLICIT_TOO)
    assert syntax.little_endian is oracle.is_little_endian
    assert find_transfer_syntax(syntax.uid) is syntax


@pytest.mark.parametrize("syntax", transfer_syntaxes, ids=by_keyword)
def test_encapsulated_is_explicit_vr_little_endian(syntax: TransferSyntax) -> None:
    if syntax.encapsulated:
        assert (syntax.little_endian, syntax.implicit_vr, syntax.deflated) == (True, False, False)


def test_three_are_uncompressed() -> None:
    uncompressed = [syntax for syntax in transfer_syntaxes if syntax.uncompressed]
    assert uncompressed == [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN]
    assert not any(syntax.encapsulated or syntax.deflated for syntax in uncompressed)


def test_constants() -> None:
    assert IMPLICIT_VR_LITTLE_ENDIAN.implicit_vr
    assert not EXPLICIT_VR_LITTLE_ENDIAN.implicit_vr
    assert not EXPLICIT_VR_BIG_ENDIAN.little_endian
    assert DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN.deflated
    assert EXPLICIT_VR_BIG_ENDIAN.retired


@pytest.mark.parametrize("uid", ["", "1.2.840.10008.1.1", "1.2.840.113619.5.2", "1.2.840.10008.1.2 "])
def test_unknown_ones(uid: str) -> None:
    assert find_transfer_syntax(uid) is None

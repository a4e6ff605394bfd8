"""The transfer syntaxes (PS3.5 Annex A, PS3.6 Table A-1)."""

from __future__ import annotations

from dicomport.standard._tables import TRANSFER_SYNTAXES
from dicomport.values import frozen

# PS3.5 A.1 to A.3. Others that are neither encapsulated nor deflated: a JPIP data set has a URL for pixel data, a
# DICOM-RTV one has it in another stream, and a MIME or XML document is not a data set.
_UNCOMPRESSED = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"})


@frozen
class TransferSyntax:
    """A transfer syntax: the encoding of a data set.

    `encapsulated` means that pixel data is in fragments (PS3.5 A.4), `deflated` that the whole data set is deflated
    (PS3.5 A.5).
    """

    uid: str
    keyword: str
    name: str
    encapsulated: bool
    little_endian: bool
    implicit_vr: bool
    deflated: bool
    retired: bool

    @property
    def uncompressed(self) -> bool:
        """Whether this is one of the three uncompressed encodings, which convert into each other without loss."""
        return self.uid in _UNCOMPRESSED


transfer_syntaxes = tuple(TransferSyntax(*row) for row in TRANSFER_SYNTAXES)
"""The transfer syntaxes of PS3.6, in the order of their UIDs."""

_BY_UID = {syntax.uid: syntax for syntax in transfer_syntaxes}

IMPLICIT_VR_LITTLE_ENDIAN = _BY_UID["1.2.840.10008.1.2"]
EXPLICIT_VR_LITTLE_ENDIAN = _BY_UID["1.2.840.10008.1.2.1"]
EXPLICIT_VR_BIG_ENDIAN = _BY_UID["1.2.840.10008.1.2.2"]
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = _BY_UID["1.2.840.10008.1.2.1.99"]


def find_transfer_syntax(uid: str) -> TransferSyntax | None:
    """Return the transfer syntax with this UID; None for an unknown one (private or newer than the table)."""
    return _BY_UID.get(uid)

"""The data sets of storage commitment, typed from PS3.4 J.3 and PS3.5 7 and 9."""

from typing import Final

from tests.wire.golden import Golden, golden

from dicomport.commitment.data_sets import CommitmentRequest, CommitmentResult, SOPReference
from dicomport.standard import Status

IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
JPEG: Final = "1.2.840.10008.1.2.4.50"

CT: Final = SOPReference("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4")
MR: Final = SOPReference("1.2.840.10008.5.1.4.1.1.4", "1.2.3.45")

REQUEST: Final = CommitmentRequest("1.2.3", (CT, MR))
RESULT: Final = CommitmentResult("1.2.3", (MR,), ((CT, Status(0x0112)),))


def with_element_for_item(data: bytes) -> bytes:
    """Return a data set in Explicit VR with a first sequence of undefined length that has an element as its item."""
    sequence, element = b"\x08\x00\x11\x11SQ\0\0\xff\xff\xff\xff", b"\x09\x00\x10\x00\0\0\0\0"
    return sequence + element + b"\xfe\xff\xdd\xe0\0\0\0\0" + data


WRITTEN: Final[dict[str, tuple[str, Golden, CommitmentRequest | CommitmentResult]]] = {
    "request, implicit": (
        IMPLICIT,
        golden(
            """
            08 00 95 11 [06 00 00 00] '1.2.3' 00                            # Transaction UID
            08 00 99 11 [74 00 00 00]                                       # Referenced SOP Sequence
              FE FF 00 E0 [32 00 00 00]                                     # Item
                08 00 50 11 [1A 00 00 00] '1.2.840.10008.5.1.4.1.1.2' 00    # Referenced SOP Class UID
                08 00 55 11 [08 00 00 00] '1.2.3.4' 00                      # Referenced SOP Instance UID
              FE FF 00 E0 [32 00 00 00]                                     # Item
                08 00 50 11 [1A 00 00 00] '1.2.840.10008.5.1.4.1.1.4' 00    # Referenced SOP Class UID
                08 00 55 11 [08 00 00 00] '1.2.3.45'                        # Referenced SOP Instance UID
            """,
            "little",
        ),
        REQUEST,
    ),
    "request, explicit": (
        EXPLICIT,
        golden(
            """
            08 00 95 11 'UI' [06 00] '1.2.3' 00                             # Transaction UID
            08 00 99 11 'SQ' 00 00 [74 00 00 00]                            # Referenced SOP Sequence
              FE FF 00 E0 [32 00 00 00]                                     # Item
                08 00 50 11 'UI' [1A 00] '1.2.840.10008.5.1.4.1.1.2' 00     # Referenced SOP Class UID
                08 00 55 11 'UI' [08 00] '1.2.3.4' 00                       # Referenced SOP Instance UID
              FE FF 00 E0 [32 00 00 00]                                     # Item
                08 00 50 11 'UI' [1A 00] '1.2.840.10008.5.1.4.1.1.4' 00     # Referenced SOP Class UID
                08 00 55 11 'UI' [08 00] '1.2.3.45'                         # Referenced SOP Instance UID
            """,
            "little",
        ),
        REQUEST,
    ),
    "result, explicit": (
        EXPLICIT,
        golden(
            """
            08 00 95 11 'UI' [06 00] '1.2.3' 00                             # Transaction UID
            08 00 98 11 'SQ' 00 00 [44 00 00 00]                            # Failed SOP Sequence
              FE FF 00 E0 [3C 00 00 00]                                     # Item
                08 00 50 11 'UI' [1A 00] '1.2.840.10008.5.1.4.1.1.2' 00     # Referenced SOP Class UID
                08 00 55 11 'UI' [08 00] '1.2.3.4' 00                       # Referenced SOP Instance UID
                08 00 97 11 'US' [02 00] 12 01                              # Failure Reason
            08 00 99 11 'SQ' 00 00 [3A 00 00 00]                            # Referenced SOP Sequence
              FE FF 00 E0 [32 00 00 00]                                     # Item
                08 00 50 11 'UI' [1A 00] '1.2.840.10008.5.1.4.1.1.4' 00     # Referenced SOP Class UID
                08 00 55 11 'UI' [08 00] '1.2.3.45'                         # Referenced SOP Instance UID
            """,
            "little",
        ),
        RESULT,
    ),
    "result, explicit, big endian": (
        BIG_ENDIAN,
        golden(
            """
            00 08 11 95 'UI' [00 06] '1.2.3' 00                             # Transaction UID
            00 08 11 98 'SQ' 00 00 [00 00 00 44]                            # Failed SOP Sequence
              FF FE E0 00 [00 00 00 3C]                                     # Item
                00 08 11 50 'UI' [00 1A] '1.2.840.10008.5.1.4.1.1.2' 00     # Referenced SOP Class UID
                00 08 11 55 'UI' [00 08] '1.2.3.4' 00                       # Referenced SOP Instance UID
                00 08 11 97 'US' [00 02] 01 12                              # Failure Reason
            00 08 11 99 'SQ' 00 00 [00 00 00 3A]                            # Referenced SOP Sequence
              FF FE E0 00 [00 00 00 32]                                     # Item
                00 08 11 50 'UI' [00 1A] '1.2.840.10008.5.1.4.1.1.4' 00     # Referenced SOP Class UID
                00 08 11 55 'UI' [00 08] '1.2.3.45'                         # Referenced SOP Instance UID
            """,
            "big",
        ),
        RESULT,
    ),
}
"""The bytes that this side encodes, with transfer syntax and value."""

READ: Final[dict[str, tuple[str, Golden, CommitmentRequest | CommitmentResult]]] = {
    "request with undefined lengths and what nobody asked for": (
        EXPLICIT,
        golden(
            """
            08 00 00 00 'UL' [04 00] FF FF 00 00                            # group length
            08 00 54 00 'AE' [08 00] 'RETRIEVE'                             # Retrieve AE Title
            08 00 11 11 'SQ' 00 00 FF FF FF FF                              # Referenced PPS Sequence, retired
              FE FF 00 E0 FF FF FF FF                                       # Item
                08 00 40 11 'SQ' 00 00 FF FF FF FF                          # a sequence in it
                  FE FF 00 E0 [08 00 00 00]                                 # Item
                    08 00 55 11 'UI' [00 00]
                  FE FF DD E0 00 00 00 00                                   # Sequence Delimitation
              FE FF 0D E0 00 00 00 00                                       # Item Delimitation
            FE FF DD E0 00 00 00 00                                         # Sequence Delimitation
            08 00 95 11 'UI' [06 00] '1.2.3 '                               # Transaction UID, padded with a space
            08 00 99 11 'SQ' 00 00 FF FF FF FF                              # Referenced SOP Sequence
              FE FF 00 E0 FF FF FF FF                                       # Item
                08 00 50 11 'UI' [1A 00] '1.2.840.10008.5.1.4.1.1.2' 00     # Referenced SOP Class UID
                08 00 55 11 'UI' [08 00] '1.2.3.4' 00                       # Referenced SOP Instance UID
              FE FF 0D E0 00 00 00 00                                       # Item Delimitation
              FE FF 00 E0 [32 00 00 00]                                     # Item
                08 00 50 11 'UI' [1A 00] '1.2.840.10008.5.1.4.1.1.4' 00     # Referenced SOP Class UID
                08 00 55 11 'UI' [08 00] '1.2.3.45'                         # Referenced SOP Instance UID
            FE FF DD E0 00 00 00 00                                         # Sequence Delimitation
            09 00 10 00 'UN' 00 00 [02 00 00 00] 'AB'                       # something private
            """,
            "little",
        ),
        REQUEST,
    ),
    "result without a reason that counts": (
        IMPLICIT,
        golden(
            """
            08 00 95 11 [06 00 00 00] '1.2.3' 00                            # Transaction UID
            08 00 98 11 [B6 00 00 00]                                       # Failed SOP Sequence
              FE FF 00 E0 [32 00 00 00]                                     # Item, no reason
                08 00 50 11 [1A 00 00 00] '1.2.840.10008.5.1.4.1.1.2' 00
                08 00 55 11 [08 00 00 00] '1.2.3.4' 00
              FE FF 00 E0 [3C 00 00 00]                                     # Item, a reason that means success
                08 00 50 11 [1A 00 00 00] '1.2.840.10008.5.1.4.1.1.4' 00
                08 00 55 11 [08 00 00 00] '1.2.3.45'
                08 00 97 11 [02 00 00 00] 00 00
              FE FF 00 E0 [30 00 00 00]                                     # Item, an empty one
                08 00 50 11 [1A 00 00 00] '1.2.840.10008.5.1.4.1.1.4' 00
                08 00 55 11 [06 00 00 00] '1.2.3' 00
                08 00 97 11 [00 00 00 00]
            """,
            "little",
        ),
        CommitmentResult(
            "1.2.3",
            (),
            (
                (CT, Status(0x0110)),
                (MR, Status(0x0110)),
                (SOPReference("1.2.840.10008.5.1.4.1.1.4", "1.2.3"), Status(0x0110)),
            ),
        ),
    ),
}
"""Other encodings of peers."""

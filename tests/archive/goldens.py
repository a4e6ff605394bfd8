"""Data sets typed byte by byte, and their attributes."""

from typing import Final

from tests.encoding.encode import BIG, DEFLATED, EXPLICIT, IMPLICIT, JPEG, deflate
from tests.wire.golden import Golden, golden

from dicomport.archive.scan.attributes import InstanceAttributes

CT: Final = "1.2.840.10008.5.1.4.1.1.2"

LITTLE: Final = golden(
    """
    08 00 05 00 'CS' [0A 00] 'ISO_IR 100'                       # Specific Character Set
    08 00 16 00 'UI' [1A 00] '1.2.840.10008.5.1.4.1.1.2' 00     # SOP Class UID
    08 00 18 00 'UI' [08 00] '1.2.3.4' 00                       # SOP Instance UID
    08 00 20 00 'DA' [08 00] '20260102'                         # Study Date
    08 00 60 00 'CS' [02 00] 'CT'                               # Modality
    08 00 40 11 'SQ' 00 00 [FF FF FF FF]                        # Referenced Image Sequence
       FE FF 00 E0 [FF FF FF FF]                                #   item
          08 00 55 11 'UI' [08 00] '9.9.9.9' 00                 #     Referenced SOP Instance UID
       FE FF 0D E0 [00 00 00 00]                                #   item delimiter
       FE FF 00 E0 [10 00 00 00]                                #   item of defined length
          08 00 55 11 'UI' [08 00] '9.9.9.8' 00
    FE FF DD E0 [00 00 00 00]                                   # sequence delimiter
    10 00 10 00 'PN' [0A 00] 'M' FC 'ller^Jo '                  # Patient's Name
    10 00 20 00 'LO' [06 00] 'P-0001'                           # Patient ID
    20 00 0D 00 'UI' [06 00] '1.2.3' 00                         # Study Instance UID
    20 00 0E 00 'UI' [08 00] '1.2.3.3' 00                       # Series Instance UID
    20 00 11 00 'IS' [02 00] '7 '                               # Series Number
    28 00 08 00 'IS' [02 00] '3 '                               # Number of Frames
    28 00 10 00 'US' [02 00] 00 02                              # Rows
    28 00 11 00 'US' [02 00] 01 00                              # Columns
    E0 7F 10 00 'OW' 00 00 [04 00 00 00] 01 02 03 04            # Pixel Data
    """,
    "little",
)
FACTS: Final = InstanceAttributes(
    specific_character_set="ISO_IR 100",
    sop_class_uid=CT,
    sop_instance_uid="1.2.3.4",
    study_date="20260102",
    modality="CT",
    patient_name="Müller^Jo",
    patient_id="P-0001",
    study_instance_uid="1.2.3",
    series_instance_uid="1.2.3.3",
    series_number="7",
    number_of_frames=3,
    rows=512,
    columns=1,
)
IMPLICIT_LITTLE: Final = golden(
    """
    08 00 18 00 [08 00 00 00] '1.2.3.4' 00                      # SOP Instance UID
    08 00 40 11 [FF FF FF FF]                                   # Referenced Image Sequence
       FE FF 00 E0 [FF FF FF FF]
          08 00 55 11 [08 00 00 00] '9.9.9.9' 00
       FE FF 0D E0 [00 00 00 00]
    FE FF DD E0 [00 00 00 00]
    28 00 10 00 [02 00 00 00] 00 02                             # Rows
    E0 7F 10 00 [02 00 00 00] 01 02                             # Pixel Data
    """,
    "little",
)
BIG_ENDIAN: Final = golden(
    """
    00 08 00 18 'UI' [00 08] '1.2.3.4' 00                       # SOP Instance UID
    00 08 11 40 'SQ' 00 00 [FF FF FF FF]                        # Referenced Image Sequence
       FF FE E0 00 [FF FF FF FF]
          00 08 11 55 'UI' [00 08] '9.9.9.9' 00
       FF FE E0 0D [00 00 00 00]
    FF FE E0 DD [00 00 00 00]
    00 09 10 01 'UN' 00 00 [FF FF FF FF]                        # PS3.5 6.2.2: Implicit VR Little Endian inside
       FE FF 00 E0 [FF FF FF FF]
          09 00 02 10 [02 00 00 00] 01 02
       FE FF 0D E0 [00 00 00 00]
    FE FF DD E0 [00 00 00 00]
    00 28 00 10 'US' [00 02] 02 00                              # Rows
    7F E0 00 10 'OW' 00 00 [00 00 00 02] 01 02                  # Pixel Data
    """,
    "big",
)
ENCAPSULATED: Final = golden(
    """
    08 00 18 00 'UI' [08 00] '1.2.3.4' 00                       # SOP Instance UID
    28 00 10 00 'US' [02 00] 00 02                              # Rows
    E0 7F 10 00 'OB' 00 00 [FF FF FF FF]                        # Pixel Data
       FE FF 00 E0 [00 00 00 00]                                #   basic offset table
       FE FF 00 E0 [0A 00 00 00] FF D8 FE FF DD E0 00 00 00 00  #   a fragment with a delimiter's bytes in it
    FE FF DD E0 [00 00 00 00]
    """,
    "little",
)
UN_SEQUENCE: Final = golden(
    """
    08 00 18 00 'UI' [08 00] '1.2.3.4' 00                       # SOP Instance UID
    09 00 01 10 'UN' 00 00 [FF FF FF FF]                        # PS3.5 6.2.2: Implicit VR inside
       FE FF 00 E0 [FF FF FF FF]
          09 00 02 10 [FF FF FF FF]
             FE FF 00 E0 [FF FF FF FF]
                09 00 03 10 [02 00 00 00] 01 02
             FE FF 0D E0 [00 00 00 00]
          FE FF DD E0 [00 00 00 00]
       FE FF 0D E0 [00 00 00 00]
    FE FF DD E0 [00 00 00 00]
    28 00 10 00 'US' [02 00] 00 02                              # Rows
    """,
    "little",
)
SMALL: Final = InstanceAttributes(sop_instance_uid="1.2.3.4", rows=512)
GOLDENS: Final = {
    "explicit": (EXPLICIT, LITTLE, FACTS),
    "implicit": (IMPLICIT, IMPLICIT_LITTLE, SMALL),
    "big-endian": (BIG, BIG_ENDIAN, SMALL),
    "encapsulated": (JPEG, ENCAPSULATED, SMALL),
    "unknown-vr-sequence": (EXPLICIT, UN_SEQUENCE, SMALL),
    "deflated": (DEFLATED, Golden(deflate(LITTLE.data), (), "little"), FACTS),
}

"""Tables of the standard as values: SOP classes, transfer syntaxes, statuses, UIDs and AE titles."""

from dicomport.standard import statuses, uids
from dicomport.standard.ae_titles import check_ae_title
from dicomport.standard.sop_classes import SOPClass, SOPClasses, describe, sop_classes
from dicomport.standard.statuses import *
from dicomport.standard.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TransferSyntax,
    find_transfer_syntax,
    transfer_syntaxes,
)
from dicomport.standard.uids import *

__all__ = [
    "DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN",
    "EXPLICIT_VR_BIG_ENDIAN",
    "EXPLICIT_VR_LITTLE_ENDIAN",
    "IMPLICIT_VR_LITTLE_ENDIAN",
    "SOPClass",
    "SOPClasses",
    "TransferSyntax",
    "check_ae_title",
    "describe",
    "find_transfer_syntax",
    "sop_classes",
    "transfer_syntaxes",
]
__all__ += statuses.__all__
__all__ += uids.__all__

"""Tolerated deviations of peers and files from the standard, each with a name, so that they can be counted."""

from __future__ import annotations

import enum


class Deviation(enum.StrEnum):
    """A tolerated deviation from the standard; the value is its name in logs and counters."""

    AE_TITLE_BLANK = "ae-title-blank"
    AE_TITLE_WITH_NUL = "ae-title-with-nul"
    UID_PADDING = "uid-padding"
    RESULT_RESERVED = "result-reserved"
    REJECT_REASON_RESERVED = "reject-reason-reserved"
    ABORT_REASON_RESERVED = "abort-reason-reserved"
    JUNK_IN_REJECTED_CONTEXT = "junk-in-rejected-context"
    REPEATED_ITEM = "repeated-item"
    CONTEXT_ID_EVEN = "context-id-even"
    CONTEXT_ID_REPEATED = "context-id-repeated"
    CONTEXT_ID_UNKNOWN = "context-id-unknown"
    ANSWER_NOT_PROPOSED = "answer-not-proposed"
    PDU_LONGER_THAN_ANNOUNCED = "pdu-longer-than-announced"
    EMPTY_P_DATA = "empty-p-data"
    EMPTY_FRAGMENT = "empty-fragment"
    DATA_SET_UNANNOUNCED = "data-set-unannounced"
    ODD_FRAGMENT = "odd-fragment"
    GROUP_LENGTH_WRONG = "group-length-wrong"
    ELEMENTS_UNSORTED = "elements-unsorted"
    ELEMENT_REPEATED = "element-repeated"
    PRIORITY_MISSING = "priority-missing"
    UNEXPECTED_RESPONSE = "unexpected-response"
    FILE_META_WITHOUT_PREAMBLE = "file-meta-without-preamble"
    FILE_META_IN_IMPLICIT_VR = "file-meta-in-implicit-vr"
    FILE_META_GROUP_LENGTH_WRONG = "file-meta-group-length-wrong"
    FILE_META_UID_MISSING = "file-meta-uid-missing"
    SOP_CLASS_DIFFERS = "sop-class-differs"
    SOP_INSTANCE_UID_DIFFERS = "sop-instance-uid-differs"
    TRANSFER_SYNTAX_DIFFERS = "transfer-syntax-differs"
    TRANSFER_SYNTAX_MISSING = "transfer-syntax-missing"
    DATA_SET_ODD = "data-set-odd"

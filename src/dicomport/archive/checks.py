"""Checks of a data set before it is stored, and the statuses of those that fail."""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Collection, Mapping
from dataclasses import field
from typing import Final

from dicomport.archive.scan.attributes import InstanceAttributes
from dicomport.archive.scan.scanner import Scan
from dicomport.encoding.deviations import ScanFlag
from dicomport.standard import (
    DATA_SET_DOES_NOT_MATCH,
    DATA_SET_DOES_NOT_MATCH_WARNING,
    INVALID_OBJECT_INSTANCE,
    UNDECODABLE_DATA_SET,
    Status,
    looks_like_uid,
    sop_classes,
)
from dicomport.values import frozen


class Check(enum.StrEnum):
    """A check of a data set."""

    WHOLE = "whole"
    """The data set can be decoded to its end, and its last element ends there."""
    INSTANCE_UID = "instance-uid"
    """The SOP Instance UID equals that of the C-STORE request."""
    SOP_CLASS = "sop-class"
    """The SOP Class UID equals that of the C-STORE request."""
    IDENTITY = "identity"
    """The UIDs are valid; Study and Series Instance UID are present if the SOP Class is known to require them."""


class Policy(enum.StrEnum):
    """The way to handle an instance that fails a check."""

    REFUSE = "refuse"
    """Refuse the instance and keep it in the quarantine."""
    ACCEPT = "accept"
    """Store the instance and respond with the warning 0xB007."""


@frozen
class CheckFailure:
    """A failed check."""

    check: Check
    status: Status
    """Status for the response if the policy is to refuse."""


_NON_PATIENT: Final = frozenset(
    getattr(sop_classes, keyword).uid
    for keyword in (
        "HangingProtocolStorage",
        "ColorPaletteStorage",
        "GenericImplantTemplateStorage",
        "ImplantAssemblyTemplateStorage",
        "ImplantTemplateGroupStorage",
        "CTDefinedProcedureProtocolStorage",
        "XADefinedProcedureProtocolStorage",
        "ProtocolApprovalStorage",
        "InventoryStorage",
    )
)
"""SOP Classes whose instances do not belong to a patient, and so not to a study (PS3.4 Annex GG)."""


_WARNINGS: Final = {
    ScanFlag.MISSING_DELIMITER: "the delimiter of the pixels is missing",
    ScanFlag.EXPLICIT_ITEM_IN_UN: "items in Explicit VR in a UN of undefined length",
    ScanFlag.ODD_PADDING: "a NUL between two elements",
    ScanFlag.SPACE_PADDING: "spaces after the last element",
    ScanFlag.ZEROS_FOR_SEQUENCE_DELIMITER: "NULs for the delimiter of a sequence",
}
"""Deviations with a warning in the response: some receivers reject them."""


@frozen
class Checks:
    """The policy of each check; the default is to refuse."""

    policies: Mapping[Check, Policy] = field(default_factory=dict)

    def check(self, scan: Scan, sop_class_uid: str, sop_instance_uid: str) -> tuple[Status | None, str]:
        """Check a data set against its request.

        Return the status for the response and the names of the failed checks. The status is None if no check failed.
        It is a warning if the policy of each failed check is to accept, and for some deviations of the data set.
        """
        failures = _failures(scan, sop_class_uid, sop_instance_uid)
        if not failures:
            return _warning(scan.flags) if scan.flags else None, ""
        names = ", ".join(failure.check for failure in failures)
        for failure in failures:
            if self.policies.get(failure.check, Policy.REFUSE) is Policy.REFUSE:
                return failure.status, names
        return Status(DATA_SET_DOES_NOT_MATCH_WARNING.code, f"stored despite failed checks: {names}"[:64]), names


def _warning(flags: Collection[ScanFlag]) -> Status | None:
    # PS3.4 Table B.2-1 has no better one: nothing was coerced, and no element was discarded.
    comments = [comment for flag, comment in _WARNINGS.items() if flag in flags]
    return Status(DATA_SET_DOES_NOT_MATCH_WARNING.code, f"stored: {comments[0]}") if comments else None


def _failures(scan: Scan, sop_class_uid: str, sop_instance_uid: str) -> list[CheckFailure]:
    attributes = scan.attributes
    if scan.problem is not None:
        comment = f"the data set is {scan.problem.kind}"
        return [CheckFailure(Check.WHOLE, Status(UNDECODABLE_DATA_SET.code, comment))]
    if ScanFlag.NOT_WALKED in scan.flags:
        # An attribute that was not read is unknown, and not wrong.
        attributes = with_request_uids(attributes, sop_class_uid, sop_instance_uid)
    failures = []
    if attributes.sop_instance_uid != sop_instance_uid:
        how = "differs from that of the request" if attributes.sop_instance_uid else "is missing"
        failures.append(_mismatch(Check.INSTANCE_UID, f"SOP Instance UID {how}", 0x00080018))
    if attributes.sop_class_uid != sop_class_uid and not is_same_class(attributes.sop_class_uid, sop_class_uid):
        how = "differs from that of the request" if attributes.sop_class_uid else "is missing"
        failures.append(_mismatch(Check.SOP_CLASS, f"SOP Class UID {how}", 0x00080016))
    if not (
        looks_like_uid(attributes.sop_instance_uid)
        and _are_uids(attributes.study_instance_uid, attributes.series_instance_uid)
    ):
        failures += _identity(attributes, is_read=ScanFlag.NOT_WALKED not in scan.flags)
    return failures


@functools.lru_cache(maxsize=64)
def _are_uids(study_instance_uid: str, series_instance_uid: str) -> bool:
    """Return whether the UIDs of study and series are valid; cached for the other instances of the series."""
    return looks_like_uid(study_instance_uid) and looks_like_uid(series_instance_uid)


def _identity(attributes: InstanceAttributes, *, is_read: bool) -> list[CheckFailure]:
    if not looks_like_uid(attributes.sop_instance_uid):
        comment = "SOP Instance UID is missing or invalid"
        status = Status(INVALID_OBJECT_INSTANCE.code, comment, (0x00080018,))
        return [CheckFailure(Check.IDENTITY, status)]
    known = sop_classes.find(attributes.sop_class_uid)
    needs_study = is_read and known is not None and known.uid not in _NON_PATIENT
    for uid, tag, name in (
        (attributes.study_instance_uid, 0x0020000D, "Study Instance UID"),
        (attributes.series_instance_uid, 0x0020000E, "Series Instance UID"),
    ):
        if (uid or needs_study) and not looks_like_uid(uid):
            return [_mismatch(Check.IDENTITY, f"{name} is missing or invalid", tag)]
    return []


def is_same_class(one: str, other: str) -> bool:
    """Return whether two UIDs identify one SOP Class: the standard has misprinted some UIDs."""
    known = sop_classes.find(one)
    return one == other or (known is not None and known is sop_classes.find(other))


def with_request_uids(attributes: InstanceAttributes, sop_class_uid: str, sop_instance_uid: str) -> InstanceAttributes:
    """Copy UIDs that the data set lacks from the request."""
    if attributes.sop_class_uid and attributes.sop_instance_uid:
        return attributes
    return dataclasses.replace(
        attributes,
        sop_class_uid=attributes.sop_class_uid or sop_class_uid,
        sop_instance_uid=attributes.sop_instance_uid or sop_instance_uid,
    )


def _mismatch(check: Check, comment: str, tag: int) -> CheckFailure:
    return CheckFailure(check, Status(DATA_SET_DOES_NOT_MATCH.code, comment, (tag,)))

"""What is asked of a data set before it is acknowledged, and what a violation is answered with."""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from dicomport.archive.scan.scanner import InstanceFacts, Scan
from dicomport.standard import (
    DATA_SET_DOES_NOT_MATCH,
    DATA_SET_DOES_NOT_MATCH_WARNING,
    INVALID_OBJECT_INSTANCE,
    UNDECODABLE_DATA_SET,
    Status,
    looks_like_uid,
    sop_classes,
)

__all__ = ["Check", "Checks", "Policy", "completed"]


class Check(enum.StrEnum):
    """One thing that is asked of a data set."""

    WHOLE = "whole"
    """It ends where its elements say, and can be decoded so far."""
    INSTANCE_UID = "instance-uid"
    """Its SOP Instance UID is the one of the C-STORE request."""
    SOP_CLASS = "sop-class"
    """Its SOP Class UID is the one of the C-STORE request."""
    IDENTITY = "identity"
    """It has Study and Series Instance UID, where its SOP Class is known to ask for them, and its UIDs are such."""


class Policy(enum.StrEnum):
    """What becomes of an instance that fails a check."""

    REFUSE = "refuse"
    """It is refused, and kept in quarantine."""
    ACCEPT = "accept"
    """It is stored, and the sender warned with 0xB007."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A check that failed."""

    check: Check
    status: Status
    """What it is refused with."""


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
"""Instances that belong to no patient and so to no study (PS3.4 Annex GG)."""


@dataclass(frozen=True, slots=True)
class Checks:
    """The policies; what is not named is refused."""

    policies: Mapping[Check, Policy] = field(default_factory=dict)

    def judge(self, scan: Scan, sop_class_uid: str, sop_instance_uid: str) -> tuple[Status | None, str]:
        """Compare a data set with its request.

        Gives None for one that passes, else the status to answer with, a warning where the policy is to accept; and the
        names of the checks that failed.
        """
        findings = _findings(scan, sop_class_uid, sop_instance_uid)
        if not findings:
            return None, ""
        names = ", ".join(finding.check for finding in findings)
        for finding in findings:
            if self.policies.get(finding.check, Policy.REFUSE) is Policy.REFUSE:
                return finding.status, names
        return Status(DATA_SET_DOES_NOT_MATCH_WARNING.code, f"stored though it fails: {names}"[:64]), names


def _findings(scan: Scan, sop_class_uid: str, sop_instance_uid: str) -> list[Finding]:
    facts = scan.facts
    if scan.problem is not None:
        comment = f"the data set is {scan.problem.kind}"
        return [Finding(Check.WHOLE, Status.of(UNDECODABLE_DATA_SET.code, comment))]
    findings = []
    if facts.sop_instance_uid != sop_instance_uid:
        findings.append(_mismatch(Check.INSTANCE_UID, "SOP Instance UID is not the one of the request", 0x00080018))
    if facts.sop_class_uid != sop_class_uid:
        asked = sop_classes.find(sop_class_uid)
        if asked is None or asked is not sop_classes.find(facts.sop_class_uid):
            findings.append(_mismatch(Check.SOP_CLASS, "SOP Class UID is not the one of the request", 0x00080016))
    if not (looks_like_uid(facts.sop_instance_uid) and _are_named(facts.study_instance_uid, facts.series_instance_uid)):
        findings += _identity(facts)
    return findings


@functools.lru_cache(maxsize=64)
def _are_named(study_instance_uid: str, series_instance_uid: str) -> bool:
    """Tell whether study and series are named well, unless that was done for an instance before."""
    return looks_like_uid(study_instance_uid) and looks_like_uid(series_instance_uid)


def _identity(facts: InstanceFacts) -> list[Finding]:
    if not looks_like_uid(facts.sop_instance_uid):
        comment = "SOP Instance UID is missing or no UID"
        status = Status(INVALID_OBJECT_INSTANCE.code, comment, (0x00080018,))
        return [Finding(Check.IDENTITY, status)]
    known = sop_classes.find(facts.sop_class_uid)
    needs_study = known is not None and known.uid not in _NON_PATIENT
    for uid, tag, name in (
        (facts.study_instance_uid, 0x0020000D, "Study Instance UID"),
        (facts.series_instance_uid, 0x0020000E, "Series Instance UID"),
    ):
        if (uid or needs_study) and not looks_like_uid(uid):
            return [_mismatch(Check.IDENTITY, f"{name} is missing or no UID", tag)]
    return []


def completed(facts: InstanceFacts, sop_class_uid: str, sop_instance_uid: str) -> InstanceFacts:
    """Take from the request what a data set that is accepted all the same does not say."""
    return dataclasses.replace(
        facts,
        sop_class_uid=facts.sop_class_uid or sop_class_uid,
        sop_instance_uid=facts.sop_instance_uid or sop_instance_uid,
    )


def _mismatch(check: Check, comment: str, tag: int) -> Finding:
    return Finding(check, Status(DATA_SET_DOES_NOT_MATCH.code, comment, (tag,)))

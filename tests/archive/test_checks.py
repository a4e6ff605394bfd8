"""The comments of failed checks."""

import pytest

from dicomport.archive.checks import Checks
from dicomport.archive.scan.attributes import InstanceAttributes
from dicomport.archive.scan.scanner import Scan

CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.mark.parametrize(
    ("sop_class_uid", "sop_instance_uid", "comment"),
    [
        (CT, "", "SOP Instance UID is missing"),
        (CT, "1.2.3.99", "SOP Instance UID differs from that of the request"),
        ("", "1.2.3.4", "SOP Class UID is missing"),
        ("1.2.3", "1.2.3.4", "SOP Class UID differs from that of the request"),
    ],
)
def test_a_missing_uid_is_not_reported_as_a_different_one(
    sop_class_uid: str, sop_instance_uid: str, comment: str
) -> None:
    attributes = InstanceAttributes(
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.1",
    )
    scan = Scan(attributes=attributes, problem=None, flags=frozenset())
    status, _ = Checks().check(scan, CT, "1.2.3.4")
    assert status is not None
    assert status.comment == comment

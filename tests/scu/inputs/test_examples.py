"""Files laid out like earlier ones: they are identified as if there had been no earlier ones."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.scu.data import CT, CT_FILE, DEVIATING, EXPLICIT, FILES, IMPLICIT, MR, image, part10

from dicomport.scu import Instance, NotSendableError, instance_from_path
from dicomport.scu.inputs import instance as module
from dicomport.scu.inputs.examples import Examples

COMMON: Final = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
HEADER: Final = 700
"""Bytes of CT_small up to some elements behind the SOP Instance UID."""


def identified(path: Path) -> Instance | str:
    try:
        return instance_from_path(path)
    except NotSendableError as error:
        return str(error)


def fresh(path: Path) -> Instance | str:
    """Identify a file without earlier ones."""
    with mock.patch.object(module, "_examples", Examples()):
        return identified(path)


@pytest.mark.parametrize("path", [*sorted(FILES.glob("*.dcm")), *sorted(DEVIATING.glob("*.dcm"))], ids=lambda p: p.name)
def test_files_of_any_kind_are_identified_as_without_earlier_ones(path: Path) -> None:
    for earlier in (CT_FILE, FILES / "MR_small.dcm", path, path):
        identified(earlier)
    assert identified(path) == fresh(path)


@COMMON
@given(
    st.lists(st.tuples(st.integers(0, HEADER), st.integers(0, 255)), max_size=4),
    st.one_of(st.just(0), st.integers(1, HEADER)),
    st.sampled_from(
        ["CT_small.dcm", "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm"]
    ),
)
def test_any_bytes_are_identified_as_without_earlier_ones(
    tmp_path: Path, changes: list[tuple[int, int]], length: int, name: str
) -> None:
    content = bytearray((FILES / name).read_bytes())
    for place, value in changes:
        content[place] = value
    path = tmp_path / "changed.dcm"
    path.write_bytes(content[:length] if length else content)
    identified(FILES / name)
    assert identified(path) == fresh(path)
    assert identified(path) == fresh(path)


@pytest.mark.parametrize("sop_class", [CT, MR])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_a_series_is_identified_by_one_comparison_each(tmp_path: Path, sop_class: str, syntax: str) -> None:
    found: list[object] = []
    match = Examples.match

    def noting(self: Examples, data: bytes) -> object:
        found.append(match(self, data))
        return found[-1]

    with mock.patch.object(module, "_examples", Examples()), mock.patch.object(Examples, "match", noting):
        for number in range(10, 30):
            uid = f"1.2.3.{number}"
            data = image(bytes(100), sop_class, uid) if syntax == EXPLICIT else None
            path = part10(tmp_path / uid, sop_class=sop_class, sop_instance=uid, syntax=syntax, data=data)
            assert instance_from_path(path).sop_instance_uid == uid
    assert found.count(None) == 1


def test_a_uid_that_differs_in_the_data_set_is_noticed_behind_equal_files(tmp_path: Path) -> None:
    for number in (10, 11):
        identified(part10(tmp_path / "equal.dcm", sop_instance=f"1.2.3.{number}"))
    path = part10(tmp_path / "other.dcm", sop_instance="1.2.3.12")
    content = path.read_bytes()
    place = content.rindex(b"1.2.3.12")
    path.write_bytes(content[:place] + b"1.2.3.99" + content[place + 8 :])
    found = instance_from_path(path)
    assert found.sop_instance_uid == "1.2.3.99"
    assert found.deviations

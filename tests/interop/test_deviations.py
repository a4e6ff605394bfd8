"""Data sets that deviate from the standard: the archive stores those that other receivers accept.

DCMTK's storescp decodes each data set, with +B it writes the received bytes. The handler of pynetdicom decodes it with
pydicom, Orthanc with DCMTK.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from pynetdicom import AE, evt
from tests.archive.deviations import CASES, RLE, SECONDARY_CAPTURE, Case, cases_in_files
from tests.archive.sending import receiver
from tests.encoding.encode import BIG, DEFLATED, EXPLICIT, IMPLICIT, JPEG
from tests.interop.conftest import HOST, StartStoreSCP, free_port
from tests.interop.test_orthanc import Orthanc, orthanc

from dicomport import AssociationError, blocking
from dicomport.scu import Instance

running = orthanc
"""The fixture of the tests of storage commitment."""

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

SYNTAXES: Final = (IMPLICIT, EXPLICIT, BIG, DEFLATED, JPEG, RLE)

ACCEPTED_BY_ALL: Final = (
    *(f"{size} zeros, {name}" for size in (2, 8, 512) for name in ("implicit", "explicit", "big endian", "deflated")),
    *(f"odd pixels, {name}" for name in ("implicit", "explicit", "big endian", "deflated")),
    *(
        f"{what}, {name}"
        for what in (
            *("2 spaces", "4 spaces", "8 spaces", "odd pixels and a space"),
            *("8 zeros between", "512 zeros between", "zeros twice", "zeros in an item"),
        )
        for name in ("implicit", "explicit", "big endian", "deflated")
    ),
    "zeros after compressed pixels",
    *(
        f"{name} short by {missing}, implicit"
        for name in ("icon", "bright icon", "three icons")
        for missing in (4, 8, 24)
    ),
    "short sequence, explicit",
    "short sequence, big endian",
    "compressed icon, 24",
    "compressed icon, more",
    *(f"{size} zeros for the delimiter" for size in (2, 4, 6)),
    "4 zeros after two fragments",
    *(f"{vr}, {name}" for vr in ("zeros", "lower", "blanks", "dashes", "ones") for name in ("explicit", "big endian")),
    "no VR, empty",
    "no VR, last",
    "no VR, two",
    "no VR, deflated",
)
FILES_OF_ALL: Final = (
    "zeros-after-pixels",
    "odd-pixels-with-nul",
    "icon-counted-short",
    "icon-counted-right",
    "zeros-for-delimiter",
    "no-vr",
)
ACCEPTED_BY_THREE: Final = tuple(
    f"{size} zeros after {items} items, {name}"
    for name in ("implicit", "explicit", "big endian")
    for size, items in ((2, 1), (4, 2), (6, 1), (4, 0))
)
"""The exception is pynetdicom."""
ACCEPTED_BY_TWO: Final = (
    *(f"512 spaces, {name}" for name in ("implicit", "explicit", "big endian")),
    *("two frames", "DS in UN, explicit", "big endian in UN", "odd value, explicit"),
)
FILES_OF_TWO: Final = ("pixels-without-delimiter", "explicit-items-in-un")


def chosen(names: tuple[str, ...], files: tuple[str, ...]) -> list[tuple[Case, str]]:
    cases = {case.name: case for case in CASES}
    in_files = {case.name: (case, uid) for case, uid in cases_in_files()}
    return [*((cases[name], cases[name].uid) for name in names), *(in_files[name] for name in files)]


def answer(port: int, case: Case, uid: str) -> int | None:
    """Send a data set; return the status, or None if the peer aborts the association."""
    contexts = [(SECONDARY_CAPTURE, case.syntax)]
    try:
        with blocking.associate(HOST, port, contexts=contexts, called_ae_title="ORTHANC") as association:
            return association.c_store(Instance(SECONDARY_CAPTURE, uid, case.syntax, case.data)).status.code
    except AssociationError:
        return None


def decode(event: Any) -> int:
    try:
        for _ in event.dataset.iterall():
            pass
    except Exception:  # noqa: BLE001  # pydicom raises exceptions of any type
        return 0xC210
    return 0x0000


@pytest.fixture
def pynetdicom_port() -> Iterator[int]:
    entity = AE()
    entity.add_supported_context(SECONDARY_CAPTURE, list(SYNTAXES))
    server = entity.start_server((HOST, free_port()), block=False, evt_handlers=[(evt.EVT_C_STORE, decode)])
    assert server is not None
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


@pytest.fixture
def ports(storescp: StartStoreSCP, pynetdicom_port: int, running: Orthanc) -> dict[str, int]:
    """Start the four receivers."""
    return {
        "DCMTK": storescp("+xa").port,
        "DCMTK +B": storescp("+xa", "+B").port,
        "pynetdicom": pynetdicom_port,
        "Orthanc": running.port,
    }


def test_a_data_set_that_four_receivers_accept_is_stored_without_a_warning(
    ports: dict[str, int], tmp_path: Path
) -> None:
    with receiver(tmp_path / "archive") as ours:
        for case, uid in chosen(ACCEPTED_BY_ALL, FILES_OF_ALL):
            answers = {name: answer(port, case, uid) for name, port in ports.items()}
            assert answers == dict.fromkeys(ports, 0x0000), case.name
            assert answer(ours.port, case, uid) == 0x0000, case.name


def test_a_data_set_that_three_receivers_accept_is_stored_with_a_warning(ports: dict[str, int], tmp_path: Path) -> None:
    del ports["pynetdicom"]
    with receiver(tmp_path / "archive") as ours:
        for case, uid in chosen(ACCEPTED_BY_THREE, ()):
            answers = {name: answer(port, case, uid) for name, port in ports.items()}
            assert answers == dict.fromkeys(ports, 0x0000), case.name
            assert answer(ours.port, case, uid) == 0xB007, case.name


def test_a_data_set_that_two_receivers_accept_is_stored_with_a_warning(
    storescp: StartStoreSCP, pynetdicom_port: int, tmp_path: Path
) -> None:
    """DCMTK without +B and Orthanc abort the association, which takes them seconds."""
    peers = (storescp("+xa", "+B").port, pynetdicom_port)
    with receiver(tmp_path / "archive") as ours:
        for case, uid in chosen(ACCEPTED_BY_TWO, FILES_OF_TWO):
            assert [answer(port, case, uid) for port in peers] == [0x0000] * 2, case.name
            assert answer(ours.port, case, uid) == 0xB007, case.name

"""Write the seeds into `corpus`, a folder for each target, or check whether the files there are current.

    python -m fuzz.seeds [--check]

They are derived from the golden bytes of the tests. Fixed findings of the fuzzer are seeds, too, in `FOUND`.
"""

from __future__ import annotations

import io
import itertools
import re
import struct
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.archive.goldens import GOLDENS as DATA_SETS
from tests.commitment.data_set_goldens import (
    DEFLATED,
    EXPLICIT,
    READ,
    REQUEST as COMMITMENT_REQUEST,
    RESULT as COMMITMENT_RESULT,
    WRITTEN,
)
from tests.core.associations import POLICY, REQUEST
from tests.core.messages import (
    COMMAND,
    DATA,
    RELEASE_RP,
    STORE_PDU,
    associate_rq,
    command_set,
    number,
    p_data,
    pdv,
    store_elements,
)
from tests.encoding.encode import BIG, Element, Items, encode as encode_data_set
from tests.scp.streams import UNCOMMON, store
from tests.scu.data import DEVIATING
from tests.wire.command_goldens import COMMANDS
from tests.wire.pdu_goldens import ITEMS as ITEM_GOLDENS, PDUS

from dicomport.core import Role, negotiate
from dicomport.wire import FileMeta, encode, encode_command, encode_file_meta
from fuzz.archive import SYNTAXES
from fuzz.association import CANNED, CONVERSATION, STARTS, Program, data_of
from fuzz.index import DAMAGES
from fuzz.receiver import BEHAVIOURS
from fuzz.sender import SOURCES
from fuzz.targets import TARGETS
from fuzz.wire import COMMITMENTS, ITEMS

__all__ = ["CORPUS", "seeds"]

CORPUS: Final = Path(__file__).with_name("corpus")

_MAX_SEED_BYTES: Final = 9000
"""Longer seeds make the target slow."""

_DATA_SET: Final = bytes.fromhex("08 00 18 00 55 49 08 00") + b"1.2.3.4\0"

_PLAIN: Final = tuple(syntax.uid for syntax in SOURCES)

_CHARACTER_SETS: Final = (
    b"\nBuc^J\xe9r\xf4me",
    b"ISO_IR 101\nWa\xb3\xeasa",
    b"ISO-IR 144\n\xbb\xee\xda",
    b"ISO_IR 166\n\xa1\xa2",
    b"ISO_IR 192\nWang^XiaoDong=" + "王^小東=".encode(),
    b"GB18030\n" + "王^小东".encode("gb18030"),
    b"GBK\n" + "王^小东".encode("gbk"),
    b"ISO_IR 13\n\xd4\xcf\xc0\xde^\xc0\xdb\xb3",
    b"ISO 2022 IR 100\\ISO 2022 IR 144\nJ\xe9\x1b-L\xbb\xee\xda^\xe9",
    b"ISO 2022 IR 13\\ISO 2022 IR 87\n\xd4\xcf=\x1b$B;3ED\x1b(J^",
    b"\\ISO 2022 IR 149\nHong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce",
    b"\\ISO 2022 IR 159\n\x1b$(D\x22\x23",
    b"\\ISO 2022 IR 58\n\x1b$)A\xcd\xf5",
    b"ISO_IR 999\n\x1b?x\0 ",
)

_NAMES: Final = (
    b"1.2.840.10008.1.1\n1.2.840.10008.1.2",
    b"../../x\n/etc/cron.d/x",
    b"..\\..\\x\nC:\\x",
    b".\n..",
    b"\n_",
    b"1/2\n1_2",
    b"1_2f2\n1/2",
    b"CON\ncon",
    b"1.2\0003\n1.2.3 ",
    b"$(id)\n`id`",
    "\u202e1.2\nä".encode(),
    b"1" * 120 + b"\n" + b"1" * 121,
    b"/" * 41 + b"\n" + b"/" * 42,
)

FOUND: Final[dict[str, dict[str, bytes]]] = {
    "conversion": {
        # It was converted although it is not an element of a data set.
        "sequence of group 0000": b"\1" + bytes.fromhex("0000 0110 554e 0000 ffffffff feff dde0 00000000"),
    },
    "association": {
        # It was answered with an A-ASSOCIATE-RJ.
        "request of another version after an abort": data_of(Program("Sta2", (RELEASE_RP, associate_rq(version=2)))),
    },
}
"""Findings of the fuzzer, by target and description."""


def seeds() -> Iterator[tuple[Path, bytes]]:
    """Yield each seed with its path below `CORPUS`."""
    for target, made in _MADE.items():
        for name, data in itertools.chain(made(), FOUND.get(target, {}).items()):
            yield Path(target, re.sub("[^0-9a-z]+", "-", name.lower()).strip("-")), data


def _pdus() -> Iterator[tuple[str, bytes]]:
    yield from ((name, golden.data) for name, (golden, _) in PDUS.items())
    yield "request of the tests", encode(REQUEST)
    yield "answer to it", encode(negotiate(REQUEST, POLICY).reply)


def _items() -> Iterator[tuple[str, bytes]]:
    for name, (golden, value) in ITEM_GOLDENS.items():
        yield name, bytes((ITEMS.index(type(value)),)) + golden.data[4:]


def _command_sets() -> Iterator[tuple[str, bytes]]:
    for name, (golden, command) in COMMANDS.items():
        yield name, golden.data
        if not command.to_raw().is_response and name != "C-CANCEL-RQ":
            yield f"refusal of {name}", encode_command(command.to_raw().refusal(0x0211, comment="no"))
    elements = store_elements()
    for left_out in elements:
        lacking = {element: value for element, value in elements.items() if element != left_out}
        yield f"C-STORE-RQ without {left_out:04X}", command_set(lacking)
    yield "C-FIND-RQ", command_set(elements | {0x0100: number(0x0020)})
    yield "C-FIND-RSP", command_set(elements | {0x0100: number(0x8020)})


def _file_metas() -> Iterator[tuple[str, bytes]]:
    full = FileMeta(
        media_storage_sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        media_storage_sop_instance_uid="1.2.3.4",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        implementation_class_uid="1.2.826.0.1.99",
        implementation_version_name="DICOMPORT_01",
        source_ae_title="STORESCU",
        sending_ae_title="SENDING",
        receiving_ae_title="ARCHIVE",
        source_presentation_address="dicom:192.0.2.7",
    )
    whole = encode_file_meta(full)
    group_length = 12
    yield "whole file", whole + _DATA_SET
    yield "group", whole[132:] + _DATA_SET
    yield "group without its length", whole[132 + group_length :] + _DATA_SET
    yield "group with a length of zero", whole[132:140] + bytes(4) + whole[144:] + _DATA_SET
    yield "nothing but the version", encode_file_meta(FileMeta())[132:] + _DATA_SET
    yield "no group", _DATA_SET


def _files() -> Iterator[tuple[str, bytes]]:
    """Yield files whose file meta and data sets disagree, and a data set alone."""
    for path in sorted(DEVIATING.iterdir()):
        content = path.read_bytes()
        yield path.stem, content
        yield (
            f"{path.stem}, named Explicit VR Big Endian",
            content.replace(b"1.2.840.10008.1.2", b"1.2.840.10008.1.3", 1),
        )
    yield "data set alone", (DEVIATING / "odd_length.dcm").read_bytes()[256:]


def _commitments() -> Iterator[tuple[str, bytes]]:
    for name, (syntax, golden, value) in (WRITTEN | READ).items():
        yield name, bytes((COMMITMENTS.index((type(value), syntax)),)) + golden.data
    # A stored block (RFC 1951 3.2.4): the output of a compressor depends on its version.
    for value in (COMMITMENT_REQUEST, COMMITMENT_RESULT):
        data = value.encode(EXPLICIT)
        stored = b"\1" + struct.pack("<HH", len(data), len(data) ^ 0xFFFF) + data
        yield f"{type(value).__name__}, deflated", bytes((COMMITMENTS.index((type(value), DEFLATED)),)) + stored


def _data_sets() -> Iterator[tuple[str, bytes]]:
    for name, (uid, golden, _) in DATA_SETS.items():
        syntax = SYNTAXES.index(uid)
        yield name, bytes((syntax, 12, 128)) + golden.data
        yield f"{name} within tight limits", bytes((syntax, 1, 200)) + golden.data
        yield f"{name} in an unknown syntax", bytes((len(SYNTAXES) - 2, 6, 77)) + golden.data


def _programs() -> Iterator[tuple[str, bytes]]:
    for role, heard in CONVERSATION.items():
        yield f"{role.value} of a conversation", data_of(Program(role.value, (heard,), sizes=(40,)))
        yield f"silent {role.value}", data_of(Program(role.value, (heard,), responding=False, sizes=(7,)))
    for start in STARTS:
        yield start, data_of(Program(start, tuple(CANNED), sizes=(40,)))
    acceptor = f"established {Role.ACCEPTOR.value}"
    yield "local user", data_of(Program(acceptor, ("command", "data", "release", "confirm", "abort", "expired")))
    yield "closed early", data_of(Program(acceptor, (STORE_PDU[:30], "closed")))
    endless = {
        "command": p_data(pdv(1, COMMAND, bytes(150))),
        "empty command": p_data(pdv(1, COMMAND)),
        "empty data set": p_data(pdv(3, DATA)),
        "nothing": p_data(),
    }
    for name, again in endless.items():
        yield f"endless {name}", data_of(Program(acceptor, (STORE_PDU, *[again] * 9), sizes=(40,)))


def _conversions() -> Iterator[tuple[str, bytes]]:
    for name, (uid, golden, _) in DATA_SETS.items():
        if uid in _PLAIN:
            yield name, bytes((_PLAIN.index(uid),)) + golden.data
    for uid in _PLAIN:
        elements = [
            Element(0x00080000, "UL", b"\4\0\0\0"),
            Element(0x00080018, "UI", b"1.2.3.4\0"),
            Element(0x00090010, "LO", b"SOMEBODY"),
            Element(0x00091001, "UN" if uid != BIG else "LO", b"private "),
            Element(0x00280100, "US", b"\x10\0"),
            Element(0x00280103, "US", b"\1\0"),
            Element(0x00280106, "SS", b"\xff\xff"),
            Element(0x00409096, "SQ", Items(((Element(0x00409211, "SS", b"\1\0"),),), undefined=False)),
            Element(0x7FE00010, "OW", bytes(range(8))),
        ]
        yield f"numbers and sequences {_PLAIN.index(uid)}", bytes((_PLAIN.index(uid),)) + encode_data_set(uid, elements)


def _damages() -> Iterator[tuple[str, bytes]]:
    at = bytes.fromhex("000800 000800")
    for which, (name, damage) in enumerate(DAMAGES):
        yield f"{name} {damage.__name__}", bytes((which,)) + at
    yield "empty database", bytes(1)
    yield "garbage", bytes(1) + b"garbage " * 20
    yield "zeroed database", bytes((2,)) + bytes.fromhex("000000 0fffff")
    yield "number of pages", bytes((3,)) + bytes.fromhex("00001fff")
    yield "journal of nested lists", bytes((8,)) + b"[" * 1000


def _tars() -> Iterator[tuple[str, bytes]]:
    part10 = encode_file_meta(
        FileMeta(
            media_storage_sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            media_storage_sop_instance_uid="1.2.3.4",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
        )
    )
    members = {
        "one": {"1.dcm": part10 + _DATA_SET, "../2.dcm": part10 + _DATA_SET},
        "long name, posix": {f"{'long/' * 30}ä.dcm": part10 + _DATA_SET},
        "long name, gnu": {f"{'long/' * 30}ä.dcm": part10 + _DATA_SET},
    }
    for name, files in members.items():
        made = io.BytesIO()
        format_ = tarfile.GNU_FORMAT if "gnu" in name else tarfile.PAX_FORMAT
        with tarfile.open(fileobj=made, mode="w", format=format_) as archive:
            for member, data in files.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            link = tarfile.TarInfo("link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        # Without the empty blocks of its padding.
        tar = made.getvalue().rstrip(b"\0") + bytes(512)
        yield name, b"\0" + tar
        yield f"{name}, in gzip", b"\1" + bytes.fromhex("1f8b0800000000000003") + _stored(tar)


def _streams() -> Iterator[tuple[str, bytes]]:
    for name, message in {"two messages": b"", **UNCOMMON}.items():
        stream = b"".join((store(11, 2000), message, store(12, 2000)))
        if len(stream) < _MAX_SEED_BYTES:
            yield name, bytes((0, 3, 40, 130, 200)) + stream
    for kind, name in enumerate(BEHAVIOURS):
        yield (
            f"storage {name}",
            bytes((kind | 0x80 * (kind % 2), 0)) + b"".join(store(at, 1200) for at in (11, 12, 13)),
        )


def _stored(data: bytes) -> bytes:
    """Write the rest of a gzip file, in blocks that are not compressed (RFC 1951 3.2.4, RFC 1952 2.3)."""
    blocks = struct.pack("<BHH", 1, len(data), len(data) ^ 0xFFFF) + data
    return blocks + struct.pack("<LL", zlib.crc32(data), len(data))


_MADE: Final = {
    "pdu": _pdus,
    "item": _items,
    "command_set": _command_sets,
    "file_meta": _file_metas,
    "commitment": _commitments,
    "scanner": _data_sets,
    "character_set": lambda: ((f"example {number}", data) for number, data in enumerate(_CHARACTER_SETS)),
    "name": lambda: ((f"pair {number}", data) for number, data in enumerate(_NAMES)),
    "association": _programs,
    "index": _damages,
    "conversion": _conversions,
    "tar": _tars,
    "labels": _files,
    "ways": _streams,
}


def main() -> int:
    """Write the seeds, or check them."""
    wanted = {CORPUS / path: data for path, data in seeds()}
    found = {path: path.read_bytes() for path in CORPUS.rglob("*") if path.is_file()}
    if sys.argv[1:] == ["--check"]:
        for path in sorted(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path)):
            print(f"{path}: stale, run python -m fuzz.seeds")
        return int(wanted != found)
    for path in found.keys() - wanted.keys():
        path.unlink()
    for target in TARGETS:
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
    for path, data in wanted.items():
        path.write_bytes(data)
    print(f"{len(wanted)} seeds")
    return 0


if __name__ == "__main__":
    sys.exit(main())

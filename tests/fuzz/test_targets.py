"""The fuzzer's targets without a fuzzer: over their seeds, over mutants of them, and with defects made on purpose."""

import random
from collections.abc import Iterator
from typing import Final

import pytest
from fuzz.association import CANNED, LOCAL, STARTS, Program, data_of, program_of
from fuzz.seeds import CORPUS, seeds
from fuzz.targets import TARGETS

from dicomport.archive.database.generations import Generations
from dicomport.core import Action, Association, Event, State, states
from dicomport.core.framing import Framer
from dicomport.core.messages import MessageAssembler
from dicomport.encoding import charsets
from dicomport.encoding.streaming import StreamWalker
from dicomport.files import names
from dicomport.scu.inputs import tar
from dicomport.scu.transform import transcoding
from dicomport.wire import AssociateRJ, RawCommand, ReleaseRP, ReleaseRQ, UserIdentityRQ, filemeta

SEEDS: Final = {target: sorted((CORPUS / target).iterdir()) for target in TARGETS}
MUTANTS: Final = {"index": 60}
DEFAULT_MUTANTS: Final = 800
MAX_LENGTH: Final = 1500

every_target = pytest.mark.parametrize("name", TARGETS)


def test_the_seeds_are_those_that_are_made() -> None:
    assert {path: path.read_bytes() for paths in SEEDS.values() for path in paths} == {
        CORPUS / path: data for path, data in seeds()
    }


@every_target
def test_every_seed_holds(name: str) -> None:
    assert len(SEEDS[name]) > 5
    for path in SEEDS[name]:
        TARGETS[name](path.read_bytes())


def mutated(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Change some bytes, as a fuzzer does: single ones, runs, lengths, and parts of another seed."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        at, size = rng.randrange(len(changed) + 1), rng.choice((1, 1, 2, 4, 8, 30))
        start = rng.randrange(len(other) + 1)
        match rng.randrange(6):
            case 0:
                changed[at : at + size] = rng.randbytes(size)
            case 1:
                changed[at : at + size] = rng.choice((b"\0", b"\xff", b"\x7f")) * size
            case 2:
                changed[at:at] = changed[at : at + size * 4]
            case 3:
                del changed[at : at + size]
            case 4:
                changed[at : at + size] = other[start : start + size]
            case _:
                changed[at:] = other[start:]
    return bytes(changed[:MAX_LENGTH])


def mutants(name: str) -> Iterator[bytes]:
    """Yield mutants of a target's seeds; each may be derived from its predecessor."""
    rng = random.Random(name)
    pool = [path.read_bytes() for path in SEEDS[name]]
    for _ in range(MUTANTS.get(name, DEFAULT_MUTANTS)):
        mutant = mutated(rng, rng.choice(pool), rng.choice(pool))
        pool[rng.randrange(len(pool))] = mutant
        yield mutant


@every_target
def test_mutants_of_the_seeds_hold(name: str) -> None:
    for mutant in mutants(name):
        TARGETS[name](mutant)


def test_a_program_is_what_its_bytes_say() -> None:
    for start in STARTS:
        program = Program(start, (*LOCAL, bytes(range(200))), responding=start > "b", sizes=(9,))
        assert program_of(data_of(program)) == program


def test_a_long_turn_of_a_program_comes_in_parts() -> None:
    data = random.Random(1).randbytes(600)
    turns = program_of(data_of(Program("acceptor", (data,)))).turns
    assert b"".join(turn for turn in turns if isinstance(turn, bytes)) == data


def exhaust(name: str) -> None:
    for data in (*(path.read_bytes() for path in SEEDS[name]), *mutants(name)):
        TARGETS[name](data)


def unforeseen(*_arguments: object) -> None:
    raise IndexError


def loses_single_bytes(walk: StreamWalker, view: memoryview | bytes) -> None:
    if len(view) > 1:
        FEED(walk, view)


FEED: Final = StreamWalker.feed

DEFECTS: Final[dict[str, tuple[str, object, str, object]]] = {
    "a PDU written as another": ("pdu", ReleaseRP, "encode", lambda _: ReleaseRQ().encode()),
    "an exception of no room from a PDU": ("pdu", AssociateRJ, "decode", unforeseen),
    "an item that lacks something": ("item", UserIdentityRQ, "encode", lambda _: bytes((0x58, 0, 0, 0))),
    "a refusal that cannot be made": ("command_set", RawCommand, "refusal", unforeseen),
    "a text that is not written": ("file_meta", filemeta, "_encode_text", lambda *_: b""),
    "a piece that is lost": ("scanner", StreamWalker, "feed", loses_single_bytes),
    "text with its padding": ("character_set", charsets, "_PADDING", ""),
    "a conversion that fails": ("conversion", transcoding._Transcoder, "_swap", unforeseen),
    "a way out of an archive": ("tar", tar, "member_name", "{}/{}".format),
    "a name too long": ("name", names, "_MAX_BYTES", 200),
    "one name for two texts": ("name", names, "_escaped", lambda _: "_00"),
    "an earlier generation that stays": ("index", Generations, "remove_earlier", lambda _: None),
    "an exception of no room from a core": ("association", Association, "artim_expired", unforeseen),
    "a release whatever the state": (
        *("association", Association, "release"),
        lambda core: core._machine.outbox.append(ReleaseRQ().encode()),
    ),
    "a limit that is none": (
        *("association", MessageAssembler, "add"),
        lambda assembler, fragment: assembler._command.extend(fragment.data),
    ),
    "a PDU after the end": ("association", Framer, "_count_idle", lambda framer: framer._partial.extend(b"0" * 3000)),
}


@pytest.mark.parametrize(("name", "owner", "attribute", "defect"), DEFECTS.values(), ids=DEFECTS)
def test_a_defect_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, owner: object, attribute: str, defect: object
) -> None:
    monkeypatch.setattr(owner, attribute, defect)
    # Any exception of a target is a finding.
    with pytest.raises(Exception):  # noqa: B017, PT011
        exhaust(name)


def test_a_state_that_nothing_leads_to_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(states.TRANSITIONS, (State.STA13, Event.EVT10), (Action.DT_2, State.STA6))
    with pytest.raises(AssertionError):
        TARGETS["association"](data_of(Program("Sta13, rejected", CANNED[8:])))

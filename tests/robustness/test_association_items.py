"""Rows A1 to A13: invalid association requests and acceptances (PS3.8 9.3, PS3.7 D.3.3)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import select
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from tests.core.messages import APPLICATION_CONTEXT, CT, EXPLICIT, IMPLICIT, VERIFICATION, item, pdu
from tests.robustness.attacks import Attack, data_set, sent
from tests.scu.data import MR, part10

import dicomport
from dicomport.scu import Instance
from dicomport.testing import Peer, ScriptedSCP, ScriptedSCU, acceptance
from dicomport.wire import (
    Abort,
    AbortReason,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    AsynchronousOperationsWindow,
    ContextResult,
    CStoreRQ,
    PresentationContextAC,
    RejectReason,
    decode,
    encode,
)

TITLE: Final = b"ANY-SCP".ljust(16)
APPLICATION: Final = item(0x10, APPLICATION_CONTEXT)
LENGTH: Final = item(0x51, struct.pack(">L", 16384))
USER: Final = item(0x50, LENGTH + item(0x52, "1.2.3.5"))

ACCEPTED, WRONG_ABSTRACT, WRONG_TRANSFER = 0, 3, 4


@pytest.fixture(scope="module")
def options() -> tuple[str, ...]:
    """Use AE titles as names of folders (A5)."""
    return ("--layout", "{calling}/{study}/{series}/{instance}")


def context(number: int, abstract: str | bytes | None, *syntaxes: str | bytes) -> bytes:
    body = bytes((number, 0, 0xFF, 0))
    body += b"" if abstract is None else item(0x30, abstract)
    return item(0x20, body + b"".join(item(0x40, syntax) for syntax in syntaxes))


ECHO: Final = context(1, VERIFICATION, IMPLICIT)
STORE: Final = context(3, CT, EXPLICIT)


def request(
    *items: bytes,
    called: bytes = TITLE,
    calling: bytes = TITLE,
    version: int = 1,
    reserved: bytes = bytes(34),
    application: bytes = APPLICATION,
    user: bytes = USER,
) -> bytes:
    """Build an A-ASSOCIATE-RQ, by default with the items between the required ones (PS3.8 9.3.2)."""
    head = struct.pack(">H2s16s16s32s", version, reserved[:2], called, calling, reserved[2:])
    return pdu(1, head + application + b"".join(items or (ECHO, STORE)) + user)


@contextlib.contextmanager
def accepted(attack: Attack, raw: bytes) -> Iterator[tuple[ScriptedSCU, AssociateAC]]:
    """Send a request as it is, see it accepted, and have an echo answered and an instance stored over it."""
    with attack.connect() as peer:
        request = decode(raw)
        assert isinstance(request, AssociateRQ)
        peer.request = request
        peer.send(raw)
        reply = peer.expect(AssociateAC)
        yield peer, reply
        uid = attack.uid()
        assert peer.echo().status == 0
        assert peer.store(uid, data_set(uid)).status == 0
        attack.keep(data_set(uid))
        peer.release()


def is_rejected(attack: Attack, raw: bytes, reason: RejectReason) -> ScriptedSCU:
    with attack.connect() as peer:
        peer.send(raw)
        assert peer.expect(AssociateRJ) == AssociateRJ(reason)
    return peer


def is_aborted(attack: Attack, raw: bytes) -> str:
    """Send an invalid request (PS3.8 Table 9-10, AA-1), and return the log's reason."""
    with attack.connect() as peer:
        peer.send(raw)
        assert peer.expect(Abort).reason is AbortReason.SERVICE_USER
    how: str = attack.end_of(peer)["how"]
    return how


def test_a1_thousands_of_items_that_claim_64_kib_each_cost_nothing(attack: Attack) -> None:
    claims = item(0x20, bytes((1, 0, 0, 0)) + item(0x30, CT) + bytes.fromhex("40 00 ffff") * 16000)
    assert "needs 65535 bytes" in is_aborted(attack, request(claims))


def test_a2_an_item_that_runs_past_its_end_costs_no_time(attack: Attack) -> None:
    began = attack.target.cpu_seconds()
    for left in range(4):
        overrun = item(0x20, bytes((1, 0, 0, 0)) + item(0x30, CT) + bytes.fromhex("40 00 0004") + bytes(left))
        assert "needs 4 bytes" in is_aborted(attack, request(overrun))
    assert attack.target.cpu_seconds() - began < 2


ITEMS: Final = (
    item(0x51, struct.pack(">L", 16384)),
    item(0x52, "1.2.3.5"),
    item(0x53, bytes((0, 2, 0, 1))),
    item(0x54, struct.pack(">H", len(CT)) + CT.encode() + bytes((1, 0))),
    item(0x55, "PEER_1"),
    item(0x56, struct.pack(">H", len(CT)) + CT.encode() + bytes(6)),
    item(0x57, struct.pack(">H", len(CT)) + CT.encode() + struct.pack(">H", 3) + b"1.2" + bytes(2)),
    item(0x58, bytes((1, 0)) + struct.pack(">H", 4) + b"user" + bytes(2)),
    item(0x59, bytes(2)),
)


def with_wrong_lengths(raw: bytes, nested: int) -> Iterator[bytes]:
    """Yield a PDU with the length of each item wrong in turn; `nested` bytes precede the items of a context."""
    starts, at = [], 74
    while at < len(raw):
        kind, size = struct.unpack_from(">BxH", raw, at)
        starts.append(at)
        at += 4 if kind == 0x50 else 4 + nested if kind in (0x20, 0x21) else 4 + size
    for start in starts:
        [size] = struct.unpack_from(">H", raw, start + 2)
        for wrong in (size + 1, size - 1, 0, 0xFFFF):
            yield raw[: start + 2] + struct.pack(">H", wrong) + raw[start + 4 :]


def test_a3_wrong_lengths_of_items_are_answered_one_way_or_another(attack: Attack) -> None:
    raw = request(ECHO, STORE, user=item(0x50, b"".join(ITEMS)))
    answers = []
    for wrong in with_wrong_lengths(raw, 4):
        with attack.connect() as peer:
            peer.send(wrong)
            answers.append(type(peer.receive()))
    # The application context, two contexts of two syntaxes each, and the user information.
    assert len(answers) == 4 * (1 + 2 * 3 + 1 + len(ITEMS))
    assert set(answers) == {AssociateAC, Abort}


def test_a3_so_they_are_in_an_acceptance() -> None:
    contexts = b"".join(item(0x21, bytes((number, 0, 0, 0)) + item(0x40, IMPLICIT)) for number in (1, 3))
    user = item(0x50, b"".join(part for part in ITEMS if part[0] not in (0x57, 0x58)))
    raw = pdu(2, request()[6:74] + APPLICATION + contexts + user)
    for wrong in with_wrong_lengths(raw, 4):

        def script(peer: Peer, answer: bytes = wrong) -> None:
            peer.expect(AssociateRQ)
            peer.send(answer)
            peer.receive()

        with (
            ScriptedSCP(script) as scp,
            contextlib.suppress(dicomport.AssociationError),
            dicomport.blocking.associate("127.0.0.1", scp.port, contexts=[VERIFICATION]),
        ):
            pass


def results(reply: AssociateAC) -> list[tuple[int, int]]:
    return [(answer.context_id, answer.result) for answer in reply.presentation_contexts]


@pytest.mark.parametrize(
    ("contexts", "expected"),
    [
        ([context(2 * n + 1, CT if n else VERIFICATION, EXPLICIT) for n in range(128)], None),
        (
            [
                context(2 * n + 1, CT if n else VERIFICATION, *[EXPLICIT] * 20, *[f"1.2.{k}" for k in range(20)])
                for n in range(128)
            ],
            None,
        ),
        ([context(5, CT, EXPLICIT), context(3, CT, IMPLICIT), context(1, VERIFICATION, EXPLICIT)], None),
        ([context(2, VERIFICATION, EXPLICIT), context(0, CT, EXPLICIT)], None),
        ([ECHO, STORE, context(3, MR, IMPLICIT)], [(1, ACCEPTED), (3, ACCEPTED)]),
        ([ECHO, STORE, context(5, CT)], [(1, ACCEPTED), (3, ACCEPTED), (5, WRONG_TRANSFER)]),
        ([ECHO, STORE, context(5, None, EXPLICIT)], [(1, ACCEPTED), (3, ACCEPTED), (5, WRONG_ABSTRACT)]),
        ([ECHO, STORE, context(5, "", "")], [(1, ACCEPTED), (3, ACCEPTED), (5, WRONG_ABSTRACT)]),
    ],
    ids=["128", "many syntaxes", "unordered", "even", "repeated", "no transfer", "no abstract", "empty"],
)
def test_a4_contexts_are_answered_each_once(
    attack: Attack, contexts: Sequence[bytes], expected: list[tuple[int, int]] | None
) -> None:
    with accepted(attack, request(*contexts)) as (_, reply):
        assert results(reply) == (expected or [(proposed[4], ACCEPTED) for proposed in contexts])


@pytest.mark.parametrize("number", [129, 500])
def test_a4_more_contexts_than_there_are_ids_end_it(attack: Attack, number: int) -> None:
    contexts = [context((2 * n + 1) % 256, CT, EXPLICIT) for n in range(number)]
    assert "129 presentation contexts, the maximum is 128" in is_aborted(attack, request(*contexts))


def test_a4_a_request_without_contexts_is_rejected(attack: Attack) -> None:
    peer = is_rejected(attack, request(b"\x99\0\0\0"), RejectReason.USER_NO_REASON)
    assert attack.line(peer, "association_rejected")["reason"] == "no presentation context was proposed"


@pytest.mark.parametrize(
    ("raw", "title"),
    [
        (b" " * 16, ""),
        (bytes(16), ""),
        (b"ABC".ljust(16, b"\0"), "ABC"),
        (b"ABC\0junk".ljust(16), "ABC"),
        (b"    leading".ljust(16), "leading"),
        (b"mixed Case".ljust(16), "mixed Case"),
        (b"\xe2\x80\x93".ljust(16), "\xe2\x80\x93"),
        (rb"back\slash".ljust(16), r"back\slash"),
        (b"../../../x".ljust(16), "../../../x"),
        (b"%s%n{calling}".ljust(16), "%s%n{calling}"),
        (b"two\r\nlines \x1b[2J".ljust(16), "two\r\nlines \x1b[2J"),
        (b"..".ljust(16), ".."),
    ],
)
def test_a5_ae_titles_are_data_wherever_they_go(attack: Attack, raw: bytes, title: str) -> None:
    """Every line of the log is ASCII and whole, as `attack` sees; the title's folder is inside the archive."""
    with accepted(attack, request(called=raw, calling=raw)) as (peer, reply):
        assert encode(reply)[10:42] == 2 * title.encode("latin-1").ljust(16)
    assert (attack.end_of(peer)["calling"], attack.end_of(peer)["called"]) == (title, title)
    archive = attack.target.archive
    assert list(archive.parent.iterdir()) == [archive]
    assert len([*archive.glob("*/*/*/*.dcm")]) == len([*archive.rglob("*.dcm")])


@pytest.mark.parametrize(
    "name",
    [b"1.2.840.10008.3.1.1.2", b"", b"%n%n%s", b"\xff\xfe", b"1." * 32767],
    ids=["another", "empty", "format", "bytes", "64 KiB"],
)
def test_a6_another_application_context_is_rejected(attack: Attack, name: bytes) -> None:
    raw = request(application=item(0x10, name))
    peer = is_rejected(attack, raw, RejectReason.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED)
    assert len(attack.line(peer, "association_rejected")["reason"]) < 500


def test_a6_a_missing_application_context_is_rejected(attack: Attack) -> None:
    is_rejected(attack, request(application=b""), RejectReason.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED)


@pytest.mark.parametrize(
    "uid",
    ["1..2", "letters", "1.2." + "3" * 65, "9" * 60000, ".", "1.2/../3", "%s", "\xff", "1.2.840.10008.5.1.4.1.1.2\r\n"],
)
def test_a7_uids_that_are_none_are_answered(attack: Attack, uid: str) -> None:
    """An unknown SOP Class may be a storage class, and any transfer syntax is accepted."""
    odd = [context(5, uid, EXPLICIT), context(7, CT, uid)]
    with accepted(attack, request(ECHO, STORE, *odd)) as (_, reply):
        assert results(reply) == [(1, ACCEPTED), (3, ACCEPTED), (5, ACCEPTED), (7, ACCEPTED)]
        assert reply.presentation_contexts[3].transfer_syntax == uid


def test_a7_padding_of_uids_is_put_up_with(attack: Attack) -> None:
    contexts = (
        context(1, VERIFICATION.encode() + b"\0", IMPLICIT.encode() + b" "),
        context(3, CT.encode() + b" ", EXPLICIT.encode() + b"\0"),
    )
    raw = request(*contexts, application=item(0x10, APPLICATION_CONTEXT.encode() + b"\0"))
    with accepted(attack, raw) as (peer, reply):
        assert [answer.transfer_syntax for answer in reply.presentation_contexts] == [IMPLICIT, EXPLICIT]
    assert attack.end_of(peer)["deviations"]["uid-padding"] == 5


def with_reserved_junk(reply: AssociateAC) -> bytes:
    raw = encode(reply)
    return raw[:10] + bytes(range(0xE0, 0x100)) + raw[42:]


def with_one(reply: AssociateAC, *, without: bool = False, **changes: object) -> bytes:
    """Change the answer to the last context, or leave it out."""
    *others, last = reply.presentation_contexts
    changed = () if without else (dataclasses.replace(last, **changes),)  # type: ignore[arg-type]
    return encode(dataclasses.replace(reply, presentation_contexts=(*others, *changed)))


def with_junk_in_rejection(reply: AssociateAC) -> bytes:
    raw = with_one(reply, result=ContextResult.NO_REASON)
    # The transfer syntax claims to be longer than its context.
    at = raw.rindex(item(0x40, reply.presentation_contexts[-1].transfer_syntax))
    return raw[: at + 2] + b"\xff" + raw[at + 3 :]


def with_unknown_contexts(reply: AssociateAC) -> bytes:
    more = tuple(PresentationContextAC(number, ContextResult.ACCEPTED, IMPLICIT) for number in (0, 77, 255))
    return encode(dataclasses.replace(reply, presentation_contexts=(*more, *reply.presentation_contexts)))


NOT_TAKEN: Final = "the peer does not accept MR Image Storage in Implicit VR Little Endian: "


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (with_reserved_junk, None),
        (with_unknown_contexts, None),
        (lambda reply: with_one(reply, result=ContextResult.NO_REASON, transfer_syntax=""), "without a reason"),
        (with_junk_in_rejection, "without a reason"),
        (lambda reply: with_one(reply, without=True), "answer is missing"),
        (lambda reply: with_one(reply, context_id=77), "answer is missing"),
        (lambda reply: with_one(reply, transfer_syntax="1.2.3"), "chose '1.2.3', which was not proposed"),
    ],
)
def test_a8_the_results_of_an_acceptance_are_read(
    tmp_path: Path, spoil: Callable[[AssociateAC], bytes], why: str | None
) -> None:
    def script(peer: Peer) -> None:
        peer.send(spoil(acceptance(peer.expect(AssociateRQ))))
        peer.serve()

    what = [part10(tmp_path / "1.dcm"), part10(tmp_path / "2.dcm", sop_class=MR, sop_instance="1.2.3.5")]
    with ScriptedSCP(script) as scp:
        first, second = dicomport.blocking.send(what, "127.0.0.1", scp.port, associations=1).results
    assert first.accepted
    assert second.accepted is (why is None)
    assert (why or "") in second.reason


def test_a8_the_command_reports_rejected_contexts(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.send(with_reserved_junk(acceptance(peer.expect(AssociateRQ), refuse=[MR])))
        peer.serve()

    what = [part10(tmp_path / "1.dcm"), part10(tmp_path / "2.dcm", sop_class=MR, sop_instance="1.2.3.5")]
    with ScriptedSCP(script) as scp:
        done = sent(scp.port, *what)
    assert done.code == 1
    assert sorted(done.reasons) == ["", f"{NOT_TAKEN}the peer does not support the SOP Class"]


@pytest.mark.parametrize(
    "user",
    [
        LENGTH,
        b"",
        LENGTH + item(0x52, "") + item(0x55, ""),
        LENGTH + item(0x52, "no UID") + item(0x55, "x" * 17),
        LENGTH + item(0x55, "x" * 60000),
        LENGTH + item(0x52, b"\xff" * 64) + item(0x55, "\r\n\x1b[2J\xff"),
    ],
)
def test_a9_any_implementation_name_is_accepted(attack: Attack, user: bytes) -> None:
    with accepted(attack, request(user=item(0x50, user))):
        pass


def test_a9_user_information_may_be_missing(attack: Attack) -> None:
    with accepted(attack, request(user=b"")):
        pass


def window(invoked: int, performed: int) -> bytes:
    return item(0x53, struct.pack(">HH", invoked, performed))


@pytest.mark.parametrize(
    ("items", "granted"),
    [
        (window(0, 0), (16, 1)),
        (window(1, 1), (1, 1)),
        (window(5, 0), (5, 1)),
        (window(65535, 65535), (16, 1)),
        (window(2, 1) + window(9, 9), (2, 1)),
        (b"", None),
    ],
)
def test_a10_a_window_is_granted_up_to_our_own(attack: Attack, items: bytes, granted: tuple[int, int] | None) -> None:
    with accepted(attack, request(user=item(0x50, LENGTH + items))) as (_, reply):
        expected = None if granted is None else AsynchronousOperationsWindow(*granted)
        assert reply.user_information.operations_window == expected


def test_a10_an_item_of_a_wrong_length_ends_it(attack: Attack) -> None:
    is_aborted(attack, request(user=item(0x50, LENGTH + item(0x53, bytes(3)))))


@pytest.mark.parametrize(("granted", "outstanding"), [(None, 1), (0, 3), (2, 2), (65535, 3)])
def test_a10_a_sender_keeps_to_the_granted_and_the_proposed_window(granted: int | None, outstanding: int) -> None:
    """0 is unlimited; then the sender's own limit counts."""

    def script(peer: Peer) -> None:
        peer.accept(window=granted)
        first = [peer.expect(CStoreRQ) for _ in range(outstanding)]
        assert not select.select([peer.socket], [], [], 0.2)[0]
        for request in first:
            peer.answer(request)
        peer.serve()

    what = [Instance(CT, f"1.2.3.{number}", EXPLICIT, data_set(f"1.2.3.{number}")) for number in range(8)]
    with ScriptedSCP(script) as scp:
        report = dicomport.blocking.send(what, "127.0.0.1", scp.port, associations=1, window=3)
    assert len(report.accepted) == 8


def test_a11_a_peer_that_closes_on_the_window_item_is_asked_again_without(tmp_path: Path) -> None:
    """And not with it again by the same run: the second association is lost too, for another reason."""
    asked = []

    def script(peer: Peer) -> None:
        request = peer.accept()
        asked.append(request.user_information.operations_window is not None)
        if peer.number == 1:
            peer.expect(CStoreRQ)
            return
        if peer.number == 2:
            peer.answer(peer.expect(CStoreRQ))
            peer.expect(CStoreRQ)
            peer.reset()
            return
        peer.serve()

    what = [part10(tmp_path / f"{number}.dcm", sop_instance=f"1.2.3.{number}") for number in range(3)]
    with ScriptedSCP(script) as scp:
        done = sent(scp.port, *what, "-j", "1", "--retry-delay", "0.01")
    assert (done.code, done.statuses) == (0, [0, 0, 0])
    assert asked == [True, False, False]


def role(uid: str, scu: int, scp: int) -> bytes:
    return item(0x54, struct.pack(">H", len(uid)) + uid.encode() + bytes((scu, scp)))


@pytest.mark.parametrize(("scu", "scp"), [(1, 1), (0, 1), (1, 0), (0, 0), (255, 255)])
def test_a12_the_receiver_is_the_scp_of_storage_for_any_proposed_role(attack: Attack, scu: int, scp: int) -> None:
    items = role(CT, scu, scp) + role("1.2.3", 1, 1) + role(CT, 1, 1)
    with accepted(attack, request(user=item(0x50, LENGTH + items))) as (_, reply):
        [answer] = reply.user_information.roles
        assert (answer.sop_class_uid, answer.scu, answer.scp) == (CT, bool(scu), False)


def extended(kind: int, uid: str, rest: bytes) -> bytes:
    return item(kind, struct.pack(">H", len(uid)) + uid.encode() + rest)


@pytest.mark.parametrize("information", [b"", bytes(6), b"\xff" * 60000])
def test_a12_extended_negotiation_is_answered_with_our_level(attack: Attack, information: bytes) -> None:
    """Level 2, all of it (PS3.4 B.3.1.1)."""
    kind = struct.pack(">H", 17) + b"1.2.840.10008.4.2" + struct.pack(">H", 0)
    items = extended(0x56, CT, information), extended(0x57, CT, kind)
    with accepted(attack, request(user=item(0x50, LENGTH + b"".join(items)))) as (_, reply):
        [answer] = reply.user_information.extended
        assert (answer.sop_class_uid, answer.information) == (CT, bytes((2, 0, 3, 0, 0, 0)))


SECRET: Final = b"hunter2-"


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 5, 6, 255])
@pytest.mark.parametrize("size", [0, 8, 65528], ids=["empty", "short", "64 KiB"])
def test_a12_unchecked_user_identities_are_ignored_and_never_logged(attack: Attack, kind: int, size: int) -> None:
    """Without an answer, also where one was asked for (PS3.7 D.3.3.7)."""
    secret = (SECRET * (size // len(SECRET) + 1))[: min(size, 65512)]
    identity = item(0x58, bytes((kind, 1)) + struct.pack(">H", len(secret)) + secret + struct.pack(">H", 0))
    with accepted(attack, request(user=item(0x50, LENGTH + identity))) as (peer, reply):
        assert reply.user_information.user_identity_response is None
    attack.end_of(peer)
    assert SECRET.decode() not in json.dumps(attack.lines(peer))


def test_a12_a_field_of_an_identity_that_is_longer_than_its_item_ends_it(attack: Attack) -> None:
    identity = item(0x58, bytes((2, 1)) + struct.pack(">H", 65535) + SECRET)
    assert SECRET.decode() not in is_aborted(attack, request(user=item(0x50, LENGTH + identity)))


@pytest.mark.parametrize("version", [1, 3, 0xFFFF])
def test_a13_of_the_protocol_version_bit_0_counts(attack: Attack, version: int) -> None:
    with accepted(attack, request(version=version)):
        pass


@pytest.mark.parametrize("version", [0, 2, 0xFFFE])
def test_a13_without_it_the_request_is_rejected(attack: Attack, version: int) -> None:
    is_rejected(attack, request(version=version), RejectReason.PROTOCOL_VERSION_NOT_SUPPORTED)


def test_a13_reserved_bytes_mean_nothing(attack: Attack) -> None:
    raw = bytearray(request(reserved=b"\xff" * 34))
    raw[1] = 0xFF
    for start in (74, 74 + len(APPLICATION), 74 + len(APPLICATION + ECHO)):
        raw[start + 1] = 0xFF
    with accepted(attack, bytes(raw)):
        pass


@pytest.mark.parametrize(
    "more", [item(0x99, "what is this"), USER, APPLICATION], ids=["unknown", "user", "application"]
)
def test_a13_unknown_items_are_ignored(attack: Attack, more: bytes) -> None:
    with accepted(attack, request(user=USER + more)):
        pass


@pytest.mark.parametrize("more", [b"\0", bytes(3), b"\x99\0\0\1"])
def test_a13_bytes_that_form_no_item_end_the_association(attack: Attack, more: bytes) -> None:
    is_aborted(attack, request(user=USER + more))

"""User identities: acceptance, responses, and no leak of secrets (PS3.7 D.3.3.7)."""

import asyncio
import base64
import hashlib
import logging
import re
import threading
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.scp.messages import DATA_SET, request
from tests.scp.storages import Recorder

from dicomport import AssociationInfo, PeerRule, StorageSCP, Timeouts
from dicomport.scp import Passwords, UserIdentityCheck, hash_password
from dicomport.testing import Message, ScriptedSCU
from dicomport.wire import AssociateAC, UserIdentityAC, UserIdentityRQ, UserInformation, encode

REJECTED: Final = bytes.fromhex("03 00 00000004 00 01 02 01")
"""Permanently, by the provider's ACSE function, without a reason (PS3.7 D.3.3.7.3)."""

NOT_IN_TIME: Final = bytes.fromhex("03 00 00000004 00 02 03 01")
"""For now, because of temporary congestion (PS3.8 9.3.4)."""

WRONG_CALLING: Final = bytes.fromhex("03 00 00000004 00 01 01 03")


def identity(
    name: bytes = b"jane", secret: bytes = b"hunter2", *, kind: int = 2, positive_response: bool = False
) -> UserIdentityRQ:
    return UserIdentityRQ(kind, positive_response, name, secret)


def asked(scp: StorageSCP, given: UserIdentityRQ | None, calling: str = "MODALITY") -> UserInformation | bytes:
    """Request an association: return the user information of the acceptance, or the rejection's bytes."""
    items = UserInformation(maximum_length=16384, implementation_class_uid="1.2.3.5", user_identity=given)
    with ScriptedSCU("127.0.0.1", scp.port) as peer:
        peer.send(request(calling=calling, items=items))
        reply = peer.receive()
        assert reply is not None
        if not isinstance(reply, AssociateAC):
            assert not isinstance(reply, Message)
            return encode(reply)
        assert peer.store("1.2.3.4", DATA_SET).status == 0x0000
        peer.release()
        return reply.user_information


def response(scp: StorageSCP, given: UserIdentityRQ | None) -> UserIdentityAC | None:
    said = asked(scp, given)
    assert isinstance(said, UserInformation)
    return said.user_identity_response


# A check of the user's.

JANE: Final = identity()


def knows_jane(given: UserIdentityRQ, _association: AssociationInfo) -> UserIdentityAC | None:
    return UserIdentityAC(b"ticket") if given.primary_field == b"jane" else None


async def knows_jane_too(given: UserIdentityRQ, association: AssociationInfo) -> UserIdentityAC | None:
    return knows_jane(given, association)


def gives_an_awaitable(given: UserIdentityRQ, association: AssociationInfo) -> Awaitable[UserIdentityAC | None]:
    return knows_jane_too(given, association)


@pytest.mark.parametrize("check", [knows_jane, knows_jane_too, gives_an_awaitable])
def test_a_check_decides_and_its_response_is_sent_where_it_is_asked_for(check: UserIdentityCheck) -> None:
    with StorageSCP(Recorder(), port=0, user_identity=check).in_thread() as scp:
        assert response(scp, identity(positive_response=True)) == UserIdentityAC(b"ticket")
        assert response(scp, identity(positive_response=False)) is None
        assert asked(scp, identity(b"joe")) == REJECTED


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 5, 6, 255])
def test_every_type_is_for_the_check(kind: int) -> None:
    seen: list[tuple[UserIdentityRQ, AssociationInfo]] = []

    def check(given: UserIdentityRQ, association: AssociationInfo) -> UserIdentityAC:
        seen.append((given, association))
        return UserIdentityAC(given.secondary_field[:8])

    with StorageSCP(Recorder(), port=0, user_identity=check).in_thread() as scp:
        given = identity(bytes(30000), b"\xff\0" * 15000, kind=kind, positive_response=True)
        assert response(scp, given) == UserIdentityAC(b"\xff\0" * 4)
    [(passed, association)] = seen
    assert passed == given
    assert (association.calling_ae_title, association.called_ae_title) == ("MODALITY", "DICOMPORT")
    assert association.host == "127.0.0.1"
    assert association.implementation.class_uid == "1.2.3.5"


def test_a_blocking_check_does_not_delay_other_peers() -> None:
    blocked, go = threading.Event(), threading.Event()

    def check(given: UserIdentityRQ, _association: AssociationInfo) -> UserIdentityAC:
        if given.primary_field == b"slow":
            blocked.set()
            assert go.wait(60)
        return UserIdentityAC()

    with StorageSCP(Recorder(), port=0, user_identity=check).in_thread() as scp:
        items = UserInformation(maximum_length=16384, user_identity=identity(b"slow"))
        with ScriptedSCU("127.0.0.1", scp.port) as peer:
            peer.send(encode(request(items=items)))
            assert blocked.wait(60)
            assert isinstance(asked(scp, JANE), UserInformation)
            go.set()
            assert isinstance(peer.receive(), AssociateAC)


def test_a_peer_that_disconnects_during_the_check_leaves_nothing() -> None:
    blocked, go = threading.Event(), threading.Event()

    def check(given: UserIdentityRQ, _association: AssociationInfo) -> UserIdentityAC:
        if given.primary_field == b"slow":
            blocked.set()
            assert go.wait(60)
        return UserIdentityAC()

    with StorageSCP(Recorder(), port=0, user_identity=check).in_thread() as scp:
        items = UserInformation(maximum_length=16384, user_identity=identity(b"slow"))
        peer = ScriptedSCU("127.0.0.1", scp.port)
        peer.send(encode(request(items=items)))
        assert blocked.wait(60)
        peer.reset()
        go.set()
        assert isinstance(asked(scp, JANE), UserInformation)


def raises(_given: UserIdentityRQ, _association: AssociationInfo) -> UserIdentityAC:
    raise KeyError("jane hunter2")


async def raises_too(_given: UserIdentityRQ, _association: AssociationInfo) -> UserIdentityAC:
    raise KeyError("jane hunter2")


def says_true(_given: UserIdentityRQ, _association: AssociationInfo) -> UserIdentityAC:
    return True  # type: ignore[return-value]  # what a careless check may do


@pytest.mark.parametrize("check", [raises, raises_too, says_true])
def test_an_identity_whose_check_raises_is_rejected(check: UserIdentityCheck, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(0, "dicomport"), StorageSCP(Recorder(), port=0, user_identity=check).in_thread() as scp:
        assert asked(scp, JANE) == REJECTED
        assert asked(scp, JANE) == REJECTED
    assert "hunter2" not in caplog.text
    assert "jane" not in caplog.text
    if check is not says_true:
        assert re.search(r"identity_check_raised address=127.0.0.1 port=\d+ error=KeyError", caplog.text)


def test_a_check_that_never_ends_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    async def check(_given: UserIdentityRQ, _association: AssociationInfo) -> UserIdentityAC:
        await asyncio.Event().wait()
        return UserIdentityAC()

    timeouts = Timeouts(acse=0.2)
    with (
        caplog.at_level(logging.INFO, "dicomport"),
        StorageSCP(Recorder(), port=0, user_identity=check, timeouts=timeouts).in_thread() as scp,
    ):
        assert asked(scp, JANE) == NOT_IN_TIME
    assert "the user identity was not checked within 0.2 s" in caplog.text


def test_a_request_without_identity_is_rejected_unless_its_rule_allows_it() -> None:
    peers = [PeerRule(rule="ct", ae_title="CT1", user_identity_required=False), PeerRule(rule="all")]
    with StorageSCP(Recorder(), port=0, allow=peers, user_identity=knows_jane).in_thread() as scp:
        assert asked(scp, None) == REJECTED
        assert isinstance(asked(scp, None, calling="CT1"), UserInformation)
        assert isinstance(asked(scp, JANE, calling="CT1"), UserInformation)
        assert asked(scp, identity(b"joe"), calling="CT1") == REJECTED


def test_a_rejected_peer_is_not_authenticated() -> None:
    seen: list[UserIdentityRQ] = []

    def check(given: UserIdentityRQ, _association: AssociationInfo) -> UserIdentityAC:
        seen.append(given)
        return UserIdentityAC()

    with StorageSCP(Recorder(), port=0, allow=["CT1"], user_identity=check).in_thread() as scp:
        assert asked(scp, JANE) == WRONG_CALLING
    assert not seen


# Pass phrases.


def line(name: str, pass_phrase: bytes, *, ln: int = 4, r: int = 8, p: int = 1, size: int = 32) -> str:
    """Write a line of the file, cheaper than real ones are."""
    digest = hashlib.scrypt(pass_phrase, salt=b"salt" * 4, n=1 << ln, r=r, p=p, dklen=size)
    salt_text, text = (base64.b64encode(data).decode().rstrip("=") for data in (b"salt" * 4, digest))
    return f"{name}:$scrypt$ln={ln},r={r},p={p}${salt_text}${text}"


@pytest.fixture
def passwords(tmp_path: Path) -> Passwords:
    file = tmp_path / "passwords"
    file.write_text(
        "\n".join(["# users", "", line("jane", b"hunter2"), line("dom:jo\u00e3o", "\u00e4\u00f6".encode(), p=2)])
        + "\r\n",
        encoding="utf-8",
    )
    return Passwords.read(file)


@pytest.fixture
def guarded(passwords: Passwords) -> Iterator[StorageSCP]:
    with StorageSCP(Recorder(), port=0, user_identity=passwords).in_thread() as scp:
        yield scp


def test_a_user_with_the_right_pass_phrase_is_accepted(guarded: StorageSCP) -> None:
    assert response(guarded, identity(positive_response=True)) == UserIdentityAC(b"")
    assert response(guarded, identity(positive_response=False)) is None
    assert isinstance(asked(guarded, identity("dom:jo\u00e3o".encode(), "\u00e4\u00f6".encode())), UserInformation)


@pytest.mark.parametrize(
    ("name", "secret", "kind"),
    [
        (b"jane", b"hunter3", 2),
        (b"jane", b"", 2),
        (b"jane", b"hunter22", 2),
        (b"Jane", b"hunter2", 2),
        (b"joe", b"hunter2", 2),
        (b"", b"", 2),
        (b"\xff\xfe", b"\xff" * 30000, 2),
        (b"jane", b"hunter2", 1),
        (b"jane", b"hunter2", 3),
        (b"jane", b"hunter2", 5),
        (b"# users", b"", 2),
    ],
)
def test_other_identities_are_rejected(
    guarded: StorageSCP, name: bytes, secret: bytes, kind: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(0, "dicomport"):
        assert asked(guarded, identity(name, secret, kind=kind)) == REJECTED
        assert asked(guarded, None) == REJECTED
    assert "hunter" not in caplog.text
    assert "jane" not in caplog.text
    assert f"user identity of type {kind} is not accepted" in caplog.text


def test_an_unknown_user_costs_as_much_as_a_known_one(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[tuple[int, int, int]] = []
    real = hashlib.scrypt

    def counting(*arguments: bytes, n: int, r: int, p: int, **others: bytes | int) -> bytes:
        hashed.append((n, r, p))
        return real(*arguments, n=n, r=r, p=p, **others)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(hashlib, "scrypt", counting)
    nobody: AssociationInfo = None  # type: ignore[assignment]  # it is not looked at
    for name in (b"dom:jo\xc3\xa3o", b"joe", b""):
        assert passwords(identity(name), nobody) is None
    # The costliest of the file for those who are not in it.
    assert hashed == [(16, 8, 2)] * 3


def test_a_line_is_written_as_it_is_read() -> None:
    written = hash_password("jane", "hunter2")
    assert written != hash_password("jane", "hunter2")
    assert "hunter2" not in written
    nobody: AssociationInfo = None  # type: ignore[assignment]  # it is not looked at
    check = Passwords([written])
    assert check(JANE, nobody) == UserIdentityAC()
    assert check(identity(secret=b"hunter3"), nobody) is None
    assert "scrypt" not in repr(check)


@pytest.mark.parametrize("name", ["", " jane", "jane ", "#jane", "ja\nne", "ja\x1bne"])
def test_a_user_name_that_a_line_can_not_hold_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="invalid user name"):
        hash_password(name, "hunter2")


GOOD: Final = line("jane", b"hunter2")


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("jane", 'line 3 is not "NAME:HASH"'),
        (":hash", 'line 3 is not "NAME:HASH"'),
        ("joe:hunter2", "line 3 has an invalid hash"),
        ("joe:$2b$12$abc", "line 3 has an invalid hash"),
        (GOOD, "line 3 repeats a user of an earlier line"),
        (GOOD.replace("jane", "joe").replace("ln=4", "ln=0"), "line 3 has a hash whose ln, r and p are out of range"),
        (GOOD.replace("jane", "joe").replace("ln=4", "ln=40"), "out of range"),
        (GOOD.replace("jane", "joe").replace("r=8", "r=0"), "out of range"),
        (GOOD.replace("jane", "joe").replace("p=1", "p=0"), "out of range"),
        (GOOD.replace("jane", "joe")[:-1], "line 3"),
        (GOOD.replace("jane", "joe")[:-2], "line 3 has a truncated hash"),
        (line("joe", b"x", size=8), "too short"),
    ],
)
def test_a_file_with_something_else_in_it_is_refused_without_quoting_it(bad: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as raised:
        Passwords([GOOD, "", bad])
    assert "hunter2" not in str(raised.value)
    assert GOOD[-20:] not in str(raised.value)

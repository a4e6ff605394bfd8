"""Users and hashes of their pass phrases: a check of user identities of type 2 (PS3.7 D.3.3.7)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from dicomport.scp.requests import AssociationInfo
from dicomport.wire import UserIdentityAC, UserIdentityRQ

__all__ = ["Passwords", "hash_password"]

USER_NAME_AND_PASSCODE: Final = 2

_HASH: Final = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")
_SALT_BYTES: Final = 16
_DIGEST_BYTES: Final = 32
_MAX_BYTES: Final = 1 << 28
"""Memory that one hash may take."""


@dataclass(frozen=True, slots=True)
class _Hash:
    """A scrypt hash (RFC 7914), in text as "$scrypt$ln=14,r=8,p=5$SALT$HASH", where ln is the logarithm of N."""

    ln: int
    r: int
    p: int
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a hash. Raises `ValueError`."""
        match = _HASH.fullmatch(text)
        if match is None:
            raise ValueError("is no scrypt hash such as `dicomport password` writes")
        ln, r, p = map(int, match.group(1, 2, 3))
        # RFC 7914 2 bounds N, and OpenSSL the rest.
        if not (1 <= ln < 16 * r and p and _bytes(ln, r, p) <= _MAX_BYTES):
            raise ValueError("has a hash whose ln, r and p are out of range")
        try:
            known = cls(ln, r, p, _decoded(match[4]), _decoded(match[5]))
        except binascii.Error:
            raise ValueError("has a hash that is cut off") from None
        if len(known.digest) < _DIGEST_BYTES:
            raise ValueError("has a hash that is too short")
        return known

    def __str__(self) -> str:
        return f"$scrypt$ln={self.ln},r={self.r},p={self.p}${_encoded(self.salt)}${_encoded(self.digest)}"

    def hashed(self, pass_phrase: bytes) -> bytes:
        """Hash a pass phrase as this one was."""
        return hashlib.scrypt(
            pass_phrase,
            salt=self.salt,
            n=1 << self.ln,
            r=self.r,
            p=self.p,
            maxmem=2 * _bytes(self.ln, self.r, self.p),
            dklen=len(self.digest),
        )


_NEW: Final = _Hash(14, 8, 5, bytes(_SALT_BYTES), bytes(_DIGEST_BYTES))
"""How pass phrases are hashed here: with 16 MiB of memory, in a few tenths of a second."""


class Passwords:
    """Users with their pass phrases, as a check of user identities: `StorageSCP(user_identity=Passwords.read(...))`.

    An unknown user takes as long as a known one with a wrong pass phrase. Of the types of user identity it takes the
    second alone, user name and pass code.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        """Take lines of NAME:HASH, as `hash_password` writes them; empty ones and those that begin with # are none.

        Raises `ValueError`, which names the number of the line and nothing of what is in it.
        """
        self._hashes: dict[bytes, _Hash] = {}
        for number, line in enumerate(lines, 1):
            name, colon, text = line.strip().rpartition(":")
            if not (name or colon or text) or line.lstrip().startswith("#"):
                continue
            if not name:
                raise ValueError(f"line {number} is not NAME:HASH")
            try:
                self._add(name.encode(), _Hash.parse(text))
            except ValueError as error:
                raise ValueError(f"line {number} {error}") from None
        costliest = max(self._hashes.values(), key=lambda known: (known.p << known.ln) * known.r, default=_NEW)
        self._nobody = replace(costliest, digest=secrets.token_bytes(_DIGEST_BYTES))
        """Of no pass phrase: what is held against it takes its time, and fails."""

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a file of such lines, in UTF-8. Raises `OSError` and `ValueError`."""
        return cls(Path(path).read_text(encoding="utf-8").splitlines())

    def __call__(self, identity: UserIdentityRQ, _association: AssociationInfo) -> UserIdentityAC | None:
        """Check a user name and pass code. It takes a while, and memory."""
        if identity.identity_type != USER_NAME_AND_PASSCODE:
            return None
        known = self._hashes.get(identity.primary_field, self._nobody)
        good = hmac.compare_digest(known.hashed(identity.secondary_field), known.digest)
        return UserIdentityAC() if good and known is not self._nobody else None

    def _add(self, name: bytes, known: _Hash) -> None:
        if name in self._hashes:
            raise ValueError("has a user that is there already")
        self._hashes[name] = known


def hash_password(name: str, pass_phrase: str) -> str:
    """Give a line for `Passwords`. Raises `ValueError` for a name that a line can't hold."""
    if not name or name != name.strip() or name.startswith("#") or not name.isprintable():
        raise ValueError("a user name needs a letter, begins with no #, and has no control characters or outer spaces")
    blank = replace(_NEW, salt=secrets.token_bytes(_SALT_BYTES))
    return f"{name}:{replace(blank, digest=blank.hashed(pass_phrase.encode()))}"


def _bytes(ln: int, r: int, p: int) -> int:
    """Memory that scrypt takes (RFC 7914 2): p blocks, and the N of one of them at a time."""
    return 128 * r * (p + (1 << ln) + 2)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))

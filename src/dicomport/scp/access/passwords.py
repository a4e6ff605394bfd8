"""Users and hashes of their passwords: a check of user identities of type 2 (PS3.7 D.3.3.7)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import field, replace
from pathlib import Path
from typing import Final, Self

from dicomport.scp.requests import AssociationInfo
from dicomport.values import frozen
from dicomport.wire import UserIdentityAC, UserIdentityRQ

_HASH: Final = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")
_SALT_BYTES: Final = 16
_DIGEST_BYTES: Final = 32
_MAX_BYTES: Final = 1 << 28
"""Maximum memory of one hash."""


@frozen
class _Hash:
    """A scrypt hash (RFC 7914), as text "$scrypt$ln=14,r=8,p=5$SALT$HASH"; ln is the binary logarithm of N."""

    ln: int
    r: int
    p: int
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a hash. Raises `ValueError`."""
        match = _HASH.fullmatch(text)
        if match is None:
            raise ValueError("has an invalid hash; expected a scrypt hash as `dicomport password` writes it")
        ln, r, p = map(int, match.group(1, 2, 3))
        # RFC 7914 2 limits N, and OpenSSL limits r and p.
        if not (1 <= ln < 16 * r and p and _bytes(ln, r, p) <= _MAX_BYTES):
            raise ValueError("has a hash whose ln, r and p are out of range")
        try:
            known = cls(ln, r, p, _from_base64(match[4]), _from_base64(match[5]))
        except binascii.Error:
            raise ValueError("has a truncated hash") from None
        if len(known.digest) < _DIGEST_BYTES:
            raise ValueError("has a hash that is too short")
        return known

    def __str__(self) -> str:
        return f"$scrypt$ln={self.ln},r={self.r},p={self.p}${_to_base64(self.salt)}${_to_base64(self.digest)}"

    def hash(self, password: bytes) -> bytes:
        """Return the digest of a password with the salt and parameters of this hash."""
        return hashlib.scrypt(
            password,
            salt=self.salt,
            n=1 << self.ln,
            r=self.r,
            p=self.p,
            maxmem=2 * _bytes(self.ln, self.r, self.p),
            dklen=len(self.digest),
        )


_NEW: Final = _Hash(14, 8, 5, bytes(_SALT_BYTES), bytes(_DIGEST_BYTES))
"""Parameters of new hashes: 16 MiB of memory and a few tenths of a second for one check."""


class Passwords:
    """Users and hashes of their passwords, as a check of user identities.

    Use it as `StorageSCP(user_identity=Passwords.read(...))`. It accepts identities of type 2 only: user name and
    passcode (PS3.7 D.3.3.7). The check of an unknown user takes as long as that of a wrong password.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        """Parse lines "NAME:HASH" as `hash_password` returns them; skip empty lines and those that begin with "#".

        Raises `ValueError` with the number of the line, without its text.
        """
        self._hashes: dict[bytes, _Hash] = {}
        for number, line in enumerate(lines, 1):
            name, colon, text = line.strip().rpartition(":")
            if not (name or colon or text) or line.lstrip().startswith("#"):
                continue
            if not name:
                raise ValueError(f'line {number} is not "NAME:HASH"')
            try:
                self._add(name.encode(), _Hash.parse(text))
            except ValueError as error:
                raise ValueError(f"line {number} {error}") from None
        costliest = max(self._hashes.values(), key=lambda known: (known.p << known.ln) * known.r, default=_NEW)
        self._unknown = replace(costliest, digest=secrets.token_bytes(_DIGEST_BYTES))
        """The hash of no password, for unknown users: the check takes the usual time, and fails."""

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a file of such lines, in UTF-8. Raises `OSError`, and `ValueError` for an invalid line."""
        return cls(Path(path).read_text(encoding="utf-8").splitlines())

    def is_empty(self) -> bool:
        """Return whether the file names no user, so that every identity is invalid."""
        return not self._hashes

    def __call__(self, identity: UserIdentityRQ, _association: AssociationInfo) -> UserIdentityAC | None:
        """Check a user name and a passcode: return the response if they are valid, otherwise None. Blocks."""
        if identity.identity_type != UserIdentityRQ.USER_NAME_AND_PASSCODE:
            return None
        known = self._hashes.get(identity.primary_field, self._unknown)
        is_valid = hmac.compare_digest(known.hash(identity.secondary_field), known.digest)
        return UserIdentityAC() if is_valid and known is not self._unknown else None

    def _add(self, name: bytes, known: _Hash) -> None:
        if name in self._hashes:
            raise ValueError("repeats a user of an earlier line")
        self._hashes[name] = known


def hash_password(name: str, password: str) -> str:
    """Return a line for `Passwords`, with a new salt. Raises `ValueError` for an invalid user name."""
    if not name or name != name.strip() or name.startswith("#") or not name.isprintable():
        raise ValueError(
            'invalid user name: it must not be empty, begin with "#", or have control characters or outer spaces'
        )
    blank = replace(_NEW, salt=secrets.token_bytes(_SALT_BYTES))
    return f"{name}:{replace(blank, digest=blank.hash(password.encode()))}"


def _bytes(ln: int, r: int, p: int) -> int:
    """Return the memory that scrypt needs (RFC 7914 2): p blocks, and the N blocks of one of them at a time."""
    return 128 * r * (p + (1 << ln) + 2)


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))

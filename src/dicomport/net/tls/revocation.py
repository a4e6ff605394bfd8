"""Certificate revocation lists (CRL, RFC 5280 5) from files, for OpenSSL.

OpenSSL rejects each peer if the list of one authority in the chain is missing, has expired, or is not valid yet. That
would be noticed only when peers are rejected, so it is checked here, when the lists are loaded.
"""

from __future__ import annotations

import base64
import re
import ssl
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from dicomport.net.tls.certificates import Certificate
from dicomport.net.tls.der import name_text, time_value, values
from dicomport.net.tls.expiry import Expiry
from dicomport.values import frozen

_PEM: Final = re.compile(rb"-----BEGIN X509 CRL-----(.*?)-----END X509 CRL-----", re.DOTALL)
_INTEGER: Final = 0x02
_TIMES: Final = (0x17, 0x18)


@frozen(kw_only=True)
class RevocationList:
    """One list: its issuer and its dates. OpenSSL checks its signature when it uses the list."""

    file: Path
    der: bytes
    issuer: str
    this_update: datetime
    next_update: datetime | None
    """The time from which a newer list is due; None if the list does not state it."""

    @classmethod
    def decode(cls, file: Path, der: bytes) -> Self:
        """Decode a list (RFC 5280 5.1). Raises `ValueError` if it is malformed."""
        [(_, whole), *_] = values(der)
        [(_, body), *_] = values(whole)
        fields = list(values(body))
        if fields[0][0] == _INTEGER:
            del fields[0]
        _, (_, issuer), first, *others = fields
        return cls(
            file=file,
            der=der,
            issuer=name_text(issuer),
            this_update=time_value(*first),
            next_update=time_value(*others[0]) if others and others[0][0] in _TIMES else None,
        )

    def problem(self, now: datetime) -> str:
        """Return the reason that OpenSSL would not use the list now, or ""."""
        if self.this_update > now:
            return f"is not valid before {self.this_update.isoformat()}"
        if self.next_update is not None and self.next_update <= now:
            return f"has expired on {self.next_update.isoformat()}"
        return ""


def read_lists(files: Iterable[tuple[Path, bytes]]) -> list[RevocationList]:
    """Decode the content of files, PEM with one or several lists, or DER. Raises `ValueError` with the file's name."""
    return [revocations for file, data in files for revocations in _read(file, data)]


def _read(file: Path, data: bytes) -> Iterator[RevocationList]:
    try:
        for der in [base64.b64decode(found) for found in _PEM.findall(data)] or [data]:
            yield RevocationList.decode(file, der)
    except (ValueError, IndexError):
        raise ValueError(f"{file} contains no certificate revocation list in PEM or DER") from None


def use_lists(context: ssl.SSLContext, lists: Sequence[RevocationList]) -> list[Expiry]:
    """Set up a context to reject revoked certificates, and return the dates of its lists.

    Each trusted certificate must be an authority with a valid list, and its issuer must be trusted too. Raises
    `ValueError` with the first one that does not fulfil this.
    """
    newest = _newest(lists)
    _check_authorities(context, newest.keys())
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    # The check needs the lists of the whole chain: a chain must not end at an intermediate authority.
    context.verify_flags &= ~ssl.VERIFY_X509_PARTIAL_CHAIN
    # OpenSSL reads PEM only, and only from a file. A certificate in that file would become trusted: write lists alone.
    with tempfile.TemporaryDirectory(prefix="dicomport-") as folder:
        file = Path(folder, "crls.pem")
        file.write_bytes(b"".join(map(_pem, newest.values())))
        context.load_verify_locations(cafile=file)
    return [
        Expiry(
            file=str(used.file),
            is_list=True,
            issued=used.this_update.timestamp(),
            expires=used.next_update.timestamp(),
            text=used.next_update.isoformat(),
        )
        for used in newest.values()
        if used.next_update is not None
    ]


def _newest(lists: Sequence[RevocationList]) -> dict[str, RevocationList]:
    """Return the newest list of each issuer. Raises `ValueError` if an issuer has no valid one."""
    now = datetime.now(UTC)
    newest: dict[str, RevocationList] = {}
    for one in sorted(lists, key=lambda one: one.this_update):
        known = newest.get(_comparable(one.issuer))
        if known is None or known.problem(now) or not one.problem(now):
            newest[_comparable(one.issuer)] = one
    for one in newest.values():
        if problem := one.problem(now):
            raise ValueError(f"the certificate revocation list {one.file} of {one.issuer} {problem}")
    return newest


def _check_authorities(context: ssl.SSLContext, issuers: Iterable[str]) -> None:
    trusted = [Certificate.decode(der) for der in context.get_ca_certs(binary_form=True)]
    if context.cert_store_stats()["x509"] > len(trusted) or not trusted:
        raise ValueError(
            "certificate revocation lists need trusted authorities: a trusted certificate of a peer has no list"
        )
    subjects = {_comparable(authority.subject) for authority in trusted}
    for authority in trusted:
        if _comparable(authority.issuer) not in subjects:
            raise ValueError(
                f"with certificate revocation lists, trust {authority.issuer} too: it is the issuer of "
                f"{authority.subject}"
            )
        if _comparable(authority.subject) not in issuers:
            raise ValueError(
                f"the certificate revocation list of the authority {authority.subject} is missing; add it to --tls-crl"
            )


def _comparable(name: str) -> str:
    """Return a name as it is compared (RFC 5280 7.1): without regard to case and to the number of spaces."""
    return " ".join(name.casefold().split())


def _pem(revocations: RevocationList) -> bytes:
    return b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(revocations.der) + b"-----END X509 CRL-----\n"

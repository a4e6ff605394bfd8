"""The files of a TLS context, read once: the checked content is the one in use, also in other processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path
from typing import Final, Self

from dicomport.values import frozen

_SUFFIXES: Final = (".pem", ".crt", ".cer", ".der")
"""Suffixes of certificate files in a folder."""

_CRL_SUFFIXES: Final = (".crl", ".pem", ".der")

_MAX_FILE_BYTES: Final = 1 << 24
"""Bytes read of a file: far more than all certificate authorities of a system need."""


@frozen
class TLSFile:
    """A file and its content, which may be a private key."""

    path: Path
    data: bytes = field(repr=False)

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read a file. Raises `ValueError` with its name."""
        path = Path(path)
        try:
            with path.open("rb") as file:
                return cls(path, file.read(_MAX_FILE_BYTES))
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from None

    @contextlib.contextmanager
    def readable(self) -> Iterator[Path]:
        """Yield a path for OpenSSL, which reads private keys only from files: of a file in memory, not on a disk.

        Systems without such files use the original file.
        """
        if not hasattr(os, "memfd_create"):
            yield self.path
            return
        with open(os.memfd_create("dicomport-tls"), "wb") as memory:  # noqa: PTH123  # it has no path yet
            memory.write(self.data)
            memory.flush()
            path = Path(f"/proc/self/fd/{memory.fileno()}")
            yield path if os.access(path, os.R_OK) else self.path


@frozen(kw_only=True)
class TLSFiles:
    """The files of one context; None where the context needs none."""

    certificate: TLSFile | None
    key: TLSFile | None
    passphrase: str | None = field(repr=False)
    authorities: tuple[TLSFile, ...] | None
    crls: tuple[TLSFile, ...] | None

    @classmethod
    def read(
        cls,
        *,
        certificate: Path | str | None,
        key: Path | str | None,
        passphrase: str | None,
        authorities: Path | str | None,
        crls: Path | str | None,
    ) -> Self:
        """Read the files; without `key`, the certificate's file has the key. Raises `ValueError`."""
        if certificate is None and key is not None:
            raise ValueError("a key needs its certificate: specify the certificate too")
        if crls is not None and authorities is None:
            raise ValueError("certificate revocation lists need the authorities that issue them: specify these too")
        own = None if certificate is None else TLSFile.read(certificate)
        return cls(
            certificate=own,
            key=own if key is None else TLSFile.read(key),
            passphrase=passphrase,
            authorities=None if authorities is None else _files(Path(authorities), _SUFFIXES, "certificate"),
            crls=None if crls is None else _files(Path(crls), _CRL_SUFFIXES, "certificate revocation list"),
        )


def _files(path: Path, suffixes: tuple[str, ...], kind: str) -> tuple[TLSFile, ...]:
    """Read a file, or the files with a suffix in a folder. Raises `ValueError`."""
    if not path.is_dir():
        return (TLSFile.read(path),)
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes)
    if not files:
        raise ValueError(f"{path} has no {kind} file ({', '.join(suffixes)})")
    return tuple(map(TLSFile.read, files))

"""No object of a receiver shows a salt or the digest of a password in its representation."""

import base64
from pathlib import Path
from typing import Any

from tests.scp.storages import Recorder

from dicomport import StorageSCP
from dicomport.scp import Passwords, hash_password


def test_no_representation_shows_a_salt_or_digest(tmp_path: Path) -> None:
    line = hash_password("ann", "secret")
    path = tmp_path / "passwords"
    path.write_text(line)
    texts = line.strip().split("$")[-2:]
    secrets = [*texts, *(repr(base64.b64decode(text + "=="))[2:-1] for text in texts)]
    passwords = Passwords.read(path)
    kinds = set()
    for value in reachable([passwords, StorageSCP(Recorder(), port=0, user_identity=passwords)]):
        kinds.add(type(value).__name__)
        assert [secret for secret in secrets if secret in repr(value)] == [], type(value)
    assert {"Passwords", "_Hash", "StorageSCP"} <= kinds


def reachable(values: list[Any]) -> list[Any]:
    """Return all objects of the package that these refer to, but for texts and numbers."""
    found: dict[int, Any] = {}
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if id(value) in found:
            continue
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple | set | frozenset):
            waiting += value
        if type(value).__module__.startswith("dicomport"):
            found[id(value)] = value
            names = {name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())}
            names |= set(getattr(value, "__dict__", ()))
            waiting += [getattr(value, name) for name in names if hasattr(value, name)]
    return list(found.values())

"""UIDs that the service uses by name (PS3.6 Table A-1), and the form of a UID (PS3.5 9.1)."""

from __future__ import annotations

import re
from typing import Final

MAX_UID_LENGTH: Final = 64
"""Maximum length of a UID, characters (PS3.5 9.1)."""

VERIFICATION: Final = "1.2.840.10008.1.1"
"""The Verification SOP Class (PS3.4 A.4)."""

STORAGE_SERVICE_CLASS: Final = "1.2.840.10008.4.2"
"""The Storage Service Class, in common extended negotiation (PS3.4 B.3.1.2)."""

STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"
"""The Storage Commitment Push Model SOP Class (PS3.4 J.3)."""

STORAGE_COMMITMENT_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
"""The well-known Storage Commitment Push Model SOP Instance (PS3.4 J.3.5)."""

MEDIA_STORAGE_DIRECTORY: Final = "1.2.840.10008.1.3.10"
"""The SOP Class of a DICOMDIR, which lists instances and cannot be sent by C-STORE (PS3.4 Annex I)."""

_UID_CHARACTERS: Final = re.compile(rf"[0-9.]{{1,{MAX_UID_LENGTH}}}")


def looks_like_uid(text: str) -> bool:
    """Return whether a text has the characters and length of a UID; the other rules of PS3.5 9.1 are often broken."""
    return _UID_CHARACTERS.fullmatch(text) is not None

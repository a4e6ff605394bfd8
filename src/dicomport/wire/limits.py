"""Limits of the protocol's own structures: PDUs, items, command sets, fragments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["DEFAULT_PROTOCOL_LIMITS", "ProtocolLimits"]


@dataclass(frozen=True, slots=True)
class ProtocolLimits:
    """Limits on what one association may send; each is checked before memory is allocated for it."""

    associate_pdu_bytes: int = 512 << 10
    """Longest A-ASSOCIATE-RQ or -AC body, bytes; it is kept until it is whole. 128 contexts of 45 syntaxes are
    150 KB."""

    presentation_contexts: int = 128
    """Contexts in one association: ids are the odd numbers of one byte (PS3.8 9.3.2.2)."""

    transfer_syntaxes_per_context: int = 256
    """Transfer syntaxes in one context. PS3.6 knows about 60; some peers list some of them twice."""

    user_items: int = 1024
    """Sub-items of the user information: at the most a few for each context are meaningful."""

    user_identity_bytes: int = 64 << 10
    """Length of a user identity, bytes. By default all that its item can hold: a ticket or an assertion has some
    thousands, and is checked for somebody who is not known yet, so who knows how long theirs are may say less."""

    p_data_pdu_bytes: int = 16 << 20
    """Longest P-DATA-TF body taken, bytes, though we announce less: peers are known to send more than they may.
    Nothing is allocated for it, as its fragments are streamed."""

    command_bytes: int = 64 << 10
    """Longest command set, bytes. A C-STORE-RQ has about 200; an Error Comment adds 64."""

    command_fragments: int = 256
    """Fragments of one command set, so that empty ones can't go on for ever."""

    idle_fragments: int = 1024
    """P-DATA-TF PDUs or fragments in a row that carry no byte of data."""


DEFAULT_PROTOCOL_LIMITS: Final = ProtocolLimits()

"""Every bound on what a peer may ask of us, in one place."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT_LIMITS", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one peer may make us hold or do; each is judged before anything is allocated for it."""

    associate_pdu_bytes: int = 1 << 20
    """Longest A-ASSOCIATE-RQ or -AC body, bytes. 128 contexts of 45 syntaxes are 150 KB; two user identity fields
    add 128 KB at most."""

    presentation_contexts: int = 128
    """Contexts in one association: ids are the odd numbers of one byte (PS3.8 9.3.2.2)."""

    transfer_syntaxes_per_context: int = 256
    """Transfer syntaxes in one context. PS3.6 knows about 60; some peers list some of them twice."""

    user_items: int = 1024
    """Sub-items of the user information: at the most a few for each context are meaningful."""

    p_data_pdu_bytes: int = 16 << 20
    """Longest P-DATA-TF body taken, bytes, though we announce less: peers are known to send more than they may.
    Nothing is allocated for it, as its fragments are streamed."""

    command_bytes: int = 64 << 10
    """Longest command set, bytes. A C-STORE-RQ has about 200; an Error Comment adds 64."""

    command_fragments: int = 256
    """Fragments of one command set, so that empty ones can't go on for ever."""

    idle_fragments: int = 1024
    """P-DATA-TF PDUs or fragments in a row that carry no byte of data."""


DEFAULT_LIMITS = Limits()

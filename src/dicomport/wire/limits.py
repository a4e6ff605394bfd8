"""Limits of the protocol's own structures: PDUs, items, command sets, fragments."""

from __future__ import annotations

from typing import Final

from dicomport.values import frozen


@frozen
class ProtocolLimits:
    """Limits of one association's protocol structures; each is checked before memory is allocated."""

    associate_pdu_bytes: int = 512 << 10
    """Maximum A-ASSOCIATE-RQ or -AC body, bytes; it is kept until complete. 128 contexts of 45 syntaxes are 150 KB."""

    presentation_contexts: int = 128
    """Presentation contexts of one association: ids are the odd numbers of one byte (PS3.8 9.3.2.2)."""

    transfer_syntaxes_per_context: int = 256
    """Transfer syntaxes of one context. PS3.6 has about 60; some peers list some of them twice."""

    user_items: int = 1024
    """Sub-items of the user information; a few for each context are meaningful."""

    user_identity_bytes: int = 64 << 10
    """Maximum user identity, bytes. The default is the maximum of its item. A ticket or an assertion has a few
    thousand bytes. It is checked before the user is known, so a site with shorter ones can set a lower limit."""

    p_data_pdu_bytes: int = 16 << 20
    """Maximum P-DATA-TF body accepted, bytes. It is more than the announced maximum, which some peers exceed. Its
    fragments are streamed, so it needs no memory."""

    command_bytes: int = 64 << 10
    """Maximum command set, bytes. A C-STORE-RQ has about 200; an Error Comment adds 64."""

    command_fragments: int = 256
    """Fragments of one command set: without this limit, empty fragments could continue forever."""

    idle_fragments: int = 1024
    """Consecutive P-DATA-TF PDUs or fragments without data."""


DEFAULT_PROTOCOL_LIMITS: Final = ProtocolLimits()

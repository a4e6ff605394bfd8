"""Every bound on what a peer may ask of us, in one place."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT_LIMITS", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one peer may make us hold or do; each is judged before anything is allocated for it."""

    half_open: int = 256
    """Connections without an association: those whose request has not come yet, in their TLS handshake or after it, and
    those that are about to close. For one more, the oldest is closed, of the address that has most of them: so idle
    ones keep no sender out, however many there are."""

    associations: int = 1000
    """Associations at the same time. An idle one takes some kilobytes, and one that stores takes two file descriptors;
    whoever comes when there are so many is rejected for now, at once."""

    associations_per_address: int = 250
    """Associations at the same time from one network address: a sender that opens more and more of them and closes none
    leaves room for the others."""

    associations_per_ae_title: int = 250
    """Associations at the same time with one calling AE title, for the same reason."""

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

    normalized_bytes: int = 16 << 20
    """Longest data set of a DIMSE-N request, bytes, such as the references of a storage commitment: it is kept in
    memory until it is whole. A reference has about 130 bytes; requests for thousands of instances are usual."""

    pending_commitments: int = 10_000
    """Requests for storage commitment of all peers that are not reported on yet: a peer that can't be reached leaves
    its own behind for days. Each is a small file."""

    pending_references: int = 1_000_000
    """Instances in all of those: about 130 MB on the disk."""

    idle_fragments: int = 1024
    """P-DATA-TF PDUs or fragments in a row that carry no byte of data."""

    instance_bytes: int = 64 << 30
    """Longest data set, bytes. One that goes on beyond that fills the disk: it is refused with 0xA700, and what came of
    it thrown away. The longest that are known, whole slides, have some ten gigabytes."""

    drained_bytes: int = 256 << 20
    """What is read of a data set beyond `instance_bytes`, bytes, so that the refusal can be answered once its sender is
    ready to hear it. Then the association is aborted."""

    memory_bytes: int = 128 << 20
    """What all instances that are being received may hold in memory, together, bytes: by default a megabyte for each of
    a hundred. Beyond that each is written to disk in shorter blocks, of 64 KiB, while its sender is held back."""


DEFAULT_LIMITS = Limits()

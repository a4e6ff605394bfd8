"""Requests as values, C-STORE requests as bytes typed by hand, for tests of the SCP."""

from typing import Final

from tests.core.messages import (
    COMMAND,
    CT,
    EXPLICIT,
    IMPLICIT,
    LAST_COMMAND,
    LAST_DATA,
    VERIFICATION,
    command_set,
    number,
    p_data,
    pdv,
    uid,
)

from dicomport.wire import AssociateRQ, PresentationContextRQ, UserInformation

ECHO: Final = 1
"""The context id of Verification in `request`."""

STORE: Final = 3
"""The context id of CT Image Storage, in Explicit VR Little Endian, in `request`."""

DATA_SET: Final = bytes.fromhex("0800 0500 4353 0a00") + b"ISO_IR 100" + bytes.fromhex("1000 2000 4c4f 0400") + b"P-01"
"""Specific Character Set and Patient ID in Explicit VR Little Endian."""


def context(number_: int, abstract_syntax: str, *transfer_syntaxes: str) -> PresentationContextRQ:
    """Propose a context, by default in Explicit and Implicit VR Little Endian."""
    return PresentationContextRQ(number_, abstract_syntax, transfer_syntaxes or (EXPLICIT, IMPLICIT))


def request(
    *contexts: PresentationContextRQ,
    calling: str = "MODALITY",
    called: str = "DICOMPORT",
    items: UserInformation | None = None,
) -> AssociateRQ:
    """Build a request for an association, by default for Verification and CT Image Storage."""
    return AssociateRQ(
        called_ae_title=called,
        calling_ae_title=calling,
        presentation_contexts=contexts or (context(ECHO, VERIFICATION, IMPLICIT), context(STORE, CT)),
        user_information=items or UserInformation(maximum_length=16384, implementation_class_uid="1.2.3.5"),
    )


def store_elements(message_id: int = 1, sop_instance: str = "1.2.3.4", sop_class: str = CT) -> dict[int, bytes]:
    """List the elements of a C-STORE-RQ with a data set (PS3.7 9.3.1.1)."""
    return {
        0x0002: uid(sop_class),
        0x0100: number(0x0001),
        0x0110: number(message_id),
        0x0700: number(0),
        0x0800: number(0),
        0x1000: uid(sop_instance),
    }


def store_command(
    message_id: int = 1, sop_instance: str = "1.2.3.4", *, sop_class: str = CT, context_id: int = STORE
) -> bytes:
    """Build the P-DATA-TF of a C-STORE-RQ."""
    return p_data(pdv(context_id, LAST_COMMAND, command_set(store_elements(message_id, sop_instance, sop_class))))


def store(
    message_id: int = 1,
    sop_instance: str = "1.2.3.4",
    data: bytes = DATA_SET,
    *,
    sop_class: str = CT,
    context_id: int = STORE,
) -> bytes:
    """Build the P-DATA-TFs of a C-STORE-RQ and of its data set."""
    command = store_command(message_id, sop_instance, sop_class=sop_class, context_id=context_id)
    return command + p_data(pdv(context_id, LAST_DATA, data))


def in_fragments(context_id: int, data: bytes, size: int) -> bytes:
    """Build the P-DATA-TFs of a data set, one for each fragment of `size` bytes."""
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(
        p_data(pdv(context_id, LAST_DATA if part_number == len(parts) else 0, part))
        for part_number, part in enumerate(parts, 1)
    )


def command_fragments(context_id: int, elements: dict[int, bytes]) -> bytes:
    """Build the P-DATA-TF of a command set in two fragments."""
    data = command_set(elements)
    return p_data(pdv(context_id, COMMAND, data[:20]), pdv(context_id, LAST_COMMAND, data[20:]))

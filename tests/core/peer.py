"""A peer in bytes, typed by hand: the core is judged by the standard's layouts, not by its own writer.

And the core across from it, brought to any state that it can be in.
"""

import struct
from collections.abc import Callable, Iterable
from typing import Final

from dicomport.core import (
    AcceptorPolicy,
    Association,
    AssociationAccepted,
    AssociationRequested,
    CoreEvent,
    DataReceived,
    ImplementationInfo,
    Negotiation,
    ReleaseConfirmed,
    ReleaseRequested,
    Role,
    negotiate,
)
from dicomport.wire import (
    DEFAULT_PROTOCOL_LIMITS,
    AssociateRQ,
    CEchoRQ,
    PresentationContextRQ,
    ProtocolLimits,
    UserInformation,
)

VERIFICATION: Final = "1.2.840.10008.1.1"
CT: Final = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"

# Message control headers (PS3.8 E.2).
DATA, COMMAND, LAST_DATA, LAST_COMMAND = 0, 1, 2, 3

# PDUs of four bytes (PS3.8 9.3.4, 9.3.6, 9.3.7, 9.3.8).
REJECT: Final = bytes.fromhex("03 00 00000004 00 01 01 01")
RELEASE_RQ: Final = bytes.fromhex("05 00 00000004 00000000")
RELEASE_RP: Final = bytes.fromhex("06 00 00000004 00000000")
USER_ABORT: Final = bytes.fromhex("07 00 00000004 00 00 00 00")
UNRECOGNIZED: Final = bytes.fromhex("07 00 00000004 00 00 02 01")
UNEXPECTED: Final = bytes.fromhex("07 00 00000004 00 00 02 02")
INVALID: Final = bytes.fromhex("07 00 00000004 00 00 02 06")

POLICY: Final = AcceptorPolicy(
    ae_title="DICOMPORT",
    identity=ImplementationInfo("1.2.3.4", "DICOMPORT_TEST"),
    maximum_length=16384,
    abstract_syntaxes=lambda _uid, _kind: True,
)

REQUEST: Final = AssociateRQ(
    called_ae_title="DICOMPORT",
    calling_ae_title="MODALITY",
    presentation_contexts=(
        PresentationContextRQ(1, VERIFICATION, (IMPLICIT,)),
        PresentationContextRQ(3, CT, (EXPLICIT, IMPLICIT)),
    ),
    user_information=UserInformation(maximum_length=16384, implementation_class_uid="1.2.3.5"),
)

ECHO: Final = CEchoRQ(message_id=7, affected_sop_class_uid=VERIFICATION)


def pdu(kind: int, body: bytes = b"", *, length: int | None = None) -> bytes:
    """Put a PDU together, with a false length if need be (PS3.8 9.3.1)."""
    return struct.pack(">BBL", kind, 0, len(body) if length is None else length) + body


def pdv(context_id: int, control: int, data: bytes = b"", *, length: int | None = None) -> bytes:
    """Put a PDV item together (PS3.8 9.3.5.1)."""
    return struct.pack(">LBB", len(data) + 2 if length is None else length, context_id, control) + data


def p_data(*values: bytes) -> bytes:
    """Put a P-DATA-TF together (PS3.8 9.3.5)."""
    return pdu(4, b"".join(values))


def item(kind: int, body: bytes | str) -> bytes:
    """Put an item or sub-item together (PS3.8 9.3.2)."""
    raw = body.encode("latin-1") if isinstance(body, str) else body
    return struct.pack(">BBH", kind, 0, len(raw)) + raw


def _associate(kind: int, version: int, contexts: bytes, maximum_length: int) -> bytes:
    return pdu(
        kind,
        struct.pack(">HH16s16s32s", version, 0, b"DICOMPORT       ", b"MODALITY        ", bytes(32))
        + item(0x10, APPLICATION_CONTEXT)
        + contexts
        + item(0x50, item(0x51, struct.pack(">L", maximum_length)) + item(0x52, "1.2.3.5")),
    )


def associate_rq(*, version: int = 1, maximum_length: int = 16384) -> bytes:
    """Put an A-ASSOCIATE-RQ together that proposes Verification as 1 and CT as 3 (PS3.8 9.3.2)."""
    contexts = item(0x20, bytes((1, 0, 0, 0)) + item(0x30, VERIFICATION) + item(0x40, IMPLICIT)) + item(
        0x20, bytes((3, 0, 0, 0)) + item(0x30, CT) + item(0x40, EXPLICIT) + item(0x40, IMPLICIT)
    )
    return _associate(1, version, contexts, maximum_length)


def associate_ac(*, maximum_length: int = 16384) -> bytes:
    """Put an A-ASSOCIATE-AC together that accepts Verification as 1 and CT as 3 (PS3.8 9.3.3)."""
    contexts = item(0x21, bytes((1, 0, 0, 0)) + item(0x40, IMPLICIT)) + item(
        0x21, bytes((3, 0, 0, 0)) + item(0x40, EXPLICIT)
    )
    return _associate(2, 1, contexts, maximum_length)


def command_set(elements: dict[int, bytes]) -> bytes:
    """Put a command set together, with its group length (PS3.7 6.3.1)."""
    body = b"".join(struct.pack("<HHL", 0, number, len(value)) + value for number, value in elements.items())
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def number(value: int) -> bytes:
    """Write a value of VR US."""
    return struct.pack("<H", value)


def uid(text: str) -> bytes:
    """Write a value of VR UI."""
    return text.encode("ascii") + bytes(len(text) % 2)


def echo_elements(message_id: int = 7) -> dict[int, bytes]:
    """List the elements of a C-ECHO-RQ (PS3.7 9.3.5.1)."""
    return {
        0x0002: uid(VERIFICATION),
        0x0100: number(0x0030),
        0x0110: number(message_id),
        0x0800: number(0x0101),
    }


def store_elements(message_id: int = 7, *, data_set_type: int = 0) -> dict[int, bytes]:
    """List the elements of a C-STORE-RQ (PS3.7 9.3.1.1)."""
    return {
        0x0002: uid(CT),
        0x0100: number(0x0001),
        0x0110: number(message_id),
        0x0700: number(0),
        0x0800: number(data_set_type),
        0x1000: uid("1.2.3.4.5"),
    }


ECHO_SET: Final = command_set(echo_elements())
STORE_SET: Final = command_set(store_elements())
ECHO_PDU: Final = p_data(pdv(1, LAST_COMMAND, ECHO_SET))
STORE_PDU: Final = p_data(pdv(3, LAST_COMMAND, STORE_SET))


def drain(core: Association) -> list[CoreEvent]:
    """Take all events, the data in them copied."""
    events: list[CoreEvent] = []
    while (event := core.next_event()) is not None:
        events.append(DataReceived(bytes(event.data), event.last) if isinstance(event, DataReceived) else event)
    return events


def feed(core: Association, *pieces: bytes) -> list[CoreEvent]:
    """Lend the core some bytes, piece after piece, and take what they mean."""
    events: list[CoreEvent] = []
    for piece in pieces:
        core.receive(piece)
        events += drain(core)
    return events


def one_by_one(data: bytes) -> Iterable[bytes]:
    """Cut bytes into pieces of one."""
    return (data[at : at + 1] for at in range(len(data)))


def output(core: Association) -> bytes:
    """Take what the core wants to send, as bytes."""
    return b"".join(core.take_output())


def answer(core: Association, policy: AcceptorPolicy = POLICY) -> Negotiation:
    """Answer the request that the core has, which is the one of `associate_rq`."""
    negotiation = negotiate(REQUEST, policy)
    core.answer(negotiation)
    return negotiation


def idle(role: Role, limits: ProtocolLimits = DEFAULT_PROTOCOL_LIMITS) -> Association:
    """Sta1."""
    return Association(role, limits=limits)


def opened(limits: ProtocolLimits = DEFAULT_PROTOCOL_LIMITS) -> Association:
    """Sta2."""
    core = idle(Role.ACCEPTOR, limits)
    core.transport_opened()
    return core


def requested(limits: ProtocolLimits = DEFAULT_PROTOCOL_LIMITS) -> Association:
    """Sta3."""
    core = opened(limits)
    [event] = feed(core, associate_rq())
    assert isinstance(event, AssociationRequested)
    return core


def connecting() -> Association:
    """Sta4."""
    core = idle(Role.REQUESTOR)
    core.request(REQUEST)
    return core


def proposing(limits: ProtocolLimits = DEFAULT_PROTOCOL_LIMITS, request: AssociateRQ = REQUEST) -> Association:
    """Sta5."""
    core = idle(Role.REQUESTOR, limits)
    core.request(request)
    core.transport_opened()
    output(core)
    return core


def established(role: Role = Role.ACCEPTOR, limits: ProtocolLimits = DEFAULT_PROTOCOL_LIMITS) -> Association:
    """Sta6."""
    if role is Role.ACCEPTOR:
        core = requested(limits)
        answer(core)
    else:
        core = proposing(limits)
        [event] = feed(core, associate_ac())
        assert isinstance(event, AssociationAccepted)
    output(core)
    return core


def releasing(role: Role) -> Association:
    """Sta7."""
    core = established(role)
    core.release()
    output(core)
    return core


def asked_to_release(role: Role) -> Association:
    """Sta8."""
    core = established(role)
    assert feed(core, RELEASE_RQ) == [ReleaseRequested()]
    return core


def collided(role: Role) -> Association:
    """Sta9 at the requestor, Sta10 at the acceptor."""
    core = releasing(role)
    assert feed(core, RELEASE_RQ) == [ReleaseRequested()]
    return core


def collided_further(role: Role) -> Association:
    """Sta11 at the requestor, Sta12 at the acceptor."""
    core = collided(role)
    if role is Role.REQUESTOR:
        core.confirm_release()
        output(core)
    else:
        assert feed(core, RELEASE_RP) == [ReleaseConfirmed()]
    return core


def rejected_by_us() -> Association:
    """Sta13, by way of AE-8."""
    core = requested()
    core.answer(negotiate(REQUEST, policy_with_another_title()))
    output(core)
    return core


def rejected_as_provider() -> Association:
    """Sta13, by way of AE-6."""
    core = opened()
    assert feed(core, associate_rq(version=2)) == []
    output(core)
    return core


def released_by_us(role: Role) -> Association:
    """Sta13, by way of AR-4."""
    core = asked_to_release(role)
    core.confirm_release()
    output(core)
    return core


def aborted_by_us(role: Role) -> Association:
    """Sta13, by way of AA-1."""
    core = established(role)
    core.abort()
    output(core)
    return core


def aborted_by_provider(role: Role) -> Association:
    """Sta13, by way of AA-8."""
    core = established(role)
    feed(core, associate_ac())
    output(core)
    return core


def policy_with_another_title() -> AcceptorPolicy:
    """Give a policy that refuses `REQUEST`."""
    return AcceptorPolicy(
        ae_title="ANOTHER",
        identity=POLICY.identity,
        maximum_length=0,
        abstract_syntaxes=POLICY.abstract_syntaxes,
        check_called_ae_title=True,
    )


def _for_both(name: str, setup: Callable[[Role], Association]) -> dict[str, Callable[[], Association]]:
    return {f"{name}, {role.value}": lambda role=role: setup(role) for role in Role}  # type: ignore[misc]


SETUPS: Final[dict[str, Callable[[], Association]]] = {
    **_for_both("Sta1", idle),
    "Sta2": opened,
    "Sta3": requested,
    "Sta4": connecting,
    "Sta5": proposing,
    **_for_both("Sta6", established),
    **_for_both("Sta7", releasing),
    **_for_both("Sta8", asked_to_release),
    "Sta9": lambda: collided(Role.REQUESTOR),
    "Sta10": lambda: collided(Role.ACCEPTOR),
    "Sta11": lambda: collided_further(Role.REQUESTOR),
    "Sta12": lambda: collided_further(Role.ACCEPTOR),
    "Sta13, rejected": rejected_by_us,
    "Sta13, rejected as provider": rejected_as_provider,
    **_for_both("Sta13, released", released_by_us),
    **_for_both("Sta13, aborted", aborted_by_us),
    **_for_both("Sta13, aborted as provider", aborted_by_provider),
}
"""Every state that a core can be in, and each way into it, named by the state first."""

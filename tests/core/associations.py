"""Association cores in each of their states, their policy and request, and functions that exchange bytes with them."""

from collections.abc import Callable
from typing import Final

from tests.core.messages import CT, EXPLICIT, IMPLICIT, RELEASE_RP, RELEASE_RQ, VERIFICATION, associate_ac, associate_rq

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


def drain(core: Association) -> list[CoreEvent]:
    """Return all events, with copies of their data."""
    events: list[CoreEvent] = []
    while (event := core.next_event()) is not None:
        events.append(DataReceived(bytes(event.data), event.last) if isinstance(event, DataReceived) else event)
    return events


def feed(core: Association, *pieces: bytes) -> list[CoreEvent]:
    """Lend the core some bytes, piece after piece, and return the events."""
    events: list[CoreEvent] = []
    for piece in pieces:
        core.receive(piece)
        events += drain(core)
    return events


def output(core: Association) -> bytes:
    """Return the core's output as bytes."""
    return b"".join(core.take_output())


def answer(core: Association, policy: AcceptorPolicy = POLICY) -> Negotiation:
    """Answer the request of `associate_rq` that the core has received."""
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
    """Sta13, through AE-8."""
    core = requested()
    core.answer(negotiate(REQUEST, policy_with_another_title()))
    output(core)
    return core


def rejected_as_provider() -> Association:
    """Sta13, through AE-6."""
    core = opened()
    assert feed(core, associate_rq(version=2)) == []
    output(core)
    return core


def released_by_us(role: Role) -> Association:
    """Sta13, through AR-4."""
    core = asked_to_release(role)
    core.confirm_release()
    output(core)
    return core


def aborted_by_us(role: Role) -> Association:
    """Sta13, through AA-1."""
    core = established(role)
    core.abort()
    output(core)
    return core


def aborted_by_provider(role: Role) -> Association:
    """Sta13, through AA-8."""
    core = established(role)
    feed(core, associate_ac())
    output(core)
    return core


def policy_with_another_title() -> AcceptorPolicy:
    """Return a policy that rejects `REQUEST`."""
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

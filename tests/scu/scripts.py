"""Scripts for the kit's `Peer` as the acceptor, and the acceptances that they send.

with scripted(serving(0xA700), replying(rejection)) as scp:
report = dicomport.blocking.send(files, "127.0.0.1", scp.port)
assert stored(scp) == [...]
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from dicomport.testing import Message, Peer, Script, ScriptedSCP, in_turn
from dicomport.wire import (
    AssociateAC,
    AssociateRQ,
    ContextResult,
    Pdu,
    PresentationContextAC,
    PresentationContextRQ,
    UserInformation,
)

IMPLICIT: Final = "1.2.840.10008.1.2"

Answer: TypeAlias = Callable[[PresentationContextRQ], PresentationContextAC | None]
"""Returns the answer to a proposed context, or None to leave the context out."""


def accepted(proposed: PresentationContextRQ) -> PresentationContextAC:
    """Accept a context with its first transfer syntax."""
    return PresentationContextAC(proposed.context_id, ContextResult.ACCEPTED, proposed.transfer_syntaxes[0])


def refused(
    proposed: PresentationContextRQ, result: ContextResult = ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
) -> PresentationContextAC:
    """Reject a context."""
    return PresentationContextAC(proposed.context_id, result, IMPLICIT)


def acceptance(request: AssociateRQ, answer: Answer = accepted, *, maximum_length: int | None = 16384) -> AssociateAC:
    """Build the acceptance of a request."""
    answers = (answer(context) for context in request.presentation_contexts)
    return AssociateAC(
        called_ae_title=request.called_ae_title,
        calling_ae_title=request.calling_ae_title,
        presentation_contexts=tuple(context for context in answers if context is not None),
        user_information=UserInformation(maximum_length=maximum_length, implementation_class_uid="1.2.3.5"),
    )


def serving(*statuses: int, answer: Answer = accepted, maximum_length: int | None = 16384) -> Script:
    """Build the script of a correct peer: C-STOREs get these statuses and then success, all others success."""

    def script(peer: Peer) -> None:
        request = peer.expect(AssociateRQ)
        peer.send(acceptance(request, answer, maximum_length=maximum_length).encode())
        peer.serve(*statuses)

    return script


def replying(*parts: Pdu | bytes) -> Script:
    """Build the script of a peer that answers the request with PDUs or bytes, and reads until the requestor closes."""

    def script(peer: Peer) -> None:
        peer.expect(AssociateRQ)
        peer.send(*parts)
        while peer.receive() is not None:
            pass

    return script


def scripted(*scripts: Script, receive_buffer: int | None = None) -> ScriptedSCP:
    """Build a listener with one connection for each script. Further connections are refused."""
    return ScriptedSCP(in_turn(*scripts), connections=len(scripts), receive_buffer=receive_buffer)


def messages(peer: Peer) -> list[Message[Any]]:
    """Return the messages that a peer has received."""
    return [heard for heard in peer.heard if isinstance(heard, Message)]


def pdus(peer: Peer) -> list[Pdu]:
    """Return the PDUs that a peer has received after the request, without those of messages."""
    return [heard for heard in peer.heard if not isinstance(heard, Message | AssociateRQ)]


def requests(scp: ScriptedSCP) -> list[AssociateRQ]:
    """Return the requests for associations."""
    return [peer.request for peer in scp.peers if peer.request is not None]


def stored(scp: ScriptedSCP) -> list[list[str]]:
    """Return the SOP Instance UIDs of the complete C-STORE requests, by connection."""
    return [[store.command.affected_sop_instance_uid for store in peer.stores] for peer in scp.peers]

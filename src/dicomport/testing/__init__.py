"""The shipped test kit: what a test of one side needs of the other.

- `ScriptedSCP`, `ScriptedSCU`: a peer on a socket that does what a script says, right or wrong, in either role.
- `Link`: what lies between two peers, with a delay, a throttle, and a `Fault` at whatever byte.
- `CorePair`: two association cores back to back, over a link that cuts the bytes wherever the test says.
- `joined`: events with the pieces of each data set put together, so that two runs can be compared.
"""

from dicomport.testing.errors import GoneError, ScriptError
from dicomport.testing.faults import Direction, Fault, FaultKind
from dicomport.testing.incoming import Heard
from dicomport.testing.link import Link
from dicomport.testing.messages import Message, acceptance, association_request, encode_message, response
from dicomport.testing.pair import CorePair, joined
from dicomport.testing.peer import Peer
from dicomport.testing.scripted import Script, ScriptedSCP, ScriptedSCU, healthy, in_turn

__all__ = [
    "CorePair",
    "Direction",
    "Fault",
    "FaultKind",
    "GoneError",
    "Heard",
    "Link",
    "Message",
    "Peer",
    "Script",
    "ScriptError",
    "ScriptedSCP",
    "ScriptedSCU",
    "acceptance",
    "association_request",
    "encode_message",
    "healthy",
    "in_turn",
    "joined",
    "response",
]

"""The shipped test kit: peers, links and faults for tests of either side.

- `ScriptedSCP`, `ScriptedSCU`: a peer on a socket that runs a script, correct or faulty, in either role.
- `Link`: a connection between two peers, with a delay, a throttle, and a `Fault` at any byte.
- `CorePair`: two association cores, connected by a link that splits the bytes as the test requires.
- `joined`: events with the parts of each data set joined, so that two runs can be compared.
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

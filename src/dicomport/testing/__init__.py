"""The shipped test kit: peers, links and faults for tests of either side.

- `ScriptedSCP`, `ScriptedSCU`: a peer on a socket that runs a script, correct or faulty, in either role.
- `Link`: a connection between two peers, with a delay, a throttle, and a `Fault` at any byte.
- `CorePair`: two association cores, connected by a link that splits the bytes as the test requires.
- `joined`: events with the parts of each data set joined, so that two runs can be compared.
"""

from dicomport.testing.errors import GoneError as GoneError, ScriptError as ScriptError
from dicomport.testing.faults import Direction as Direction, Fault as Fault, FaultKind as FaultKind
from dicomport.testing.incoming import Heard as Heard
from dicomport.testing.link import Link as Link
from dicomport.testing.messages import (
    Message as Message,
    acceptance as acceptance,
    association_request as association_request,
    encode_message as encode_message,
    response as response,
)
from dicomport.testing.pair import CorePair as CorePair, joined as joined
from dicomport.testing.peer import Peer as Peer
from dicomport.testing.scripted import (
    Script as Script,
    ScriptedSCP as ScriptedSCP,
    ScriptedSCU as ScriptedSCU,
    healthy as healthy,
    in_turn as in_turn,
)

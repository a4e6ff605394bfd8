"""Seven hostile peers at once, each with its own address: `python -m tests.robustness.hostile PORT`.

Each prints its name as soon as it has done its work often enough to count as an attack, and continues until stdin ends.
Then each prints its name and count. A connection that the receiver rejects, aborts or resets is opened again.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from tests.commitment.asking import COMMITMENT, INSTANCE
from tests.robustness.attacks import data_set

from dicomport.commitment.data_sets import CommitmentRequest, SOPReference
from dicomport.standard import VERIFICATION, sop_classes
from dicomport.testing import GoneError, Peer, ScriptError, association_request
from dicomport.wire import AssociateAC, CEchoRQ, NActionRQ, NActionRSP, UserIdentityRQ

CT: Final = sop_classes.CTImageStorage.uid
USER, PASSWORD = b"honest", b"a long password"

_BIG: Final = 16 << 20
_CHUNK: Final = bytes(1 << 16)
_EXPLICIT: Final = "1.2.840.10008.1.2.1"

numbers = itertools.count(1)
stopping = threading.Event()


def tell(line: str) -> None:
    """Write a line to stdout at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Attacker:
    """One hostile peer: its address, and the number of times that it has done its work."""

    def __init__(self, name: str, port: int, address: str, enough: int) -> None:
        self.name = name
        self.count = 0
        self._port = port
        self._address = address
        self._enough = enough

    def done(self, count: int = 1) -> None:
        """Count work that the receiver had to do."""
        before, self.count = self.count, self.count + count
        if before < self._enough <= self.count:
            tell(self.name)

    @contextlib.contextmanager
    def connected(self) -> Iterator[Peer]:
        """Connect from the attacker's address."""
        sock = socket.create_connection(("127.0.0.1", self._port), source_address=(self._address, 0))
        with contextlib.closing(Peer(sock, timeout=60, keep_data=False)) as peer:
            yield peer

    @contextlib.contextmanager
    def associated(self, password: bytes = PASSWORD) -> Iterator[Peer]:
        """Establish an association for commitment (context 1), CT images (3) and verification (5)."""
        request = association_request((COMMITMENT, (_EXPLICIT,)), (CT, (_EXPLICIT,)), VERIFICATION, calling=self.name)
        identity = UserIdentityRQ(2, positive_response_requested=False, primary_field=USER, secondary_field=password)
        items = replace(request.user_information, user_identity=identity)
        with self.connected() as peer:
            peer.send(replace(request, user_information=items))
            peer.expect(AssociateAC)
            yield peer


def fill_memory(attacker: Attacker) -> None:
    """Send ten N-ACTION data sets of almost 16 MiB at once, without their ends (row 1)."""
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(attacker.associated()) for _ in range(10)]
        messages = [_action(peer, bytes(_BIG - 65536)) for peer in peers]
        size = len(messages[0])
        for at in range(0, size - len(_CHUNK), len(_CHUNK)):
            for peer, message in zip(peers, messages, strict=True):
                with contextlib.suppress(BlockingIOError):
                    peer.socket.settimeout(0.05)
                    with contextlib.suppress(TimeoutError):
                        peer.socket.sendall(message[at : at + len(_CHUNK)])
                attacker.done()
                if stopping.is_set():
                    return


def store_duplicates(attacker: Attacker) -> None:
    """Store small instances with the UID of a large one (row 2)."""
    with attacker.associated() as peer:
        peer.store("1.2.3.2", data_set("1.2.3.2", bytes(8 * _BIG)), context_id=3)
        while not stopping.is_set():
            peer.store("1.2.3.2", data_set("1.2.3.2", next(numbers).to_bytes(2048, "little")), context_id=3)
            attacker.done()


def ask_for_one_instance_often(attacker: Attacker) -> None:
    """Request the commitment of one large instance, a thousand times in each request (row 6)."""
    with attacker.associated() as peer:
        peer.store("1.2.3.6", data_set("1.2.3.6", bytes(_BIG)), context_id=3)
        while not stopping.is_set():
            references = (SOPReference(CT, "1.2.3.6"),) * 1000
            request = CommitmentRequest(f"1.2.3.6.{next(numbers)}", references)
            peer.send(_action(peer, request.encode(_EXPLICIT)))
            _await_response(peer)
            attacker.done()


def ask_without_a_listener(attacker: Attacker) -> None:
    """Request commitments whose reports no one takes (row 5)."""
    while not stopping.is_set():
        with attacker.associated() as peer:
            request = CommitmentRequest(f"1.2.3.5.{next(numbers)}", (SOPReference(CT, "1.2.3.5"),))
            peer.send(_action(peer, request.encode(_EXPLICIT)))
            _await_response(peer)
        attacker.done()


def guess_passwords(attacker: Attacker) -> None:
    """Request associations with wrong passwords, four at a time (row 7)."""

    def guess() -> None:
        while not stopping.is_set():
            with contextlib.suppress(ScriptError, GoneError, OSError), attacker.associated(b"guess"):
                pass
            attacker.done()

    threads = [threading.Thread(target=guess) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def fill_the_quarantine(attacker: Attacker) -> None:
    """Store truncated instances (row 8)."""
    with attacker.associated() as peer:
        while not stopping.is_set():
            uid = f"1.2.3.8.{next(numbers)}"
            peer.store(uid, data_set(uid, bytes(2000))[:-500], context_id=3)
            attacker.done()


def send_without_end(attacker: Attacker) -> None:
    """Send a C-ECHO request whose data set has no end (row 9)."""
    with attacker.associated() as peer:
        message = peer.encode_message(5, CEchoRQ(message_id=1, affected_sop_class_uid=VERIFICATION), None)
        # Command Data Set Type: 0101H means that no data set follows (PS3.7 E.1).
        head = message.replace(b"\0\0\0\x08\x02\0\0\0\x01\x01", b"\0\0\0\x08\x02\0\0\0\0\0")
        fragment = peer.encode_message(5, _with_data_set(), bytes(60_000))[-60_012:]
        fragment = fragment[:11] + b"\0" + fragment[12:]  # not the last one (PS3.8 E.2)
        peer.send(head)
        while not stopping.is_set():
            peer.send(fragment)
            attacker.done()


def _action(peer: Peer, data: bytes) -> bytes:
    command = NActionRQ(
        has_data_set=True,
        message_id=1,
        requested_sop_class_uid=COMMITMENT,
        requested_sop_instance_uid=INSTANCE,
        action_type_id=1,
    )
    return peer.encode_message(1, command, data)


def _with_data_set() -> NActionRQ:
    return NActionRQ(
        has_data_set=True,
        message_id=1,
        requested_sop_class_uid=VERIFICATION,
        requested_sop_instance_uid=INSTANCE,
        action_type_id=1,
    )


def _await_response(peer: Peer) -> None:
    """Wait for the response to an N-ACTION; reports that arrive before it stay unanswered."""
    while not isinstance(getattr(peer.receive(), "command", None), NActionRSP):
        pass


ATTACKS: Final[dict[str, tuple[Callable[[Attacker], None], int]]] = {
    "MEMORY": (fill_memory, 300),
    "DUPLICATES": (store_duplicates, 50),
    "REFERENCES": (ask_for_one_instance_often, 20),
    "REPORTS": (ask_without_a_listener, 50),
    "PASSWORDS": (guess_passwords, 20),
    "QUARANTINE": (fill_the_quarantine, 100),
    "ENDLESS": (send_without_end, 500),
}
"""Each attack by its calling AE title, with the count that proves it."""


def attack(attacker: Attacker, work: Callable[[Attacker], None]) -> None:
    """Attack again whenever the receiver has ended the association."""
    while not stopping.is_set():
        with contextlib.suppress(ScriptError, GoneError, OSError):
            work(attacker)


def main() -> None:
    """Run all attacks until stdin ends."""
    port = int(sys.argv[1])
    attackers = [
        (Attacker(name, port, f"127.0.0.{number}", enough), work)
        for number, (name, (work, enough)) in enumerate(ATTACKS.items(), 2)
    ]
    threads = [threading.Thread(target=attack, args=pair, daemon=True) for pair in attackers]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stopping.set()
    for attacker, _ in attackers:
        tell(f"{attacker.name} {attacker.count}")


if __name__ == "__main__":
    main()

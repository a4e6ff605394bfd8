"""The data sets of DIMSE-N count against the receiver's memory: long ones wait on the disk, and are served in turns."""

import contextlib
import threading
from pathlib import Path
from typing import Final

from tests.cli.commands import receiver
from tests.commitment.asking import COMMITMENT, INSTANCE, SCU, references
from tests.core.messages import LAST_DATA, p_data, pdv

from dicomport.commitment.data_sets import CommitmentRequest
from dicomport.wire import NActionRQ, NActionRSP

PEERS: Final = 20
MEBIBYTE: Final = 1 << 20
SIZE: Final = 15 * MEBIBYTE
IMPLICIT: Final = "1.2.840.10008.1.2"
PIXEL_DATA: Final = bytes.fromhex("e07f 1000") + (SIZE - 8).to_bytes(4, "little")
"""The header of an element that fills the data set, so that it lacks the Transaction UID."""
ACTION: Final = NActionRQ(
    has_data_set=True,
    message_id=1,
    requested_sop_class_uid=COMMITMENT,
    requested_sop_instance_uid=INSTANCE,
    action_type_id=1,
)


def peak_memory(process: int) -> int:
    """Return the largest resident size of a process so far, bytes."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def test_long_actions_of_many_peers_do_not_fill_the_memory(tmp_path: Path) -> None:
    """Twenty requests of 15 MiB, 300 MiB together, with a limit of 64 MiB; one peer more is served meanwhile."""
    first, part = (p_data(pdv(1, 0, data.ljust(1 << 16, b"\0"))) for data in (PIXEL_DATA, b""))
    parts = [first, *[part] * (SIZE // (1 << 16) - 1), p_data(pdv(1, LAST_DATA))]
    options = ("--max-memory", "64M", "--max-associations-per-address", "100", "--max-associations-per-aet", "100")
    with receiver(tmp_path / "archive", *options) as found, contextlib.ExitStack() as stack:
        port = int(found.port)
        peers = [stack.enter_context(SCU(port, f"FLOOD{number}", [IMPLICIT])) for number in range(PEERS)]
        honest = stack.enter_context(SCU(port, "HONEST", local="127.0.0.2"))
        before = peak_memory(found.process.pid)

        def flood(peer: SCU) -> None:
            peer.send(peer.encode_message(1, ACTION, None), *parts)

        threads = [threading.Thread(target=flood, args=(peer,)) for peer in peers]
        for thread in threads:
            thread.start()
        many = CommitmentRequest("1.2.3", references(*(f"1.2.{number}" for number in range(400))))
        assert honest.act(many.encode(honest.context.transfer_syntax)) == 0x0000
        for thread in threads:
            thread.join()
        assert [peer.expect(NActionRSP).command.status for peer in peers] == [0x0120] * PEERS
        assert peak_memory(found.process.pid) - before < 160 * MEBIBYTE

"""Nothing acknowledged is lost if the workers' parent is killed: no worker stays, and the receiver starts again.

DICOMPORT_KILLS is the number of kills of the receiver; the parent is killed a quarter as often, 50 times for a release.
"""

from __future__ import annotations

import os
import random
import socket
import threading
from pathlib import Path
from typing import Final

from tests.archive.sending import CT, findings, instance, rows
from tests.cli.commands import Receiver, receiver, wait_until
from tests.cli.test_workers import is_alive, workers_of
from tests.encoding.encode import EXPLICIT

from dicomport import AssociationError, blocking

KILLS: Final = int(os.environ.get("DICOMPORT_KILLS", "8")) // 4
WORKERS: Final = 3


def send_until_lost(port: int, kill: int, prefix: str, acknowledged: set[str], enough: threading.Event) -> None:
    """Store instances until the connection is lost; set the event after `kill` acknowledged ones."""
    try:
        with blocking.associate("127.0.0.1", port, contexts=[(CT, EXPLICIT)]) as association:
            for number in range(100_000):
                uid = f"{prefix}.{number}"
                if association.c_store(instance(uid, b"\0\0" * 1000)).status.code == 0:
                    acknowledged.add(uid)
                if number == kill:
                    enough.set()
    except (AssociationError, OSError):
        pass
    finally:
        enough.set()


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def kill_under_load(found: Receiver, rng: random.Random, prefix: str, acknowledged: set[str]) -> None:
    port = int(found.port)
    wait_until(lambda: len(workers_of(found.process.pid)) == WORKERS)
    enough = threading.Event()
    kill = rng.randrange(30)
    senders = [
        threading.Thread(target=send_until_lost, args=(port, kill, f"{prefix}.{number}", acknowledged, enough))
        for number in range(WORKERS)
    ]
    for sender in senders:
        sender.start()
    assert enough.wait(60)
    children = workers_of(found.process.pid)
    found.process.kill()
    for sender in senders:
        sender.join(60)
    wait_until(lambda: not any(map(is_alive, children)))
    wait_until(lambda: is_free(port))


def test_a_killed_parent_leaves_no_worker_and_loses_nothing(tmp_path: Path) -> None:
    rng = random.Random("parents")
    root = tmp_path / "archive"
    acknowledged: set[str] = set()
    for number in range(max(1, KILLS)):
        with receiver(root, "--workers", str(WORKERS)) as found:
            kill_under_load(found, rng, f"1.2.3.{number}", acknowledged)
    with receiver(root) as found:
        assert found.stop()[0] == 0
    assert findings(root) == []
    assert acknowledged
    assert acknowledged <= {str(row["sop_instance_uid"]) for row in rows(root)}

"""Rows S1 and S3: associations by the thousand, in every way that they end, and senders by the dozen.

DICOMPORT_SOAK says how many associations of each kind: some by default, 2,000 in `make soak-short`, 100,000 in
`make soak`.
"""

import asyncio
import gc
import os
import random
import re
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from tests.robustness.attacks import Attack, Target, data_set, receiver

from dicomport import Status, StorageSCP
from dicomport.core import Association
from dicomport.net import Connection, Stream
from dicomport.scp.association import AcceptorAssociation
from dicomport.scp.store import StoreService
from dicomport.testing import ScriptedSCU, association_request
from dicomport.wire import Abort, AssociateRJ, CStoreRSP, encode

TIMES: Final = int(os.environ.get("DICOMPORT_SOAK", "50"))
IN_ONE_GO: Final = 500
"""Associations between two checks for leaks."""
IN_PROCESS: Final = 5000
"""More of them show nothing new where it is tasks and objects that are counted."""
MAX_GROWTH: Final = 5_000_000
"""Limit for the growth of the memory for any number of associations, bytes."""

MAX_AT_WORK: Final = 50 << 20
"""Memory limit for a hundred simultaneous senders, with a margin, bytes."""

SENDERS: Final = (27, 100) if TIMES >= 2000 else (27,)
INSTANCES: Final = 8
"""Instances from each sender that does not disconnect."""


def released(peer: ScriptedSCU) -> None:
    peer.associate()
    assert peer.echo().status == 0
    peer.release()


def rejected(peer: ScriptedSCU) -> None:
    peer.send(replace(association_request(), application_context="1.2.3"))
    peer.expect(AssociateRJ)


def aborted(peer: ScriptedSCU) -> None:
    peer.associate()
    peer.send(Abort())
    peer.expect_close()


def closed_without_a_word(peer: ScriptedSCU) -> None:
    peer.half_close()
    peer.drain()


def closed_after_three_bytes(peer: ScriptedSCU) -> None:
    peer.send(encode(association_request())[:3])
    peer.half_close()
    peer.drain()


def reset_in_a_data_set(peer: ScriptedSCU) -> None:
    peer.associate()
    peer.send(peer.encode_store("1.2.3.4", data_set("1.2.3.4", bytes(30_000)))[:20_000])
    peer.reset()


ENDS: Final[dict[str, Callable[[ScriptedSCU], None]]] = {
    end.__name__: end
    for end in (
        *(released, rejected, aborted),
        *(closed_without_a_word, closed_after_three_bytes, reset_in_a_data_set),
    )
}
"""One association, or an attempt at one, from beginning to end."""


def repeat(port: int, end: Callable[[ScriptedSCU], None], times: int) -> None:
    for _ in range(times):
        with ScriptedSCU("127.0.0.1", port) as peer:
            end(peer)


@pytest.mark.parametrize("name", ENDS)
def test_s1_associations_by_the_thousand_leave_nothing(target: Target, name: str) -> None:
    def go(times: int) -> None:
        with Attack(target) as attack:
            repeat(attack.port, ENDS[name], times)
        # They have been judged, and there are a great many.
        target.log.events.clear()

    go(min(IN_ONE_GO, TIMES))
    memory, threads = target.status("VmRSS"), target.status("Threads")
    for start in range(0, TIMES, IN_ONE_GO):
        go(min(IN_ONE_GO, TIMES - start))
    assert target.status("VmRSS") - memory < MAX_GROWTH
    assert target.status("Threads") <= threads


def alive() -> Counter[str]:
    """Count the objects that represent associations."""
    kinds = (Association, Connection, Stream, AcceptorAssociation, StoreService)
    return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, kinds))


def test_s1_tasks_threads_and_objects_are_as_before() -> None:
    async def soak() -> None:
        async with StorageSCP(lambda _: Status(0), port=0) as scp:
            # After one association of each kind all permanent objects exist.
            for end in ENDS.values():
                await asyncio.to_thread(repeat, scp.port, end, 1)
            before = await settled(scp.port, await counted(scp.port))
            for end in ENDS.values():
                await asyncio.to_thread(repeat, scp.port, end, min(TIMES, IN_PROCESS))
            found = await settled(scp.port, before)
            assert no_more(found, before), (found, before)

    async def counted(port: int) -> tuple[int, int, Counter[str]]:
        await asyncio.to_thread(repeat, port, released, 1)
        # Pools create their threads as needed, up to the pool's bound, and keep them.
        threads = [thread for thread in threading.enumerate() if not re.search(r"_\d+$", thread.name)]
        return len(asyncio.all_tasks()), len(threads), alive()

    async def settled(port: int, wanted: tuple[int, int, Counter[str]]) -> tuple[int, int, Counter[str]]:
        """Count until there is no more than is wanted, for a good many round trips."""
        for _ in range(100):
            found = await counted(port)
            if no_more(found, wanted):
                break
        return found

    def no_more(found: tuple[int, int, Counter[str]], wanted: tuple[int, int, Counter[str]]) -> bool:
        # The count may shrink: leftovers of other tests in this process may be collected at any time.
        return found[0] <= wanted[0] and found[1] <= wanted[1] and found[2] <= wanted[2]

    asyncio.run(soak())


@pytest.mark.parametrize("senders", SENDERS)
def test_s3_each_complete_instance_is_stored_when_half_the_senders_leave(tmp_path: Path, senders: int) -> None:
    with receiver(tmp_path) as target:
        target.max_memory = MAX_AT_WORK
        with Attack(target) as attack:
            send_all(attack, senders)


def send_all(attack: Attack, senders: int) -> None:
    all_there = threading.Barrier(senders)
    uids = [[attack.uid() for _ in range(INSTANCES)] for _ in range(senders)]

    def send(number: int) -> list[bytes]:
        rng, kept = random.Random(number), []
        breaks_off = rng.randrange(INSTANCES) if number % 2 else None
        with ScriptedSCU("127.0.0.1", attack.port) as peer:
            peer.associate(calling=f"SENDER-{number}")
            all_there.wait(60)
            for count, uid in enumerate(uids[number]):
                data = data_set(uid, rng.randbytes(rng.choice((2_000, 40_000, 400_000))), study=f"1.2.826.{number}")
                message = peer.encode_store(uid, data)
                if count == breaks_off:
                    # So far from the end that an A-ABORT inside of a fragment does not complete it.
                    peer.send(message[: rng.randrange(len(message) - 10)], *rng.choice(((), (Abort(),))))
                    rng.choice((peer.close, peer.reset))()
                    break
                peer.send(message)
                assert peer.expect(CStoreRSP).command.status == 0
                kept.append(data)
            else:
                peer.release()
        return kept

    with ThreadPoolExecutor(senders) as pool:
        for kept in pool.map(send, range(senders)):
            attack.keep(*kept)

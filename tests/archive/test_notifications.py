"""Hooks: the calls, their times and limits; neither a slow callback nor one that fails blocks anything.

No test sleeps: to check that an event did not happen, a test waits for a later event.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from tests.core.messages import CT
from tests.encoding.encode import EXPLICIT, element
from tests.scp.messages import request

from dicomport import StorageSCP
from dicomport.archive import (
    Archive,
    ArchiveOptions,
    Check,
    Checks,
    CompleteStudy,
    Duplicates,
    HookError,
    Hooks,
    InstanceAttributes,
    Policy,
    Record,
)
from dicomport.testing import ScriptedSCU

T = TypeVar("T")

TIMEOUT: Final = 60.0
"""Seconds: only a test that fails waits that long."""

HOUR: Final = 3600.0
SOON: Final = 0.05

STUDY: Final = "1.2.1"


class Heard(asyncio.Queue[T]):
    """A callback that keeps its arguments."""

    async def hear(self, subject: T) -> None:
        self.put_nowait(subject)

    async def next(self) -> T:
        async with asyncio.timeout(TIMEOUT):
            return await self.get()


def record(
    study: str = STUDY, instance: str = "1.2.1.1", *, calling: str = "CT1", size: int = 10, at: int = 0
) -> Record:
    return Record(
        path=f"{study}/1/{instance}.dcm",
        inode=1,
        attributes=InstanceAttributes(study_instance_uid=study, sop_instance_uid=instance),
        digest="00",
        size=size,
        header_crc32=7,
        transfer_syntax_uid=EXPLICIT,
        calling_ae_title=calling,
        address="192.0.2.7",
        received=f"2026-01-01T00:00:{at:02}.000000+00:00",
    )


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario, and check that no task is left."""

    async def main() -> None:
        async with asyncio.timeout(TIMEOUT):
            await scenario()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.name == "dicomport.archive"]


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "dicomport")


# When a study is complete.


def test_a_notification_does_not_delay_the_response() -> None:
    async def scenario() -> None:
        heard: Heard[Record] = Heard()
        async with Hooks(on_instance=heard.hear) as hooks:
            hooks.instance(record(), "A")
            assert heard.empty()
            assert await heard.next() == record()

    run(scenario)


def test_a_study_is_complete_after_its_senders_and_a_quiet_time() -> None:
    async def scenario() -> None:
        heard: Heard[CompleteStudy] = Heard()
        async with Hooks(on_study=heard.hear, study_timeout=SOON) as hooks:
            hooks.instance(record(instance="1", at=1), "A")
            hooks.instance(record(instance="2", at=2, calling="MR", size=5), "B")
            hooks.association_ended("A")
            # A study that began later and is complete: long enough for the first one, were B not open.
            hooks.instance(record("1.9"), "C")
            hooks.association_ended("C")
            assert (await heard.next()).study_instance_uid == "1.9"
            assert heard.empty()
            hooks.association_ended("B")
            assert await heard.next() == CompleteStudy(
                study_instance_uid=STUDY,
                instances=2,
                size=15,
                calling_ae_titles=("CT1", "MR"),
                first_received="2026-01-01T00:00:01.000000+00:00",
                last_received="2026-01-01T00:00:02.000000+00:00",
            )

    run(scenario)


def test_an_instance_in_time_keeps_a_study_open() -> None:
    async def scenario() -> None:
        heard: Heard[CompleteStudy] = Heard()
        async with Hooks(on_study=heard.hear, study_timeout=SOON) as hooks:
            hooks.instance(record(), "A")
            hooks.association_ended("A")
            hooks.instance(record(), "B")
            hooks.instance(record("1.9"), "C")
            hooks.association_ended("C")
            assert (await heard.next()).study_instance_uid == "1.9"
            assert heard.empty()
            hooks.association_ended("B")
            assert (await heard.next()).instances == 2

    run(scenario)


def test_a_late_instance_completes_a_study_again() -> None:
    async def scenario() -> None:
        heard: Heard[CompleteStudy] = Heard()
        async with Hooks(on_study=heard.hear, study_timeout=0) as hooks:
            for number in (1, 2):
                hooks.instance(record(size=number), number)
                hooks.association_ended(number)
                assert (await heard.next()).size == number

    run(scenario)


def test_one_association_may_send_many_studies_and_other_things_besides() -> None:
    async def scenario() -> None:
        heard: Heard[CompleteStudy] = Heard()
        async with Hooks(on_study=heard.hear, study_timeout=0) as hooks:
            hooks.association_ended("never seen")
            for study in ("1.1", "", "1.2"):
                hooks.instance(record(study), "A")
            hooks.association_ended("A")
            assert {(await heard.next()).study_instance_uid for _ in range(2)} == {"1.1", "1.2"}
        assert heard.empty()

    run(scenario)


def test_with_too_many_studies_open_the_quietest_is_taken_for_complete(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        heard: Heard[CompleteStudy] = Heard()
        async with Hooks(on_study=heard.hear, study_timeout=HOUR, max_open=2) as hooks:
            for study in ("1.1", "1.2", "1.1", "1.3"):
                hooks.instance(record(study), "A")
            assert (await heard.next()).study_instance_uid == "1.2"
            assert heard.empty()
            hooks.association_ended("A")

    run(scenario)
    assert said(caplog) == ["study_completed_early study_instance_uid=1.2 open=2"]


def test_closing_completes_the_open_studies() -> None:
    async def scenario() -> None:
        heard: Heard[CompleteStudy] = Heard()
        async with Hooks(on_study=heard.hear, study_timeout=HOUR) as hooks:
            hooks.instance(record("1.1"), "A")
            hooks.association_ended("A")
            hooks.instance(record("1.2"), "B")
        assert [heard.get_nowait().study_instance_uid for _ in range(2)] == ["1.1", "1.2"]

    run(scenario)


def test_without_callbacks_nothing_is_kept() -> None:
    async def scenario() -> None:
        async with Hooks() as hooks:
            hooks.instance(record(), "A")
            hooks.association_ended("A")
            assert not hooks._open
            assert not hooks._sent_to

    run(scenario)


def test_ended_associations_leave_nothing() -> None:
    async def scenario() -> None:
        heard: Heard[CompleteStudy] = Heard()
        async with Hooks(on_study=heard.hear, study_timeout=0) as hooks:
            for number in range(100):
                hooks.instance(record(f"1.{number}"), number)
                hooks.association_ended(number)
            for _ in range(100):
                await heard.next()
            assert not hooks._open
            assert not hooks._sent_to

    run(scenario)


# Callbacks that fail, or take long.


async def _fail(_record: Record) -> None:
    raise HookError("told.sh ended with exit code 3")


async def _raise(_record: Record) -> None:
    raise ValueError("some bug")


async def _cancel(_record: Record) -> None:
    raise asyncio.CancelledError


async def _exit(_record: Record) -> None:
    raise SystemExit(3)


async def _interrupt(_record: Record) -> None:
    raise KeyboardInterrupt


async def _never_end(_record: Record) -> None:
    await asyncio.Event().wait()


async def _time_out(_record: Record) -> None:
    raise TimeoutError


FAILURES: Final[dict[str, tuple[Callable[[Record], Awaitable[None]], list[str]]]] = {
    "fails": (_fail, ['hook_failed hook=on_instance uid=1 reason="told.sh ended with exit code 3"']),
    "raises": (_raise, ["hook_raised hook=on_instance uid=1"]),
    "is cancelled": (_cancel, ["hook_raised hook=on_instance uid=1"]),
    "exits": (_exit, ["hook_raised hook=on_instance uid=1"]),
    "is interrupted": (_interrupt, ["hook_raised hook=on_instance uid=1"]),
    "takes too long": (_never_end, ['hook_failed hook=on_instance uid=1 reason="timeout after 0.05 s"']),
    "has a timeout of its own": (_time_out, ["hook_raised hook=on_instance uid=1"]),
}


@pytest.mark.parametrize(("callback", "message"), FAILURES.values(), ids=FAILURES)
def test_a_callback_that_fails_is_logged_and_the_next_one_called(
    callback: Callable[[Record], Awaitable[None]], message: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        heard: Heard[Record] = Heard()

        async def first_fails(told: Record) -> None:
            await (callback(told) if told.attributes.sop_instance_uid == "1" else heard.hear(told))

        async with Hooks(on_instance=first_fails, at_once=1, seconds=SOON) as hooks:
            hooks.instance(record(instance="1"), "A")
            hooks.instance(record(instance="2"), "A")
            await heard.next()

    run(scenario)
    assert said(caplog) == message


def test_so_many_run_at_once_so_many_wait_and_the_rest_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        heard: Heard[str] = Heard()
        two, go = asyncio.Event(), asyncio.Event()
        running = most = 0

        async def hold(told: Record) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            if running == 2:
                two.set()
            await go.wait()
            running -= 1
            await heard.hear(told.attributes.sop_instance_uid)

        async with Hooks(on_instance=hold, at_once=2, max_waiting=3) as hooks:
            for number in range(9):
                hooks.instance(record(instance=str(number)), "A")
            await two.wait()
            go.set()
            assert [await heard.next() for _ in range(5)] == ["0", "1", "2", "3", "4"]
        assert most == 2
        assert heard.empty()

    run(scenario)
    assert said(caplog) == [
        "hooks_skipped hook=on_instance first_uid=5 waiting=3",
        "hooks_skipped_total hook=on_instance skipped=4",
    ]


def test_slow_instances_do_not_hold_up_studies() -> None:
    async def scenario() -> None:
        heard: Heard[CompleteStudy] = Heard()
        hooks = Hooks(on_instance=_never_end, on_study=heard.hear, study_timeout=0, at_once=1)
        for number in range(9):
            hooks.instance(record(instance=str(number)), "A")
        hooks.association_ended("A")
        assert (await heard.next()).instances == 9
        await hooks.close(within=0)

    run(scenario)


def test_closing_lets_calls_end_but_not_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        ended: list[str] = []

        async def some_end(told: Record) -> None:
            uid = told.attributes.sop_instance_uid
            if uid == "2":
                await _never_end(told)
            ended.append(uid)

        hooks = Hooks(on_instance=some_end, at_once=1)
        for number in range(5):
            hooks.instance(record(instance=str(number)), "A")
        await hooks.close(within=SOON)
        assert ended == ["0", "1"]

    run(scenario)
    assert said(caplog) == ["hook_cancelled hook=on_instance uid=2", "hooks_skipped_total hook=on_instance skipped=2"]


# Calls of an archive.


def data_set(instance: str = "1.2.3.4", *, study: str = STUDY, patient: bytes = b"P1") -> bytes:
    """Write a CT instance, by default one that passes the checks."""
    uids = {0x00080016: CT, 0x00080018: instance, 0x0020000D: study, 0x0020000E: "1.2.1.1"}
    values = {tag: ("UI", uid.encode() + bytes(len(uid) % 2)) for tag, uid in uids.items()}
    values[0x00100020] = ("LO", patient + b" " * (len(patient) % 2))
    return b"".join(element(EXPLICIT, tag, *values[tag]) for tag in sorted(values))


async def tell(hooks: Hooks, root: Path, options: ArchiveOptions, *data_sets: bytes) -> list[int]:
    """Store data sets one after the other, all as instance 1.2.3.4; return the responses."""

    def send(port: int) -> list[int]:
        with ScriptedSCU("127.0.0.1", port) as peer:
            peer.associate(request=request(calling="CT1"))
            statuses = [peer.store("1.2.3.4", data).status for data in data_sets]
            peer.release()
        return statuses

    archive = Archive(root, options, hooks=hooks)
    try:
        async with hooks, StorageSCP(archive, port=0, on_association_end=hooks.association_ended) as scp:
            return await asyncio.to_thread(send, scp.port)
    finally:
        archive.close()


ONE, OTHER, NEITHER = data_set(), data_set(patient=b"P2"), data_set("1.2.3.5")

TOLD: Final[dict[str, tuple[ArchiveOptions, tuple[bytes, ...], list[int], list[str]]]] = {
    "stored": (ArchiveOptions(), (ONE,), [0], ["1.2.3.4.dcm"]),
    "there already": (ArchiveOptions(), (ONE, ONE), [0, 0], ["1.2.3.4.dcm"]),
    "both kept": (ArchiveOptions(), (ONE, OTHER), [0, 0], ["1.2.3.4.dcm", "1.2.3.4~2.dcm"]),
    "replaced": (
        ArchiveOptions(duplicates=Duplicates.REPLACE),
        (ONE, OTHER),
        [0, 0],
        ["1.2.3.4.dcm", "1.2.3.4.dcm"],
    ),
    "rejected": (ArchiveOptions(duplicates=Duplicates.REJECT), (ONE, OTHER), [0, 0x0111], ["1.2.3.4.dcm"]),
    "in quarantine": (ArchiveOptions(), (NEITHER,), [0xA900], []),
    "accepted anyway": (
        ArchiveOptions(checks=Checks(dict.fromkeys(Check, Policy.ACCEPT))),
        (NEITHER,),
        [0xB007],
        ["1.2.3.5.dcm"],
    ),
    "no room": (ArchiveOptions(min_free_bytes=1 << 60), (ONE,), [0xA700], []),
}


@pytest.mark.parametrize(("options", "data_sets", "statuses", "names"), TOLD.values(), ids=TOLD)
def test_only_stored_instances_are_notified(
    options: ArchiveOptions, data_sets: tuple[bytes, ...], statuses: list[int], names: list[str], tmp_path: Path
) -> None:
    async def scenario() -> None:
        instances: Heard[Record] = Heard()
        studies: Heard[CompleteStudy] = Heard()
        hooks = Hooks(on_instance=instances.hear, on_study=studies.hear, study_timeout=HOUR)
        assert await tell(hooks, tmp_path, options, *data_sets) == statuses
        told = [instances.get_nowait() for _ in range(instances.qsize())]
        assert [Path(one.path).name for one in told] == names
        assert all((tmp_path / one.path).is_file() for one in told)
        assert studies.qsize() == bool(told)
        if told:
            study = studies.get_nowait()
            assert (study.study_instance_uid, study.instances) == (STUDY, len(told))
            assert study.size == sum(one.size for one in told)
            assert study.calling_ae_titles == ("CT1",)
            assert (study.first_received, study.last_received) == (told[0].received, told[-1].received)

    run(scenario)


def test_a_study_is_complete_after_its_association_was_lost(tmp_path: Path) -> None:
    async def scenario() -> None:
        studies: Heard[CompleteStudy] = Heard()
        hooks = Hooks(on_study=studies.hear, study_timeout=0)
        archive = Archive(tmp_path, hooks=hooks)

        def send(port: int) -> None:
            with ScriptedSCU("127.0.0.1", port) as peer:
                peer.associate()
                peer.store("1.2.3.4", ONE)
                peer.reset()

        async with hooks, StorageSCP(archive, port=0, on_association_end=hooks.association_ended) as scp:
            await asyncio.to_thread(send, scp.port)
            assert (await studies.next()).study_instance_uid == STUDY
        archive.close()

    run(scenario)

"""`dicomport storescp`: stored instances, output, and exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
from pathlib import Path
from typing import Final

import pytest
from tests.cli.commands import FILES, Receiver, dicomport, receiver, start, wait_until
from tests.scp.messages import store_command
from tests.users import as_owner, shared_folder

from dicomport import AbortedError, NegotiationResult, RejectedError, __version__, blocking, sop_classes
from dicomport.files import read_part10
from dicomport.scp import AssociationInfo, Passwords
from dicomport.testing import ScriptedSCU
from dicomport.wire import UserIdentityAC, UserIdentityRQ

CT = FILES / "CT_small.dcm"


def test_it_keeps_the_bytes_and_tells_where_they_came_from(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", "-aet", "ARCHIVE") as found:
        sent = dicomport("storescu", "-aet", "SCANNER", "-aec", "ARCHIVE", "localhost", found.port, CT)
        assert sent.returncode == 0
    source = read_part10(CT)
    (path,) = found.kept()
    assert path.name == f"{source.meta.media_storage_sop_instance_uid}.dcm"
    kept = read_part10(path)
    assert [bytes(c) for c in kept.chunks(1 << 20)] == [bytes(c) for c in source.chunks(1 << 20)]
    meta = kept.meta
    assert (meta.source_ae_title, meta.sending_ae_title, meta.receiving_ae_title) == ("SCANNER", "SCANNER", "ARCHIVE")
    assert (path.stat().st_mode & 0o777) == 0o640


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_exit_code_0(tmp_path: Path, number: signal.Signals) -> None:
    with receiver(tmp_path / "archive") as found:
        code, _, err = found.stop(number)
    assert code == 0
    assert "Traceback" not in err


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_a_second_signal_ends_it_at_once(tmp_path: Path, number: signal.Signals, expected: int) -> None:
    """The rest of an instance never arrives: the receiver would wait until a timer expires."""
    with receiver(tmp_path / "archive") as found, ScriptedSCU("127.0.0.1", int(found.port)) as peer:
        peer.associate()
        peer.send(store_command())
        found.process.send_signal(number)
        wait_until(lambda: is_closed(int(found.port)))
        code, _, err = found.stop(number)
    assert code == expected
    assert "Traceback" not in err


def is_closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_an_idle_association_is_aborted_when_it_stops(tmp_path: Path) -> None:
    def stop_between_messages(found: Receiver) -> None:
        contexts = [sop_classes.CTImageStorage]
        with blocking.associate("localhost", int(found.port), contexts=contexts) as association:
            assert association.c_store(CT).accepted
            assert found.stop()[0] == 0

    with receiver(tmp_path / "archive") as found, pytest.raises(AbortedError):
        stop_between_messages(found)
    assert len(found.kept()) == 1


def test_json_prints_each_instance_on_stdout(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", "--json") as found:
        dicomport("storescu", "-aet", "SCANNER", "localhost", found.port, CT)
        _, out, _ = found.stop()
    (row,) = map(json.loads, out.splitlines())
    assert row["status"] == 0
    assert row["size"] == 38870
    assert row["calling_ae_title"] == "SCANNER"
    assert row["sop_instance_uid"] == read_part10(CT).meta.media_storage_sop_instance_uid


def test_verbose_logs_associations_and_instances(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", "-v") as found:
        dicomport("storescu", "-aet", "SCANNER", "localhost", found.port, CT)
        _, _, err = found.stop()
    assert "association_accepted" in err
    assert "calling=SCANNER" in err
    assert "instance_stored" in err
    assert "stored=1" in err


def test_a_port_in_use_is_explained(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = dicomport("storescp", str(port), "--archive", tmp_path / "archive")
    assert done.returncode == 1
    assert f"port {port} is in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_of_another_machine_is_explained(tmp_path: Path) -> None:
    done = dicomport("storescp", "0", "--archive", tmp_path / "archive", "-ba", "203.0.113.7", "--allow-any")
    assert done.returncode == 1
    assert "cannot listen on 203.0.113.7:0: Cannot assign requested address; see --bind-address" in done.stderr


PRIVILEGED: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


@pytest.mark.skipif(
    not PRIVILEGED.exists() or int(PRIVILEGED.read_text(encoding="ascii")) <= 104,
    reason="any user may listen on port 104",
)
def test_a_privileged_port_is_explained() -> None:
    with shared_folder() as folder:
        folder.chmod(0o777)
        done = as_owner("storescp", "104", "--archive", folder / "archive")
    assert done.returncode == 1
    assert "port 104 is privileged: grant CAP_NET_BIND_SERVICE or choose a port above 1023" in done.stderr


def test_an_archive_that_can_not_be_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = dicomport("storescp", "0", "--archive", tmp_path / "file" / "archive")
    assert done.returncode == 1
    assert "as the archive folder: Not a directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_archive_that_is_a_file_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = dicomport("storescp", "0", "--archive", tmp_path / "file")
    assert done.returncode == 2
    assert "is a file" in done.stderr


def test_a_reachable_address_needs_allowed_peers(tmp_path: Path) -> None:
    done = dicomport("storescp", "0", "-ba", "0.0.0.0", "--archive", tmp_path / "archive")
    assert done.returncode == 2
    assert "--allow-any" in done.stderr


def test_allow_any_opens_every_interface(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", "-ba", "0.0.0.0", "--allow-any") as found:
        assert dicomport("echoscu", "127.0.0.1", found.port).returncode == 0


def test_a_file_that_can_not_be_written_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    # A limit on the length of files, 256 kB here, stands for a full disk on any machine.
    with receiver(tmp_path / "archive", wrapper=("bash", "-c", 'ulimit -f 250; exec "$@"', "bash")) as found:
        large = dicomport("storescu", "localhost", found.port, FILES / "examples_overlay.dcm")
        small = dicomport("storescu", "localhost", found.port, CT)
    assert large.returncode == 1
    assert "0x0110 Failure: Processing failure (the instance could not be written)" in large.stderr
    assert small.returncode == 0
    assert len(found.kept()) == 1
    assert not list(found.archive.rglob("*.part"))


def test_start_is_importable_as_a_module() -> None:
    process = start("--version")
    out, _ = process.communicate(timeout=60)
    assert out == f"dicomport {__version__}\n"


def test_allow_names_who_may_connect_and_from_where(tmp_path: Path) -> None:
    allowed = ("--allow", "CT1@127.0.0.0/8", "--allow", "*@192.0.2.7", "--allow", "MR1@192.0.2.0/24")
    with receiver(tmp_path / "archive", *allowed) as found:
        assert dicomport("storescu", "-aet", "CT1", "127.0.0.1", found.port, CT).returncode == 0
        for title in ("MR1", "$(reboot)"):
            refused = dicomport("echoscu", "-aet", title, "127.0.0.1", found.port)
            assert refused.returncode == 3
            assert "calling AE title not recognized" in refused.stderr
        _, _, err = found.stop()
    assert "rule MR1@192.0.2.0/24 has this AE title" in err
    assert "allow it with --allow MR1@127.0.0.1" in err
    assert "allow it with --allow '$(reboot)@127.0.0.1'" in err


@pytest.mark.parametrize(
    ("rule", "problem"), [("CT1@nowhere", "'nowhere' is not an address"), ("@192.0.2.7", "at least one character")]
)
def test_an_invalid_rule_is_wrong_usage(tmp_path: Path, rule: str, problem: str) -> None:
    done = dicomport("storescp", "0", "--archive", tmp_path / "archive", "--allow", rule)
    assert done.returncode == 2
    assert "'--allow'" in done.stderr
    assert problem in done.stderr


def test_the_called_ae_title_may_be_required(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", "-aet", "ARCHIVE", "--require-called-aet") as found:
        assert dicomport("echoscu", "-aec", "ARCHIVE", "127.0.0.1", found.port).returncode == 0
        refused = dicomport("echoscu", "-aec", "OTHER", "127.0.0.1", found.port)
        assert refused.returncode == 3
        assert "called AE title not recognized" in refused.stderr
        _, _, err = found.stop()
    assert "called AE title is 'OTHER', expected 'ARCHIVE': set it at the peer, or omit --require-called-aet" in err
    with receiver(tmp_path / "archive", "-aet", "ARCHIVE") as found:
        assert dicomport("echoscu", "-aec", "OTHER", "127.0.0.1", found.port).returncode == 0


def test_users_have_to_be_those_of_the_file(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    for name in ("jane", "joe"):
        hashed = dicomport("password", name, given="hunter2\n")
        assert hashed.returncode == 0
        assert "hunter2" not in hashed.stdout + hashed.stderr
        with passwords.open("a") as file:
            file.write(hashed.stdout)

    def asks(identity: UserIdentityRQ) -> NegotiationResult:
        with blocking.associate(
            "127.0.0.1", int(found.port), contexts=[sop_classes.CTImageStorage], user_identity=identity
        ) as association:
            return association.outcome

    with receiver(tmp_path / "archive", "--passwords", passwords, "-d") as found:
        good = asks(UserIdentityRQ(2, True, b"joe", b"hunter2"))
        assert good.user_identity_response == UserIdentityAC()
        assert asks(UserIdentityRQ(2, False, b"joe", b"hunter2")).user_identity_response is None
        with pytest.raises(RejectedError):
            asks(UserIdentityRQ(2, True, b"joe", b"guessed"))
        assert dicomport("echoscu", "127.0.0.1", found.port).returncode == 3
        _, _, err = found.stop()
    assert "user identity of type 2 is not accepted: unknown user or wrong password" in err
    assert "the request has no user identity" in err
    for secret in ("hunter2", "guessed", "joe"):
        assert secret not in err


@pytest.mark.parametrize(
    ("content", "problem"), [("joe:hunter2", "line 1 has an invalid hash"), (None, "does not exist"), ("\xff", "utf-8")]
)
def test_a_file_of_something_else_is_wrong_usage(tmp_path: Path, content: str | None, problem: str) -> None:
    passwords = tmp_path / "passwords"
    if content is not None:
        passwords.write_text(content, encoding="latin-1")
    done = dicomport("storescp", "0", "--archive", tmp_path / "archive", "--passwords", passwords)
    assert done.returncode == 2
    assert str(passwords) in done.stderr.replace("\n", "")
    assert problem in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(("name", "given"), [("jane", ""), ("jane", "\n"), ("#jane", "hunter2\n")])
def test_an_invalid_log_format_is_wrong_usage(name: str, given: str) -> None:
    done = dicomport("password", name, given=given)
    assert (done.returncode, done.stdout) == (2, "")
    assert "hunter2" not in done.stderr


def test_on_a_terminal_the_password_is_asked_for_twice_and_not_shown() -> None:
    ours, terminal = pty.openpty()
    # Without a controlling terminal, which would be asked instead.
    process = start("password", "jane", wrapper=("setsid", "--wait"), stdin=terminal)
    os.close(terminal)
    assert process.stderr is not None
    asked = ""
    for prompt in ("Password: ", "Repeat for confirmation: "):
        while not asked.endswith(prompt):
            character = process.stderr.read(1)
            assert character, asked
            asked += character
        os.write(ours, b"hunter2\n")
    line, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    nobody: AssociationInfo = None  # type: ignore[assignment]  # it is not looked at
    assert Passwords([line])(UserIdentityRQ(2, True, b"jane", b"hunter2"), nobody) == UserIdentityAC()
    os.set_blocking(ours, False)
    with contextlib.suppress(OSError):
        assert b"hunter2" not in os.read(ours, 4096)
    os.close(ours)


def test_the_sender_and_echoscu_say_who_the_user_is(tmp_path: Path) -> None:
    passwords, secret, wrong = tmp_path / "passwords", tmp_path / "secret", tmp_path / "wrong"
    passwords.write_text(dicomport("password", "jane", given="hunter2").stdout)
    secret.write_text("hunter2\nmore\n")
    wrong.write_text("guessed")
    known, guessed = (("--user", "jane", "--password-file", file) for file in (secret, wrong))
    with receiver(tmp_path / "archive", "--passwords", passwords, "-d") as found:
        peer = ("127.0.0.1", found.port)
        assert dicomport("storescu", *known, *peer, CT).returncode == 0
        assert dicomport("echoscu", *known, *peer).returncode == 0
        assert dicomport("echoscu", "-usr", "jane", "--password-file", "-", *peer, given="hunter2").returncode == 0
        explained = dicomport("echoscu", "--explain", *known, *peer)
        assert explained.returncode == 0
        assert "user identity: accepted" in explained.stderr
        refused = [
            dicomport(command, "-d", *guessed, *peer, *files) for command, *files in (("storescu", CT), ("echoscu",))
        ]
        unproven = dicomport("echoscu", "--user", "jane", *peer)
        _, _, err = found.stop()
    assert [done.returncode for done in (*refused, unproven)] == [3, 3, 3]
    told = err + explained.stderr + "".join(done.stderr + done.stdout for done in refused)
    for word in ("hunter2", "guessed", "jane"):
        assert word not in told
    assert len(found.kept()) == 1


def test_a_receiver_that_checks_nobody_is_told_apart(tmp_path: Path) -> None:
    with receiver(tmp_path / "archive") as found:
        explained = dicomport("echoscu", "--explain", "--user", "jane", "127.0.0.1", found.port)
        as_json = dicomport("echoscu", "--explain", "--json", "-q", "--user", "jane", "127.0.0.1", found.port)
    assert "user identity: not checked" in explained.stderr
    [step] = [step for step in map(json.loads, as_json.stdout.splitlines()) if step["step"] == "associate"]
    assert step["user_identity_accepted"] is False


def test_a_pass_phrase_is_of_a_user(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    done = dicomport("echoscu", "--password-file", tmp_path / "secret", "127.0.0.1", "1")
    assert done.returncode == 2
    assert "--password-file needs --user" in done.stderr

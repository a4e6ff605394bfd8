"""TLS in the commands: options, mutual by default, files read again on SIGHUP, and error messages."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
from pathlib import Path
from typing import IO

import pytest
from tests.certificates import PASSPHRASE, Files, Identity, encrypted
from tests.cli.commands import FILES, Receiver, dicomport, receiver

from dicomport import blocking, tls_client_context
from dicomport.net import ConnectError

CT = FILES / "CT_small.dcm"
VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture
def hospital(tmp_path: Path) -> Files:
    return Files(tmp_path / "hospital")


@pytest.fixture
def server(hospital: Files) -> list[str | Path]:
    return options(hospital, hospital.issue("localhost"))


@pytest.fixture
def client(hospital: Files) -> list[str | Path]:
    return options(hospital, hospital.issue("modality.example"))


def options(hospital: Files, identity: Identity) -> list[str | Path]:
    return ["--tls-cert", identity.certificate, "--tls-key", identity.key, "--tls-ca", hospital.authority]


def line_with(text: str, stream: IO[str] | None) -> str:
    assert stream is not None
    return next(line for line in stream if text in line)


def test_instances_are_stored_over_tls(server: list[str | Path], client: list[str | Path], tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", *server) as found:
        stored = dicomport("storescu", *client, "localhost", found.port, CT)
        echoed = dicomport("echoscu", *client, "localhost", found.port)
        assert len(found.kept()) == 1
    assert (stored.returncode, echoed.returncode) == (0, 0), stored.stderr + echoed.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "connection"),
        (["--tls"], "not trusted"),
        (["--tls-ca", "{ca}"], "requires a certificate"),
        (["--tls-ca", "{ca}", "--tls-cert", "{cert}"], None),
        (["--tls-ca", "{ca}", "--tls-cert", "{cert}", "--tls-profile", "rfc8996-modified"], None),
        (["--add-cert-file", "{ca}", "--tls-cert", "{cert}", "--tls-any-name"], None),
    ],
)
def test_any_tls_option_turns_tls_on(
    hospital: Files, server: list[str | Path], tmp_path: Path, arguments: list[str], told: str | None
) -> None:
    identity = hospital.issue("modality.example")
    both = tmp_path / "both.pem"
    both.write_bytes(identity.certificate.read_bytes() + identity.key.read_bytes())
    given = [argument.format(ca=hospital.authority, cert=both) for argument in arguments]
    with receiver(tmp_path / "archive", *server) as found:
        done = dicomport("echoscu", *given, "localhost", found.port)
    assert done.returncode == (3 if told else 0), done.stderr
    if told is not None:
        assert told in done.stderr


def test_explain_recognizes_tls(server: list[str | Path], client: list[str | Path], tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", *server) as found:
        done = dicomport("echoscu", "--explain", "--json", *client, "localhost", found.port)
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    [tls] = [step for step in steps if step["step"] == "tls"]
    assert (done.returncode, tls["version"], tls["certificate_asked"]) == (0, "TLSv1.3", True)
    assert tls["certificate"]["names"] == ["localhost"]
    assert "certificate of " in done.stderr
    assert "the peer asked for a client certificate" in done.stderr


def test_explain_recognizes_missing_tls(server: list[str | Path], tmp_path: Path) -> None:
    with receiver(tmp_path / "archive", *server) as found:
        done = dicomport("echoscu", "--explain", "localhost", found.port)
    assert done.returncode == 3
    assert "advice: Connect with --tls." in done.stderr


def test_anonymous_clients_are_accepted_if_configured(hospital: Files, tmp_path: Path) -> None:
    identity = hospital.issue("localhost")
    files = ("--tls-cert", identity.certificate, "--tls-key", identity.key)
    with receiver(tmp_path / "archive", *files, "--tls-anonymous-clients") as found:
        done = dicomport("echoscu", "--tls-ca", hospital.authority, "localhost", found.port)
    assert done.returncode == 0


def test_a_pass_phrase_comes_from_a_file_or_the_environment(
    hospital: Files, client: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = hospital.issue("localhost")
    secret = tmp_path / "secret"
    secret.write_text(f"{PASSPHRASE}\n")
    files = options(hospital, Identity(identity.certificate, encrypted(identity.key)))
    with receiver(tmp_path / "archive", *files, "--tls-passphrase-file", secret) as found:
        assert dicomport("echoscu", *client, "localhost", found.port).returncode == 0
    monkeypatch.setenv("DICOMPORT_TLS_PASSPHRASE", PASSPHRASE)
    with receiver(tmp_path / "archive", *files) as found:
        assert dicomport("echoscu", *client, "localhost", found.port).returncode == 0


def test_the_files_may_be_named_in_the_settings(hospital: Files, client: list[str | Path], tmp_path: Path) -> None:
    identity = hospital.issue("localhost")
    settings = tmp_path / "storescp.toml"
    settings.write_text(
        f"""
        tls-cert = "{identity.certificate.relative_to(tmp_path)}"
        tls-key = "{identity.key}"
        tls-ca = "{hospital.authority}"
        """
    )
    with receiver(tmp_path / "archive", "--config", settings) as found:
        assert dicomport("echoscu", *client, "localhost", found.port).returncode == 0
        assert dicomport("echoscu", "localhost", found.port).returncode == 3


def test_invalid_tls_files_give_exit_code_2(hospital: Files, tmp_path: Path) -> None:
    pacs, modality = hospital.issue("localhost"), hospital.issue("modality.example")
    locked = encrypted(pacs.key)
    missing = tmp_path / "missing.pem"
    for arguments, complaint in (
        (["--tls"], "TLS needs the receiver's certificate and key"),
        (["--tls-ca", hospital.authority], "TLS needs the receiver's certificate and key"),
        (["--tls-cert", pacs.certificate, "--tls-key", pacs.key], "name the clients' authorities with --tls-ca FILE"),
        (["--tls-cert", missing, "--tls-ca", hospital.authority], f"cannot read {missing}"),
        (
            ["--tls-cert", pacs.certificate, "--tls-key", modality.key, "--tls-ca", hospital.authority],
            "does not belong to the certificate in",
        ),
        (
            ["--tls-cert", pacs.certificate, "--tls-key", locked, "--tls-ca", hospital.authority],
            "is encrypted: specify its passphrase",
        ),
        ([*options(hospital, pacs), "--tls-crl", missing], f"cannot read {missing}"),
        (
            [*options(hospital, pacs), "--tls-crl", hospital.revoke(left=-dt.timedelta(days=1))],
            "has expired on",
        ),
        (
            [*options(hospital, pacs), "--tls-passphrase-file", missing],
            f"cannot read --tls-passphrase-file {missing}",
        ),
    ):
        done = dicomport("storescp", "0", "--archive", tmp_path / "archive", *arguments)
        assert done.returncode == 2
        assert complaint in " ".join(done.stderr.split())
    done = dicomport("storescu", "--tls-key", pacs.key, "localhost", "104", CT)
    assert (done.returncode, "specify the certificate too" in done.stderr) == (2, True)


class Renewal:
    """A receiver whose files are changed under it."""

    def __init__(self, found: Receiver, hospital: Files) -> None:
        self._found = found
        self._context = tls_client_context(authorities=hospital.authority)

    def signal(self, event: str) -> str:
        os.kill(self._found.process.pid, signal.SIGHUP)
        return line_with(event, self._found.process.stderr)

    def serves(self) -> bool:
        with blocking.associate(
            "localhost", int(self._found.port), contexts=[VERIFICATION], tls=self._context
        ) as association:
            return association.c_echo().accepted


def test_sighup_reads_the_files_again(hospital: Files, tmp_path: Path) -> None:
    """New connections use the new files, open ones continue; invalid files change nothing."""
    identity = hospital.issue("localhost")
    files = ("--tls-cert", identity.certificate, "--tls-key", identity.key, "--tls-anonymous-clients", "-v")
    newcomers = Files(tmp_path / "newcomers")
    with receiver(tmp_path / "archive", *files) as found:
        old = Renewal(found, hospital)
        new = Renewal(found, newcomers)
        assert old.serves()
        with blocking.associate(
            "localhost",
            int(found.port),
            contexts=[VERIFICATION],
            tls=tls_client_context(authorities=hospital.authority),
        ) as association:
            replaced = newcomers.issue("localhost")
            identity.certificate.write_bytes(replaced.certificate.read_bytes())
            assert "does not belong to the certificate" in old.signal("reload_failed")
            assert old.serves()

            identity.key.write_bytes(replaced.key.read_bytes())
            new.signal("settings_reloaded")
            assert new.serves()
            with pytest.raises(ConnectError, match="not trusted"):
                old.serves()
            assert association.c_echo().accepted
        code, _, _ = found.stop()
    assert code == 0


def test_t3_a_revoked_client_is_rejected_after_a_reload(hospital: Files, tmp_path: Path) -> None:
    """A list that would reject all peers changes nothing."""
    pacs, ct1, mr1 = (hospital.issue(name) for name in ("localhost", "ct1.example", "mr1.example"))
    crls = hospital.revoke()
    with receiver(tmp_path / "archive", *options(hospital, pacs), "--tls-crl", crls, "-v") as found:
        echo = ("localhost", found.port)
        assert dicomport("echoscu", *options(hospital, ct1), "--tls-crl", crls, *echo).returncode == 0

        def reload(event: str) -> str:
            os.kill(found.process.pid, signal.SIGHUP)
            return line_with(event, found.process.stderr)

        hospital.revoke(left=-dt.timedelta(days=1))
        assert "has expired" in reload("reload_failed")
        assert dicomport("echoscu", *options(hospital, ct1), *echo).returncode == 0
        hospital.revoke(ct1)
        reload("settings_reloaded")
        refused = dicomport("echoscu", *options(hospital, ct1), *echo)
        assert (refused.returncode, "revoked" in refused.stderr) == (3, True)
        assert dicomport("echoscu", *options(hospital, mr1), *echo).returncode == 0


def test_echoscu_explains_a_revoked_receiver(server: list[str | Path], hospital: Files, tmp_path: Path) -> None:
    client = options(hospital, hospital.issue("ct1.example"))
    crls = hospital.revoke(Identity(hospital.authority.parent / "localhost.pem", hospital.authority))
    with receiver(tmp_path / "archive", *server) as found:
        done = dicomport("echoscu", "--explain", *client, "--tls-crl", crls, "localhost", found.port)
    assert done.returncode == 3
    assert "certificate revoked" in done.stdout + done.stderr
    assert "revoked the certificate" in done.stdout + done.stderr


def test_a_common_name_is_a_host_name_only_if_the_user_says_so(
    client: list[str | Path], hospital: Files, tmp_path: Path
) -> None:
    nameless = hospital.issue(common_name="localhost")
    with receiver(tmp_path / "archive", *options(hospital, nameless)) as found:
        refused = dicomport("echoscu", *client, "localhost", found.port)
        accepted = dicomport("echoscu", *client, "--tls-common-name", "localhost", found.port)
    assert (refused.returncode, "mismatch" in refused.stderr) == (3, True), refused.stderr
    assert accepted.returncode == 0, accepted.stderr


def test_an_expired_certificate_of_our_own_is_warned_of(hospital: Files) -> None:
    old = hospital.issue("modality.example", not_after=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    done = dicomport("echoscu", *options(hospital, old), "no-such-host.invalid", "104")
    assert f"certificate_expired file={old.certificate}" in done.stderr

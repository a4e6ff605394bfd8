"""`storescp --config`: settings from a file, what is wrong with them, and a table for each peer."""

import ipaddress
import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
import trustme
from tests.cli.commands import FILES, dicomport, receiver

from dicomport import PeerRule, sop_classes
from dicomport.cli.receiver.peer_tables import PeerSettings
from dicomport.cli.storescp import storescp
from dicomport.scp import hash_password

CT = FILES / "CT_small.dcm"
PAGE = Path(__file__).parent.parent.parent / "docs" / "receiver.md"


def parsed(folder: Path, text: str, *arguments: str) -> dict[str, Any]:
    """Return the options' values with this file."""
    file = folder / "storescp.toml"
    file.write_text(text, encoding="utf-8")
    return storescp.make_context("storescp", ["--config", str(file), *arguments]).params


def configured(folder: Path, text: str) -> list[PeerSettings]:
    return list(parsed(folder, text)["configured"])


# Settings of the command line.


def test_the_settings_have_the_names_of_the_options(tmp_path: Path) -> None:
    text = """
        port = 104
        ae-title = "ARCHIVE"
        bind-address = "0.0.0.0"
        allow = ["CT1@192.0.2.7", "*@2001:db8::/32"]
        require-called-aet = true
        json = false
        archive = "received"
        min-free = "2G"
        quarantine-size = 1000000
        max-pdu = 65536
        acse-timeout = 5
        study-timeout = 2.5
        duplicates = "keep-both"
        check = ["whole=accept", "identity=refuse"]
        verbose = true
    """
    found = parsed(tmp_path, text)
    plain = storescp.make_context("storescp", []).params
    assert found["port"] == 104
    assert found["ae_title"] == "ARCHIVE"
    assert found["bind_address"] == "0.0.0.0"
    assert found["allow"] == (PeerRule.parse("CT1@192.0.2.7"), PeerRule.parse("*@2001:db8::/32"))
    assert (found["require_called_aet"], found["as_json"], found["log_level"]) == (True, False, 20)
    assert found["root"] == tmp_path / "received"
    assert (found["min_free"], found["quarantine_size"], found["maximum_length"]) == (2 * 10**9, 10**6, 65536)
    assert (found["acse"], found["study_timeout"]) == (5.0, 2.5)
    assert found["checks"] == (("whole", "accept"), ("identity", "refuse"))
    named = {"port", "ae_title", "bind_address", "allow", "require_called_aet", "as_json", "root", "min_free"}
    named |= {
        "layout",
        "log_level",
        "checks",
        "configured",
        "quarantine_size",
        "maximum_length",
        "acse",
        "study_timeout",
        "duplicates",
    }
    assert {name: value for name, value in found.items() if name not in named} == {
        name: value for name, value in plain.items() if name not in named
    }


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    found, plain = parsed(tmp_path, "# nothing"), storescp.make_context("storescp", []).params
    assert {**found, "layout": None} == {**plain, "layout": None}


def test_the_command_line_wins(tmp_path: Path) -> None:
    text = 'port = 104\nae-title = "FILE"\nallow = ["FILE"]\nallow-any = true\nverbose = true\nmin-free = "2G"\n'
    found = parsed(tmp_path, text, "105", "-aet", "LINE", "--allow", "LINE", "-q", "--min-free", "1G")
    assert (found["port"], found["ae_title"], found["allow"]) == (105, "LINE", (PeerRule.parse("LINE"),))
    assert (found["log_level"], found["min_free"], found["allow_any"]) == (40, 10**9, True)


def test_every_long_option_is_a_setting(tmp_path: Path) -> None:
    """Each setting is known; the error is about the type of the value."""
    for parameter in storescp.params:
        for name in parameter.opts:
            if name.startswith("--") and name not in {"--config", "--help"}:
                with pytest.raises(click.UsageError, match=rf"storescp\.toml: {name[2:]} = "):
                    parsed(tmp_path, f"{name[2:]} = 2026-01-01")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ae_title = 'X'", 'unknown setting "ae_title"; did you mean "ae-title"'),
        ("colour = 'red'", 'unknown setting "colour"; valid: .*, ae-title, allow, allow-any, .*, peers, port, '),
        ("config = 'x'", 'unknown setting "config"'),
        ("help = true", 'unknown setting "help"'),
        ("port = 65536", "port = 65536: .65536. is invalid; expected a whole number from 0 to 65535"),
        ("port = 1.5", "port = 1.5: '1.5' is invalid; expected a whole number from 0 to 65535"),
        ("port = true", "port = True: expected text in quotes, or a number"),
        ("ae-title = 'SEVENTEEN_LETTERS'", "ae-title = 'SEVENTEEN_LETTERS': AE title .* maximum is 16"),
        ("ae-title = ['X']", r"ae-title = \['X'\]: expected text in quotes, or a number"),
        ("allow = 'CT1'", "allow = 'CT1': expected an array in brackets"),
        ("allow = ['CT1', 2026-01-01]", r"allow = datetime.date\(2026, 1, 1\): expected text"),
        ("allow = ['CT1@x']", r"allow = \['CT1@x'\]: 'x' is not an address or network, such as 192.0.2.7"),
        ("allow-any = 'yes'", "allow-any = 'yes': expected true or false"),
        ("durability = 'none'", "durability = 'none': 'none' is not one of 'fsync'"),
        ("min-free = 'lots'", "min-free = 'lots': 'lots' is not a valid size; expected a number"),
        ("acse-timeout = 0", "acse-timeout = 0: .0. is invalid; expected a number from 0.1 to 86400"),
        ("passwords = 'nowhere'", "passwords = 'nowhere': File '.*nowhere' does not exist"),
        ("archive = 'a'\noutput-directory = 'b'", "archive and output-directory are the same setting"),
        ("verbose = true\nquiet = true", "verbose and quiet are the same setting"),
        ("[storescp]\nport = 104", 'unknown setting "storescp"'),
        ("port = x", r"is not valid TOML: Invalid value \(at line 1, column 8\)"),
        ("port = 1\nport = 2", "is not valid TOML: Cannot overwrite a value"),
        ("peers = 3", r"peers must be tables: begin each with \[peers.NAME\]"),
        ("[peers]\nae-title = 'CT1'", r"peers must be tables"),
        ("min-rate = 'nan'", "min-rate = 'nan': 'nan' is invalid; expected a number of 0 or more"),
        ("port = x2\n", "is not valid TOML"),
        (f"port = {'[' * 5000}", "is nested too deeply"),
        # Unknown names come first: a misspelt one may be the cause of other errors.
        ("port = 65536\nprot = 104", 'unknown setting "prot"; did you mean "port"'),
        (
            "port = 65536\n[peers.ct]\nae-titel = 'CT1'",
            r'\[peers.ct\] unknown setting "ae-titel"; did you mean "ae-title"',
        ),
        ("[peers.ct]\nnetworks = []\n[peers.mr]\nnetwork = ['x']", r'\[peers.mr\] unknown setting "network"'),
    ],
)
def test_an_invalid_value_is_reported_with_the_allowed_ones(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(click.UsageError, match=problem) as raised:
        parsed(tmp_path, text)
    assert raised.value.message.startswith(str(tmp_path / "storescp.toml"))


def test_a_binary_file_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "storescp.toml"
    file.write_bytes(b"ae-title = '\xff'")
    with pytest.raises(click.UsageError, match="is not valid TOML: 'utf-8' codec"):
        storescp.make_context("storescp", ["--config", str(file)])
    with pytest.raises(click.UsageError, match="does not exist"):
        storescp.make_context("storescp", ["--config", str(tmp_path / "nowhere.toml")])


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "{b = " * 50_000])
def test_a_deeply_nested_file_is_reported(tmp_path: Path, text: str) -> None:
    with pytest.raises(click.UsageError):
        parsed(tmp_path, text)


# Peers.


def test_a_table_says_who_a_peer_is_and_what_is_taken_of_it(tmp_path: Path) -> None:
    text = """
        [peers.ct]
        ae-title = " CT1 "
        networks = ["192.0.2.0/24", "2001:db8::7"]
        certificate = ["ct1.example", "CT1"]
        sop-classes = ["CTImageStorage", "1.2.840.10008.5.1.4.1.1.7", "1.2.3.4"]
        transfer-syntaxes = ["ExplicitVRLittleEndian", "1.2.840.10008.1.2", "1.2.3.5"]
        max-associations = 4
        max-instance-size = "2G"
        user-identity-required = false
        archive = "ct"
        [peers."the rest"]
        ae-title = "*"
    """
    peer = PeerRule(
        rule="peers.ct",
        ae_title="CT1",
        networks=(ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::7/128")),
        certificate_names=("ct1.example", "CT1"),
        sop_classes=(sop_classes.CTImageStorage.uid, "1.2.840.10008.5.1.4.1.1.7", "1.2.3.4"),
        transfer_syntaxes=("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.3.5"),
        associations=4,
        instance_bytes=2 * 10**9,
        user_identity_required=False,
    )
    assert configured(tmp_path, text) == [
        PeerSettings(peer, tmp_path / "ct"),
        PeerSettings(PeerRule(rule="peers.the rest"), None),
    ]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (
            "aetitle = 'CT1'\nnetworks = ['192.0.2.7']",
            r'\[peers.ct\] unknown setting "aetitle"; did you mean "ae-title"\?',
        ),
        (
            "ae-title = 'X'\ncolour = 1",
            'unknown setting "colour"; valid: ae-title, archive, certificate, max-associations, ',
        ),
        ("archive = 'ct'", r'\[peers.ct\] matches no peer: add ae-title \("\*" is any\), networks or certificate'),
        ("ae-title = 3", r"\[peers.ct\] ae-title = 3: expected text in quotes"),
        ("ae-title = ''", "ae-title = '': an AE title must have at least one character"),
        ("networks = '192.0.2.7'", "networks = '192.0.2.7': expected an array in brackets"),
        ("networks = []", r"networks = \[\]: expected at least one value"),
        ("certificate = []", r"certificate = \[\]: expected at least one value"),
        (
            "networks = ['192.0.2.7/24']",
            "networks = '192.0.2.7/24': .* bits outside its network mask; the network is 192.0.2.0/24",
        ),
        ("networks = [7]", "networks = 7: expected text in quotes"),
        ("certificate = [' ']", "certificate = ' ': expected a name in the peer's TLS certificate"),
        (
            "sop-classes = ['CTImageStore']",
            'expected a UID or the keyword of a SOP Class; did you mean "CTImageS',
        ),
        ("sop-classes = ['1.2.']", "sop-classes = '1.2.': expected a UID"),
        (f"sop-classes = ['1.{'2' * 63}']", "expected a UID"),
        ("transfer-syntaxes = ['ExplicitVR']", 'keyword of a transfer syntax; did you mean "ExplicitVR'),
        ("user-identity-required = 'no'", "user-identity-required = 'no': expected true or false"),
        ("max-associations = 0", "max-associations = 0: expected a number, 1 or more"),
        ("max-associations = true", "max-associations = True: expected a number"),
        (
            "max-instance-size = 'big'",
            "max-instance-size = 'big': 'big' is not a valid size; expected a number",
        ),
        ("max-instance-size = -1", "max-instance-size = -1: expected a number, 1 or more"),
        ("archive = ['ct']", r"archive = \['ct'\]: expected text in quotes"),
    ],
)
def test_an_invalid_table_is_reported_with_the_allowed_values(tmp_path: Path, table: str, problem: str) -> None:
    whole = (
        table if "ae-title" in table or table.startswith(("archive = 'ct'", "networks")) else f"ae-title = 'X'\n{table}"
    )
    with pytest.raises(click.UsageError, match=problem) as raised:
        parsed(tmp_path, f"[peers.ct]\n{whole}")
    assert raised.value.message.startswith(f"{tmp_path / 'storescp.toml'}: [peers.ct] ")


# The receiver.


def test_each_peer_has_what_its_table_says(tmp_path: Path) -> None:
    (tmp_path / "storescp.toml").write_text(
        """
        allow = ["MR1"]
        [peers.ct]
        ae-title = "CT1"
        networks = ["127.0.0.0/8"]
        sop-classes = ["CTImageStorage"]
        archive = "of ct"
        [peers.far]
        ae-title = "FAR"
        networks = ["192.0.2.0/24"]
        """
    )
    mr = FILES / "MR_small.dcm"
    with receiver(tmp_path / "main", "--config", tmp_path / "storescp.toml", "-v") as found:
        where = ("127.0.0.1", found.port)
        assert dicomport("storescu", "-aet", "CT1", *where, CT).returncode == 0
        assert dicomport("storescu", "-aet", "CT1", *where, mr).returncode == 1
        assert dicomport("storescu", "-aet", "MR1", *where, mr).returncode == 0
        assert dicomport("echoscu", "-aet", "FAR", *where).returncode == 3
        code, _, err = found.stop()
    assert code == 0
    assert "rule=peers.ct" in err
    assert "rule=MR1" in err
    assert "rule peers.far has this AE title" in err
    for archive, modality in ((tmp_path / "of ct", "CT"), (tmp_path / "main", "MR")):
        listed = dicomport("archive", "ls", "--archive", archive, "--level", "series", "--json")
        [series] = map(json.loads, listed.stdout.splitlines())
        assert series["modality"] == modality
        assert dicomport("archive", "verify", "--archive", archive).returncode == 0


def test_hooks_and_studies_of_a_peer_s_archive_are_as_those_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "storescp.toml").write_text('[peers.ct]\nae-title = "CT1"\narchive = "ct"\n')
    told = tmp_path / "told"
    hook = f"tee -a {told}"
    with receiver(tmp_path / "main", "--config", tmp_path / "storescp.toml", "--on-study", hook) as found:
        assert dicomport("storescu", "-aet", "CT1", "127.0.0.1", found.port, CT).returncode == 0
        assert found.stop()[0] == 0
    [study] = map(json.loads, told.read_text().splitlines())
    assert (study["event"], study["instances"]) == ("study", 1)
    assert study["archive"] == str((tmp_path / "ct").resolve())


@pytest.mark.parametrize("own", ["main/ct", "."])
def test_no_archive_is_inside_another_one(tmp_path: Path, own: str) -> None:
    (tmp_path / "storescp.toml").write_text(f'[peers.ct]\nae-title = "CT1"\narchive = "{own}"\n')
    done = dicomport("storescp", "0", "--archive", tmp_path / "main", "--config", tmp_path / "storescp.toml")
    assert done.returncode == 2
    assert "is inside archive" in done.stderr


def test_the_page_s_examples_are_read_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "passwords").write_text(hash_password("jane", "hunter2"))
    examples = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    [whole] = [parsed(tmp_path, example) for example in examples]
    assert (whole["ae_title"], whole["bind_address"], whole["require_called_aet"]) == ("ARCHIVE", "0.0.0.0", True)
    assert whole["allow"] == (PeerRule.parse("*@198.51.100.0/24"),)
    assert whole["passwords"] == tmp_path / "passwords"
    ct, ward = whole["configured"]
    assert ct.peer.certificate_names == ("ct1.hospital.example",)
    assert ct.peer.sop_classes == (sop_classes.CTImageStorage.uid, sop_classes.EnhancedCTImageStorage.uid)
    assert (ct.archive, ward.archive) == (tmp_path / "/srv/dicom/ct1", None)
    assert ward.peer.user_identity_required is False


def test_a_certificate_is_asked_for_with_tls_alone(tmp_path: Path) -> None:
    (tmp_path / "storescp.toml").write_text('port = 0\n[peers.ct]\nae-title = "CT1"\ncertificate = ["ct1.example"]\n')
    done = dicomport("storescp", "--archive", tmp_path / "main", "--config", tmp_path / "storescp.toml")
    assert done.returncode == 2
    assert "[peers.ct] requires a certificate, which needs TLS" in done.stderr


def test_settings_of_tls_are_taken_from_the_file_and_certificates_decide(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "pacs.pem")
    for name in ("ct1", "mr1"):
        made = authority.issue_cert(f"{name}.example").private_key_and_cert_chain_pem
        made.write_to_path(tmp_path / f"{name}.pem")
    (tmp_path / "storescp.toml").write_text(
        'tls-cert = "pacs.pem"\ntls-ca = "ca.pem"\n[peers.ct]\nae-title = "CT1"\ncertificate = ["ct1.example"]\n'
    )
    with receiver(tmp_path / "main", "--config", tmp_path / "storescp.toml") as found:
        for name, title, code in (("ct1", "CT1", 0), ("ct1", "MR1", 3), ("mr1", "CT1", 3)):
            shown = ("--tls-cert", tmp_path / f"{name}.pem", "--tls-ca", tmp_path / "ca.pem")
            assert dicomport("echoscu", "-aet", title, *shown, "127.0.0.1", found.port).returncode == code
        _, _, err = found.stop()
    assert "calling AE title 'MR1' from 127.0.0.1 matches no rule" in err
    assert "no rule for 127.0.0.1 allows the certificate names mr1.example" in err


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="this system has no unreadable file")
def test_a_file_that_cannot_be_read_is_reported() -> None:
    done = dicomport("storescp", "--config", "/proc/self/mem")
    assert (done.returncode, "/proc/self/mem: Input/output error" in done.stderr) == (2, True)

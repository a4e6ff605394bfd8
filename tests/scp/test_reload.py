"""`StorageSCP.reload`: peers, user identities and TLS change together, and open associations notice nothing."""

import contextlib
import ssl
from collections.abc import Iterator
from typing import Final

import pytest
import trustme
from tests.scp.messages import DATA_SET, request
from tests.scp.storages import Recorder

from dicomport import AssociationInfo, PeerRule, StorageSCP
from dicomport.testing import ScriptedSCU
from dicomport.wire import AssociateAC, AssociateRJ, RejectReason, UserIdentityAC, UserIdentityRQ, UserInformation

UNKNOWN_CALLING: Final = AssociateRJ(RejectReason.CALLING_AE_TITLE_NOT_RECOGNIZED)
WRONG_IDENTITY: Final = AssociateRJ(RejectReason.ACSE_NO_REASON)
LIMIT_EXCEEDED: Final = AssociateRJ(RejectReason.LOCAL_LIMIT_EXCEEDED, transient=True)


@contextlib.contextmanager
def asking(
    scp: StorageSCP, calling: str = "CT1", *, user: bytes | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[ScriptedSCU, object]]:
    """Request an association; yield the peer and the answer."""
    identity = None if user is None else UserIdentityRQ(2, False, user, b"secret")  # as on the wire
    with ScriptedSCU("127.0.0.1", scp.port, tls=tls) as peer:
        peer.send(request(calling=calling, items=UserInformation(maximum_length=16384, user_identity=identity)))
        yield peer, peer.receive()


def answer(
    scp: StorageSCP, calling: str = "CT1", *, user: bytes | None = None, tls: ssl.SSLContext | None = None
) -> object:
    with asking(scp, calling, user=user, tls=tls) as (peer, reply):
        if isinstance(reply, AssociateAC):
            peer.release()
            return None
        return reply


def test_reload_replaces_the_peers_and_keeps_open_associations() -> None:
    with (
        StorageSCP(Recorder(), port=0, allow=["CT1"]).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as silent,
        asking(scp) as (peer, _),
    ):
        scp.reload(allow=["MR1"], allow_any=False, user_identity=None, tls=None)
        assert answer(scp, "MR1") is None
        assert answer(scp, "CT1") == UNKNOWN_CALLING
        # A connection that has not requested anything yet is answered by the new rules.
        silent.send(request(calling="CT1"))
        assert silent.receive() == UNKNOWN_CALLING
        assert peer.store("1.2.3.4", DATA_SET).status == 0x0000
        peer.release()


def test_a_known_request_is_answered_by_the_rules_of_its_time() -> None:
    def results() -> object:
        with asking(scp) as (peer, reply):
            if isinstance(reply, AssociateAC):
                peer.release()
                return [context.result.name for context in reply.presentation_contexts]
            return reply

    with StorageSCP(Recorder(), port=0, allow=["CT1"]).in_thread() as scp:
        accepted = results()
        assert results() == accepted
        assert (scp._known_requests.decoded, scp._known_requests.negotiated) == (1, 1)
        nothing = PeerRule(rule="ct", ae_title="CT1", sop_classes=())
        scp.reload(allow=[nothing], allow_any=False, user_identity=None, tls=None)
        assert "ABSTRACT_SYNTAX_NOT_SUPPORTED" in str(results())
        scp.reload(allow=["MR1"], allow_any=False, user_identity=None, tls=None)
        assert results() == UNKNOWN_CALLING
        scp.reload(allow=["CT1"], allow_any=False, user_identity=jane, tls=None)
        assert results() == WRONG_IDENTITY
        scp.reload(allow=["CT1"], allow_any=False, user_identity=None, tls=None)
        assert results() == accepted
        assert scp._known_requests.decoded == 1


def test_a_reloaded_rule_counts_its_open_associations() -> None:
    one = PeerRule(rule="ct", ae_title="CT1", associations=1)
    with StorageSCP(Recorder(), port=0, allow=[one]).in_thread() as scp:
        with asking(scp) as (peer, _):
            others = PeerRule(rule="mr", ae_title="MR1", associations=5)
            scp.reload(allow=[others, one], allow_any=False, user_identity=None, tls=None)
            assert answer(scp) == LIMIT_EXCEEDED
            scp.reload(
                allow=[PeerRule(rule="ct", ae_title="CT1", associations=2)],
                allow_any=False,
                user_identity=None,
                tls=None,
            )
            assert answer(scp) is None
            peer.release()
        assert answer(scp) is None


def test_rules_of_the_same_name_are_counted_separately() -> None:
    rules = [PeerRule(rule="same", ae_title=title, associations=1) for title in ("CT1", "CT2")]
    with StorageSCP(Recorder(), port=0, allow=rules).in_thread() as scp, asking(scp, "CT1") as (peer, _):
        assert answer(scp, "CT2") is None
        assert answer(scp, "CT1") == LIMIT_EXCEEDED
        peer.release()


def jane(identity: UserIdentityRQ, _association: AssociationInfo) -> UserIdentityAC | None:
    return UserIdentityAC() if identity.primary_field == b"jane" else None


def joe(identity: UserIdentityRQ, _association: AssociationInfo) -> UserIdentityAC | None:
    return UserIdentityAC() if identity.primary_field == b"joe" else None


def test_reload_replaces_the_check_of_user_identities() -> None:
    with (
        StorageSCP(Recorder(), port=0, user_identity=jane).in_thread() as scp,
        asking(scp, user=b"jane") as (peer, _),
    ):
        scp.reload(allow=None, allow_any=False, user_identity=joe, tls=None)
        assert answer(scp, user=b"joe") is None
        assert answer(scp, user=b"jane") == WRONG_IDENTITY
        scp.reload(allow=None, allow_any=False, user_identity=None, tls=None)
        assert answer(scp) is None
        assert peer.store("1.2.3.4", DATA_SET).status == 0x0000
        peer.release()


def contexts(authority: trustme.CA) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's and a client's context."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def test_reload_replaces_the_tls_context_and_keeps_open_associations() -> None:
    old_server, old_client = contexts(trustme.CA())
    new_server, new_client = contexts(trustme.CA())
    with (
        StorageSCP(Recorder(), port=0, tls=old_server).in_thread() as scp,
        asking(scp, tls=old_client) as (peer, _),
    ):
        scp.reload(allow=None, allow_any=False, user_identity=None, tls=new_server)
        assert answer(scp, tls=new_client) is None
        with pytest.raises(ssl.SSLCertVerificationError):
            answer(scp, tls=old_client)
        assert peer.store("1.2.3.4", DATA_SET).status == 0x0000
        peer.release()


def test_an_invalid_reload_changes_nothing() -> None:
    server, client = contexts(trustme.CA())
    with StorageSCP(Recorder(), port=0, allow=["CT1"], user_identity=jane, tls=server).in_thread() as scp:
        with pytest.raises(ValueError, match="nowhere"):
            scp.reload(allow=["MR1", "MR@nowhere"], allow_any=True, user_identity=None, tls=None)
        assert answer(scp, "MR1", user=b"jane", tls=client) == UNKNOWN_CALLING
        assert answer(scp, user=b"joe", tls=client) == WRONG_IDENTITY
        assert answer(scp, user=b"jane", tls=client) is None


def test_a_reload_does_not_open_a_reachable_address_to_all() -> None:
    scp = StorageSCP(Recorder(), host="0.0.0.0", port=0, allow=["CT1"])  # that is the point
    with pytest.raises(ValueError, match="other machines can reach"):
        scp.reload(allow=None, allow_any=False, user_identity=None, tls=None)

"""pynetdicom with TLS as the peer, on both sides, each with a certificate that the other side requires."""

from __future__ import annotations

import ssl

import pydicom
import pytest
from pynetdicom import AE, build_context, evt
from tests.interop.conftest import HOST, TEST_FILES, TLS, Recorder, copies_of
from tests.interop.test_pynetdicom import CT_CLASS, EXPLICIT, SOON, Received, associated, store

import dicomport
from dicomport import ConnectError, StorageSCP, TLSProfile
from dicomport.scu import instance_from_path

pytestmark = [
    pytest.mark.timeout(60),
    # If the peer closes first, pynetdicom drops its socket without closing it.
    pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning"),
]

CT = TEST_FILES / "CT_small.dcm"


@pytest.mark.parametrize("profile", TLSProfile)
def test_it_stores_with_us(tls: TLS, profile: TLSProfile) -> None:
    recorder = Recorder()
    with (
        StorageSCP(recorder, port=0, tls=tls.server(profile)).in_thread() as scp,
        associated(scp, tls_args=(tls.client(profile), HOST)) as association,
    ):
        assert store(association, pydicom.dcmread(CT)).Status == 0x0000
    assert recorder.copies == copies_of([instance_from_path(CT)])
    (association_info,) = recorder.associations.values()
    assert association_info.tls_fingerprint.startswith("sha256:")


@pytest.mark.parametrize("profile", TLSProfile)
def test_we_store_with_it(tls: TLS, profile: TLSProfile) -> None:
    received = Received()
    server = AE(ae_title="PYNETDICOM").start_server(
        (HOST, 0),
        block=False,
        ssl_context=tls.server(profile),
        evt_handlers=[(evt.EVT_C_STORE, received)],
        contexts=[build_context(CT_CLASS, EXPLICIT)],
    )
    assert server is not None
    port = server.server_address[1]
    try:
        report = dicomport.blocking.send([CT], HOST, port, tls=tls.client(profile))
        assert [(result.path, result.reason) for result in report.failed] == []
        with (
            pytest.raises(ConnectError, match="not trusted"),
            dicomport.blocking.associate(HOST, port, contexts=[CT_CLASS], tls=ssl.create_default_context()),
        ):
            pass
    finally:
        for association in server.active_associations:
            association.join(SOON)
        server.shutdown()
    assert received.copies == copies_of([instance_from_path(CT)])

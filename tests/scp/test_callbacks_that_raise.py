"""An exception of a callback is logged without its text, and costs the peer nothing that is safe already."""

import logging
from typing import Final

import pytest
from tests.scp.messages import DATA_SET, request
from tests.scp.storages import Recorder

from dicomport import ConnectError, StorageSCP
from dicomport.logs import TextFormatter
from dicomport.testing import ScriptedSCU
from dicomport.wire import AssociateRJ

SECRET: Final = "DOE^JOHN"
ERRORS: Final = [
    ValueError(SECRET),
    OSError(SECRET),
    OSError(5, SECRET, SECRET),
    TimeoutError(SECRET),
    ConnectError(SECRET),
]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines of the log from level info up, as the receiver writes them."""
    return [TextFormatter().format(record) for record in caplog.records if record.levelno >= logging.INFO]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: f"{type(error).__name__} {len(error.args)}")
def test_an_exception_of_on_stored_costs_the_peer_nothing(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    caplog.set_level(logging.INFO)
    storage = Recorder()
    with (
        StorageSCP(storage, port=0, on_stored=fail).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as peer,
    ):
        peer.associate()
        statuses = [peer.store(uid, DATA_SET).status for uid in ("1.2.3.4", "1.2.3.5")]
        peer.release()
    assert statuses == [0, 0]
    assert list(storage.data) == ["1.2.3.4", "1.2.3.5"]
    log = "\n".join(lines(caplog))
    assert [log.count(event) for event in ("on_stored_raised", "instance_stored", "connection_ended")] == [2, 2, 0]
    assert "stored=2" in log
    assert SECRET not in log


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: f"{type(error).__name__} {len(error.args)}")
def test_an_exception_of_abstract_syntaxes_is_a_transient_rejection(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_arguments: object) -> bool:
        raise error

    caplog.set_level(logging.INFO)
    with (
        StorageSCP(Recorder(), port=0, abstract_syntaxes=fail).in_thread() as scp,
        ScriptedSCU("127.0.0.1", scp.port) as peer,
    ):
        peer.send(request())
        rejection = peer.receive()
    assert isinstance(rejection, AssociateRJ)
    assert rejection.transient
    log = "\n".join(lines(caplog))
    assert "abstract_syntaxes_raised" in log
    assert "association_rejected" in log
    assert SECRET not in log

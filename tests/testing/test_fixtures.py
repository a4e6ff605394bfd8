"""The fixtures and the page about the kit, as a test suite elsewhere would use them."""

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SUITE = """
import threading
from pathlib import Path
from typing import Any

import dicomport
import pydicom
import pytest
from dicomport.testing.fixtures import ReceivingSCP

FILE = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"

def send(scp: ReceivingSCP) -> dicomport.SendReport:
    return dicomport.blocking.send([FILE], scp.host, scp.port, called_ae_title=scp.ae_title, ae_title="CT_1")

def test_sent_bytes_are_recorded(dicomport_scp: ReceivingSCP) -> None:
    assert dicomport_scp.instances == []
    assert not send(dicomport_scp).failed
    [instance] = dicomport_scp.instances
    sent = pydicom.dcmread(FILE)
    assert instance.sop_instance_uid == sent.SOPInstanceUID
    assert instance.dataset() == sent
    assert instance.file_meta.sending_ae_title == "CT_1"
    assert FILE.read_bytes().endswith(instance.data)
    assert instance.status == 0

def test_statuses_are_given_in_turn(dicomport_scp: ReceivingSCP) -> None:
    dicomport_scp.statuses = [0xA700, 0xB000]
    contexts = [dicomport.sop_classes.CTImageStorage]
    with dicomport.blocking.associate(dicomport_scp.host, dicomport_scp.port, contexts=contexts) as association:
        statuses = [association.c_store(FILE).status.code for _ in range(3)]
    assert statuses == [0xA700, 0xB000, 0]
    assert [instance.status for instance in dicomport_scp.instances] == statuses

def test_later_instances_can_be_awaited(dicomport_scp: ReceivingSCP) -> None:
    sending = threading.Thread(target=send, args=(dicomport_scp,))
    sending.start()
    assert len(dicomport_scp.wait_for(1)) == 1
    sending.join()
    with pytest.raises(TimeoutError, match="expected 2 instances, received 1 in 0.01 s"):
        dicomport_scp.wait_for(2, 0.01)

class TestWithOptions:
    @pytest.fixture
    def dicomport_scp_options(self) -> dict[str, Any]:
        return {"ae_title": "PACS", "check_called_ae_title": True}

    def test_they_count(self, dicomport_scp: ReceivingSCP) -> None:
        assert dicomport_scp.ae_title == "PACS"
        assert not send(dicomport_scp).failed
        assert dicomport.blocking.send([FILE], "127.0.0.1", dicomport_scp.port, called_ae_title="OTHER").failed
"""


def test_a_suite_that_asks_for_the_fixtures_has_them(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["dicomport.testing.fixtures"]')
    pytester.makepyfile(SUITE)
    pytester.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=4)


def test_nothing_else_imports_pytest(pytester: pytest.Pytester) -> None:
    program = pytester.makepyfile("import sys, dicomport.testing\nassert 'pytest' not in sys.modules")
    assert pytester.runpython(program).ret == 0


def test_the_examples_of_the_page_are_tests_that_pass(pytester: pytest.Pytester) -> None:
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    pytester.makeconftest('pytest_plugins = ["dicomport.testing.fixtures"]')
    pytester.makepyfile(**{f"test_example_{number}": example for number, example in enumerate(examples)})
    pytester.runpytest_subprocess().assert_outcomes(passed=sum(example.count("\ndef test_") for example in examples))

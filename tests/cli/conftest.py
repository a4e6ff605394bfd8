"""Commands that tests call in this process start with the format of the log that a new process has."""

import pytest

from dicomport.cli.console import LogFormat, set_log_format


@pytest.fixture(autouse=True)
def _text_is_logged() -> None:
    set_log_format(LogFormat.TEXT)

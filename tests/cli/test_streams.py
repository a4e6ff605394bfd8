"""Programs without a console, as under pythonw: standard streams that are closed or None."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Final

import pytest
from tests.cli.commands import FILES, dicomport, receiver, wait_until

CT: Final = FILES / "CT_small.dcm"
CLOSED: Final = 'exec "$@" <&- >&- 2>&-'


def without_streams(*arguments: str | Path) -> int:
    command = ["sh", "-c", CLOSED, "sh", sys.executable, "-m", "dicomport", *map(str, arguments)]
    return subprocess.run(command, check=False, timeout=60).returncode


def test_all_commands_work_without_standard_streams(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    with receiver(root) as found:
        assert without_streams("echoscu", "localhost", found.port) == 0
        assert without_streams("echoscu", "localhost", found.port, "--explain", "--json") == 0
        assert without_streams("storescu", "localhost", found.port, CT, "--json") == 0
        assert without_streams("storescu", "localhost", found.port, "-") == 1
        assert without_streams("storescu", "localhost", found.port, "nothing") == 1
        assert found.stop()[0] == 0
    for command in (("ls",), ("ls", "--json"), ("verify",), ("reindex",), ("export", "1.2", tmp_path / "copy")):
        assert without_streams("archive", *command, "--archive", root) == (command[0] == "export")
    assert without_streams("password", "user") == 2
    assert without_streams("demo") == 0
    assert without_streams("nothing") == 2
    assert without_streams("--help") == 0


def test_a_receiver_works_without_standard_streams(tmp_path: Path) -> None:
    port = 0
    with receiver(tmp_path / "other") as found:
        # This port is free after the other receiver has ended.
        port = int(found.port)
        found.stop()
    command = ["sh", "-c", CLOSED, "sh", sys.executable, "-m", "dicomport", "storescp", str(port), "--workers", "2"]
    process = subprocess.Popen([*command, "--archive", str(tmp_path / "archive"), "--json", "-d"])
    try:
        wait_until(lambda: dicomport("echoscu", "localhost", str(port)).returncode == 0)
        sent = dicomport("storescu", "localhost", str(port), CT)
        assert sent.returncode == 0, sent.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    [stored] = (tmp_path / "archive").glob("[!.]*/*/*.dcm")
    # Nothing that was printed is in it.
    assert stored.read_bytes()[:132] == bytes(128) + b"DICM"


LIBRARY: Final = """
    import os, sys
    sys.stdin = sys.stdout = sys.stderr = None
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    import logging
    from pathlib import Path
    from dicomport import StorageSCP, blocking

    logging.basicConfig(level=logging.DEBUG)

    def handler(request):
        if request.sop_class_uid.endswith(".2"):
            raise KeyError("fails")
        return 0

    with StorageSCP(handler, port=0).in_thread() as scp:
        report = blocking.send([{ct!r}, {mr!r}, "nothing"], "127.0.0.1", scp.port)
        none = blocking.send(["-"], "127.0.0.1", scp.port)
    statuses = sorted(result.status.code if result.status else -1 for result in report.results)
    os._exit(statuses == [-1, 0, 0xC211] and not none.accepted)
"""


def test_the_library_works_without_standard_streams() -> None:
    source = textwrap.dedent(LIBRARY.format(ct=str(CT), mr=str(FILES / "MR_small.dcm")))
    source = re.sub(r"os\._exit\((.*)\)", r"os._exit(7 if \1 else 1)", source)
    assert subprocess.run([sys.executable, "-c", source], check=False, timeout=60).returncode == 7


@pytest.mark.skipif(os.name != "posix", reason="closes descriptors")
def test_a_closed_descriptor_is_never_a_connection(tmp_path: Path) -> None:
    """Text for a closed stdout must not reach a peer."""
    with receiver(tmp_path / "archive") as found:
        assert without_streams("echoscu", "localhost", found.port, "--json", "-v") == 0
        _, _, err = found.stop()
    assert "connection_ended" not in err

"""`dicomport archive reindex` in a separate process, for tests that kill it.

It imports its modules, prints a line, and waits for the archive's folder on standard input. Then it prints a dot for
each file that it opens, so that a test kills it at any place, however fast it is.
"""

import os
import sys

from dicomport.cli import main

DOT = "."


def run() -> None:
    """Wait for the folder, and reindex."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    root = sys.stdin.readline().strip()
    if root:
        sys.addaudithook(_show)
        main(["archive", "reindex", "--archive", root])


def _show(event: str, _: object) -> None:
    if event == "open":
        os.write(1, DOT.encode())


if __name__ == "__main__":
    run()

"""`dicomport archive reindex` in a separate process, for tests that kill it.

It imports its modules, prints a line, and waits for the archive's folder on standard input.
"""

import sys

from dicomport.cli import main


def run() -> None:
    """Wait for the folder, and reindex."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    root = sys.stdin.readline().strip()
    if root:
        main(["archive", "reindex", "--archive", root])


if __name__ == "__main__":
    run()

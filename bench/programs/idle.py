"""Open associations and leave them idle until standard input ends: python -m bench.programs.idle PORT NUMBER.

It prints a line once the first is established, and another line once all are.
"""

from __future__ import annotations

import contextlib
import sys

from dicomport import blocking
from dicomport.standard import VERIFICATION


def _idle(port: int, number: int) -> None:
    with contextlib.ExitStack() as associations:
        for index in range(number):
            associations.enter_context(blocking.associate("127.0.0.1", port, contexts=[VERIFICATION]))
            if index in (0, number - 1):
                print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _idle(int(sys.argv[1]), int(sys.argv[2]))

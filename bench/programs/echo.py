"""Print how many seconds C-ECHOs take on one association: python -m bench.programs.echo PORT NUMBER."""

from __future__ import annotations

import sys
import time

from dicomport import blocking
from dicomport.standard import VERIFICATION


def _echo(port: int, number: int) -> float:
    with blocking.associate("127.0.0.1", port, contexts=[VERIFICATION]) as association:
        association.c_echo()
        started = time.perf_counter()
        for _ in range(number):
            if not association.c_echo().accepted:
                raise SystemExit("an echo was refused")
        return time.perf_counter() - started


if __name__ == "__main__":
    print(_echo(int(sys.argv[1]), int(sys.argv[2])))

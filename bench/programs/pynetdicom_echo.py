"""Print how many seconds pynetdicom's C-ECHOs take: python -m bench.programs.pynetdicom_echo PORT NUMBER."""

from __future__ import annotations

import sys
import time

from pynetdicom import AE


def _echo(port: int, number: int) -> float:
    entity = AE()
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate("127.0.0.1", port)
    association.send_c_echo()
    started = time.perf_counter()
    for _ in range(number):
        if association.send_c_echo().Status != 0:
            raise SystemExit("an echo was refused")
    seconds = time.perf_counter() - started
    association.release()
    return seconds


if __name__ == "__main__":
    print(_echo(int(sys.argv[1]), int(sys.argv[2])))

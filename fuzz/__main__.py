"""Fuzz each target for a time with atheris, and keep the inputs that violate an invariant.

    python -m fuzz [TARGET ...] [--seconds 60] [--folder .fuzz]
    python -m fuzz [TARGET ...] --short

FOLDER/TARGET keeps the inputs that a target has learned and is its starting point the next time; findings are written
to FOLDER/findings. `--short` is the same every time: a fixed seed, the number of runs from `SHORT`, nothing learned.
Exits with 1 if there is a finding, with 2 if atheris is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fuzz.seeds import CORPUS
from fuzz.targets import TARGETS

SHORT: Final = {
    "pdu": 30_000,
    "item": 40_000,
    "command_set": 40_000,
    "file_meta": 40_000,
    "commitment": 20_000,
    "scanner": 6_000,
    "character_set": 30_000,
    "name": 15_000,
    "association": 3_000,
    "index": 300,
    "ways": 300,
    "conversion": 8_000,
    "labels": 8_000,
    "tar": 5_000,
}
"""Number of runs of each target, which takes some seconds."""

_BOUNDS: Final = ("-timeout=120", "-rss_limit_mb=1024", "-max_len=4096", "-print_final_stats=1")
"""A run of two minutes, which is too long even on a busy machine, and a process of 1 GiB are findings, too."""


def main() -> int:
    """Fuzz and print the results."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz dicomport with atheris.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=int, default=60, help="seconds for each target (default: 60)")
    parser.add_argument("--folder", type=Path, default=Path(".fuzz"), help="folder for learned inputs and findings")
    parser.add_argument("--short", action="store_true", help="a fixed number of runs from a fixed seed")
    options = parser.parse_args()
    for target in options.targets:
        if target not in TARGETS:
            parser.error(f"{target}: unknown target")
    if importlib.util.find_spec("atheris") is None:
        print(
            f"atheris is not available for this Python ({sys.version.split()[0]}), or not installed: pip install "
            "'.[fuzz]'. Without it, `pytest tests/fuzz` runs the same targets over their seeds and mutations of them."
        )
        return 2
    findings = options.folder / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    found = 0
    for target in options.targets or TARGETS:
        limits = ("-seed=1", f"-runs={SHORT[target]}") if options.short else (f"-max_total_time={options.seconds}",)
        with _learned(options.folder / target, keep=not options.short) as learned:
            found += not _fuzz(target, limits, learned, findings)
    if found:
        print(f"Findings are in {findings}. To reproduce one: python -m fuzz.process TARGET FILE")
    return int(found > 0)


@contextlib.contextmanager
def _learned(folder: Path, *, keep: bool) -> Iterator[Path]:
    if keep:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    else:
        with tempfile.TemporaryDirectory() as made:
            yield Path(made)


def _fuzz(target: str, limits: tuple[str, ...], learned: Path, findings: Path) -> bool:
    """Fuzz one target; return whether its invariants hold."""
    began = time.monotonic()
    process = subprocess.run(
        (
            *(sys.executable, "-m", "fuzz.process", target, *_BOUNDS, *limits),
            *(f"-artifact_prefix={findings}/{target}-", str(learned), str(CORPUS / target)),
        ),
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # Fix the order of sets of strings, so that each run is the same.
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    runs = re.search(r"number_of_executed_units: (\d+)", process.stdout)
    seconds = time.monotonic() - began
    print(f"{target:14} {runs[1] if runs else '?':>9} runs in {seconds:5.1f} s: ", end="")
    if process.returncode == 0:
        print("held", flush=True)
        return True
    print(f"broken\n{_last_part(process.stdout)}", flush=True)
    return False


def _last_part(output: str) -> str:
    """Leave out libFuzzer's progress."""
    return "\n".join(line for line in output.splitlines() if not re.match(r"#\d+|INFO:|stat::", line))


if __name__ == "__main__":
    sys.exit(main())

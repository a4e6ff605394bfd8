"""One target under atheris, in a process of its own, as libFuzzer ends the process that it runs in.

With a file instead of folders the target is run once, on what the file holds:

    python -m fuzz.process TARGET [LIBFUZZER-OPTION...] [FOLDER... | FILE]
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=[f"dicomport.{room}" for room in ("wire", "core", "archive", "files", "scu")]):
    from fuzz.targets import TARGETS


def main() -> None:
    """Fuzz until the options say that it is enough, or something is found."""
    program, target, *options = sys.argv
    atheris.Setup([program, *options], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()

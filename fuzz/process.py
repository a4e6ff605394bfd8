"""One target under atheris, in a separate process, because libFuzzer ends its process.

With a file instead of folders, the target runs once, on the file's content:

    python -m fuzz.process TARGET [LIBFUZZER-OPTION...] [FOLDER... | FILE]
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=[f"dicomport.{room}" for room in ("wire", "core", "archive", "files", "scu")]):
    from fuzz.targets import TARGETS


def main() -> None:
    """Fuzz up to the limit of the options, or up to a finding."""
    program, target, *options = sys.argv
    atheris.Setup([program, *options], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()

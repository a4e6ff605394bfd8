"""Send each file of a folder over a separate association: python -m bench.programs.one_each PORT FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

from dicomport import blocking
from dicomport.scu import instance_from_path


def _send(port: int, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        instance = instance_from_path(path)
        contexts = [(instance.sop_class_uid, instance.transfer_syntax_uid)]
        with blocking.associate("127.0.0.1", port, contexts=contexts) as association:
            if not association.c_store(instance).accepted:
                raise SystemExit(f"{path} was refused")


if __name__ == "__main__":
    _send(int(sys.argv[1]), Path(sys.argv[2]))

"""Run Orthanc as a receiver into a folder: python -m bench.programs.orthanc PORT FOLDER."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def _become(port: int, folder: str) -> None:
    configuration = Path(folder) / "orthanc.json"
    settings = {
        "DicomPort": port,
        "HttpServerEnabled": False,
        "IndexDirectory": folder,
        "MaximumPduLength": 131072,
        "Plugins": [],
        "StorageDirectory": folder,
    }
    configuration.write_text(json.dumps(settings), encoding="utf-8")
    os.execvp("Orthanc", ("Orthanc", str(configuration)))


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2])

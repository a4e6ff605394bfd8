"""The events and fields of the log as docs/logging.md lists them, and a handler that holds all records to it."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any, Final

TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "list": list,
    "object": dict,
}

_PAGE: Final = (Path(__file__).parents[1] / "docs" / "logging.md").read_text()


def _rows(heading: str) -> list[list[str]]:
    section = re.split(r"^## ", _PAGE.partition(f"## {heading}\n")[2], flags=re.MULTILINE)[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in re.findall(r"^\| `.*\|$", section, re.MULTILINE)
    ]


EVENTS: Final = {row[0].strip("`") for row in _rows("Events")}

FIELDS: Final = {
    name: row[1] for heading in ("Fields", "PDUs") for row in _rows(heading) for name in re.findall(r"`(\w+)`", row[0])
}
"""The type of each field."""


class Audit(logging.Handler):
    """Notes each event and field that is not as documented."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] | None = getattr(record, "fields", None)
        if fields is None or record.name == "dicomport.test":
            return
        if fields["event"] not in EVENTS:
            self.faults.add(f"event {fields['event']} is not documented")
        for name, value in json.loads(json.dumps(fields)).items():
            expected = FIELDS.get(name)
            is_right = expected is not None and isinstance(value, TYPES[expected])
            if not is_right or (isinstance(value, bool) and expected != "boolean"):
                self.faults.add(f"{fields['event']}: {name}={value!r}, documented as {expected}")

"""Where in the archive an instance goes: a template over fields of the instance, each made into one safe name."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from typing import Final

from dicomport.archive.scanner import InstanceFacts
from dicomport.files import file_name

__all__ = ["DEFAULT_LAYOUT", "FIELDS", "Layout"]

DEFAULT_LAYOUT: Final = "{study}/{series}/{instance}"

FIELDS: Final[Mapping[str, Callable[[InstanceFacts], str]]] = {
    "study": lambda facts: facts.study_instance_uid,
    "series": lambda facts: facts.series_instance_uid,
    "instance": lambda facts: facts.sop_instance_uid,
    "class": lambda facts: facts.sop_class_uid,
    "modality": lambda facts: facts.modality,
    "study_date": lambda facts: facts.study_date,
    "patient_id": lambda facts: facts.patient_id,
    "accession_number": lambda facts: facts.accession_number,
    "series_number": lambda facts: facts.series_number,
}
"""What a template may name beside `calling`, the calling AE title."""


class Layout:
    """A template for the paths of instances, such as "{study_date}/{patient_id}/{study}/{series}/{instance}".

    Every field becomes a name that can't leave its folder and that no other value has (see
    `dicomport.files.file_name`). The last folder must hold the instance's name: without "{instance}" in it, files
    would meet.
    """

    def __init__(self, template: str = DEFAULT_LAYOUT) -> None:
        """Check the template. Raises `ValueError`, which says what is wrong with it."""
        parts = template.split("/")
        used: set[str] = set()
        for part in parts:
            fields = [field for _, field, spec, conversion in string.Formatter().parse(part) if field is not None]
            unknown = [field for field in fields if field not in FIELDS and field != "calling"]
            if unknown:
                raise ValueError(
                    f"{{{unknown[0]}}} is no field of a layout; there are {', '.join((*FIELDS, 'calling'))}"
                )
            used.update(fields)
            if not part or part.startswith(".") or "\\" in part:
                raise ValueError(f"{part!r} can't be a part of a layout: it is empty, hidden or not portable")
        if "{instance}" not in parts[-1]:
            raise ValueError("the last part of a layout needs {instance}: without it files would meet")
        self._folder = "/".join(parts[:-1])
        self._stem = parts[-1]
        self._used = [(name, field) for name, field in FIELDS.items() if name in used]

    def place(self, facts: InstanceFacts, calling_ae_title: str) -> tuple[str, str]:
        """Give the folder, relative to the archive, and the file's name without its suffix."""
        values = {name: file_name(field(facts)) for name, field in self._used}
        values["calling"] = file_name(calling_ae_title)
        return self._folder.format(**values), self._stem.format(**values)

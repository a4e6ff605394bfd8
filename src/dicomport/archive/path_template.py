"""Where in the archive an instance goes: a template over fields of the instance, each made into one safe name."""

from __future__ import annotations

import functools
import string
from collections.abc import Mapping
from typing import Final

from dicomport.archive.scan.scanner import InstanceFacts
from dicomport.files import file_name

__all__ = ["DEFAULT_LAYOUT", "FIELDS", "Layout"]

DEFAULT_LAYOUT: Final = "{study}/{series}/{instance}"

FIELDS: Final[Mapping[str, str]] = {
    "study": "study_instance_uid",
    "series": "series_instance_uid",
    "instance": "sop_instance_uid",
    "class": "sop_class_uid",
    "modality": "modality",
    "study_date": "study_date",
    "patient_id": "patient_id",
    "accession_number": "accession_number",
    "series_number": "series_number",
}
"""What a template may name beside the calling AE title, and which of the facts that is."""

_CALLING: Final = "calling"


class Layout:
    """A template for the paths of instances, such as "{study_date}/{patient_id}/{study}/{series}/{instance}".

    Every field becomes a name that can't leave its folder and that no other value has (see
    `dicomport.files.file_name`). The last folder must hold the instance's name: without "{instance}" in it, files
    would meet.
    """

    def __init__(self, template: str = DEFAULT_LAYOUT) -> None:
        """Check the template. Raises `ValueError`, which says what is wrong with it."""
        parts = template.split("/")
        for part in parts:
            unknown = [field for field in _fields_of(part) if field not in FIELDS and field != _CALLING]
            if unknown:
                raise ValueError(
                    f"{{{unknown[0]}}} is no field of a layout; there are {', '.join((*FIELDS, _CALLING))}"
                )
            if not part or part.startswith(".") or "\\" in part:
                raise ValueError(f"{part!r} can't be a part of a layout: it is empty, hidden or not portable")
        if "{instance}" not in parts[-1]:
            raise ValueError("the last part of a layout needs {instance}: without it files would meet")
        self._folder = "/".join(parts[:-1])
        self._stem = parts[-1]
        self._in_folder = _fields_of(self._folder)
        self._in_stem = _fields_of(self._stem)

    def place(self, facts: InstanceFacts, calling_ae_title: str) -> tuple[str, str]:
        """Give the folder, relative to the archive, and the file's name without its suffix."""
        folder, stem = [
            tuple([calling_ae_title if name == _CALLING else getattr(facts, FIELDS[name]) for name in names])
            for names in (self._in_folder, self._in_stem)
        ]
        return _filled_again(self._folder, self._in_folder, folder), _filled(self._stem, self._in_stem, stem)


def _fields_of(template: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(field for _, field, _, _ in string.Formatter().parse(template) if field is not None))


def _filled(template: str, names: tuple[str, ...], texts: tuple[str, ...]) -> str:
    return template.format(**dict(zip(names, map(file_name, texts), strict=True)))


_filled_again: Final = functools.lru_cache(maxsize=64)(_filled)
"""For folders, which are those of the instance before."""

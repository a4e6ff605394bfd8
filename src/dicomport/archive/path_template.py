"""The template for the paths of instances in the archive; each field becomes a safe file name."""

from __future__ import annotations

import functools
import string
from collections.abc import Mapping
from typing import Final

from dicomport.archive.scan.attributes import InstanceAttributes
from dicomport.files import LOST_AND_FOUND, file_name, shortened

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
"""Fields of a template, besides the calling AE title, and the attributes of `InstanceAttributes` that they name."""

_MAX_PART_BYTES: Final = 255
"""Limit of a name on common file systems."""

_MAX_STEM_BYTES: Final = _MAX_PART_BYTES - len("~1000.dcm")
"""Limit of a file's name without its suffix: the suffix and the number of a duplicate need the rest."""

_CALLING: Final = "calling"


class Layout:
    """A template for the paths of instances, such as "{study_date}/{patient_id}/{study}/{series}/{instance}".

    Each field becomes a name that cannot lead out of its folder, and different values have different names (see
    `dicomport.files.file_name`). The last part must contain "{instance}": otherwise files could overwrite each other.
    """

    def __init__(self, template: str = DEFAULT_LAYOUT) -> None:
        """Parse the template. Raises `ValueError`, which describes the error."""
        parts = template.split("/")
        for part in parts:
            unknown = [field for field in _fields_of(part) if field not in FIELDS and field != _CALLING]
            if unknown:
                raise ValueError(
                    f"unknown field {{{unknown[0]}}} in a layout; expected one of {', '.join((*FIELDS, _CALLING))}"
                )
            if not part or part.startswith(".") or "\\" in part:
                raise ValueError(f"invalid part {part!r} of a layout: it is empty, hidden or not portable")
        if parts[0] == LOST_AND_FOUND:
            raise ValueError(f"invalid part {parts[0]!r} of a layout: this folder belongs to the file system")
        if "{instance}" not in parts[-1]:
            raise ValueError("the last part of a layout needs {instance}: without it, files could overwrite each other")
        self._folder = "/".join(parts[:-1])
        self._stem = parts[-1]
        self._in_folder = _fields_of(self._folder)
        self._in_stem = _fields_of(self._stem)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and (self._folder, self._stem) == (other._folder, other._stem)

    def __hash__(self) -> int:
        return hash((self._folder, self._stem))

    def place(self, attributes: InstanceAttributes, calling_ae_title: str) -> tuple[str, str]:
        """Return the folder, relative to the archive, and the file's name without its suffix."""
        folder, stem = [
            tuple([calling_ae_title if name == _CALLING else getattr(attributes, FIELDS[name]) for name in names])
            for names in (self._in_folder, self._in_stem)
        ]
        return (
            _folder_cached(self._folder, self._in_folder, folder),
            shortened(_filled(self._stem, self._in_stem, stem), _MAX_STEM_BYTES),
        )


def path_in(place: str, name: str) -> str:
    """Return the path of a file in a folder that `Layout.place` has returned, which may be the archive's."""
    return f"{place}/{name}" if place else name


def _fields_of(template: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(field for _, field, _, _ in string.Formatter().parse(template) if field is not None))


def _filled(template: str, names: tuple[str, ...], texts: tuple[str, ...]) -> str:
    return template.format(**dict(zip(names, map(file_name, texts), strict=True)))


@functools.lru_cache(maxsize=64)
def _folder_cached(template: str, names: tuple[str, ...], texts: tuple[str, ...]) -> str:
    """Return a folder; cached, because successive instances usually have the same."""
    return "/".join(shortened(part, _MAX_PART_BYTES) for part in _filled(template, names, texts).split("/"))

"""Edit the values and UIDs of instances, for test sends."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import hashlib
import io
import secrets
from collections.abc import Mapping
from typing import Any, Final

from pydicom import Dataset, dcmread
from pydicom.charset import convert_encodings, default_encoding
from pydicom.config import RAISE
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_dict
from pydicom.dataelem import DataElement
from pydicom.tag import BaseTag

from dicomport.scu.inputs.instance import Instance, NotSendableError, check_instance, encode_dataset
from dicomport.scu.inputs.temporary import spooled
from dicomport.wire import FileMeta, encode_file_meta

_FIRST_GROUP: Final = 0x0008
"""Lower groups are those of commands, file meta and directories."""
_FIXED: Final = frozenset((keyword_dict["SOPClassUID"], keyword_dict["SpecificCharacterSet"]))
"""The SOP Class is already negotiated, and another character set would change the meaning of all text."""
_INVENTED: Final = frozenset(
    keyword_dict[keyword]
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "ReferencedSOPInstanceUID")
)
_NUMBERS: Final[dict[str, type[int | float]]] = {
    **dict.fromkeys(("SL", "SS", "SV", "UL", "US", "UV"), int),
    **dict.fromkeys(("FD", "FL"), float),
}
_TEXTS: Final = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
)


class Editor:
    """Sets elements of each instance of a run, and replaces UIDs.

    A new UID is a keyed hash of the old one, with a random key for each editor. So studies and series stay together,
    references between sent instances stay valid, and an instance that is edited again gets the same UIDs.
    """

    def __init__(self, values: Mapping[str, str], *, invent_uids: bool = False) -> None:
        """Set these values by keyword (PS3.6); a backslash separates multiple values.

        Raises `ValueError` for an unknown keyword or an invalid value.
        """
        self._elements = [_element(keyword, text) for keyword, text in values.items()]
        self._secret = secrets.token_bytes(16) if invent_uids else None

    def edit(self, instance: Instance) -> Instance:
        """Return the edited instance, in its transfer syntax. Raises `NotSendableError`.

        Other elements stay byte for byte. It needs memory of two to three times the length of the data set.
        """
        meta = FileMeta(
            media_storage_sop_class_uid=instance.sop_class_uid,
            media_storage_sop_instance_uid=instance.sop_instance_uid,
            transfer_syntax_uid=instance.transfer_syntax_uid,
        )
        data = instance.read()
        try:
            dataset = dcmread(io.BytesIO(encode_file_meta(meta) + data))
            self._edit(dataset)
        except NotSendableError:
            raise
        except Exception as error:  # pydicom raises exceptions of any type
            raise NotSendableError(f"pydicom cannot read the data set: {error}") from error
        meta, data = encode_dataset(dataset)
        edited = check_instance(meta, spooled(data, instance.stamp), instance.name, data=data)
        return dataclasses.replace(
            edited,
            converted_from=instance.converted_from,
            deviations=(*instance.deviations, *edited.deviations),
        )

    def _edit(self, dataset: Dataset) -> None:
        if self._secret is not None:
            _replace_uids(dataset, self._secret)
        codecs = convert_encodings(dataset.get("SpecificCharacterSet") or "ISO_IR 6")
        for element in self._elements:
            text = str(element.value)
            if not any(_can_encode(text, codec) for codec in codecs):
                raise NotSendableError(f"its Specific Character Set (0008,0005) cannot encode {text!r}")
            # A copy: a person name keeps its encoding.
            dataset[element.tag] = copy.deepcopy(element)


def _element(keyword: str, text: str) -> DataElement:
    """Return an element. Raises `ValueError`."""
    tag = keyword_dict.get(keyword)
    if tag is None or not keyword:
        near = difflib.get_close_matches(keyword, keyword_dict, 1)
        raise ValueError(f"unknown keyword {keyword!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    vr = dictionary_VR(tag)
    if tag >> 16 < _FIRST_GROUP or tag in _FIXED or not (vr in _TEXTS or vr in _NUMBERS):
        raise ValueError(f"cannot set {keyword}: expected text or a number, but not SOP Class or character set")
    try:
        value: Any = [_NUMBERS[vr](one) for one in text.split("\\")] if vr in _NUMBERS and text else text
        return DataElement(tag, vr, value, validation_mode=RAISE)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"invalid value {text!r} of {keyword} ({vr}): {error}") from None


def _can_encode(text: str, codec: str) -> bool:
    try:
        # The default repertoire is ASCII (PS3.5 6.1.2.1), but pydicom also accepts other characters.
        text.encode("ascii" if codec == default_encoding else codec)
    except UnicodeEncodeError:
        return False
    return True


def _replace_uids(dataset: Dataset, secret: bytes) -> None:
    """Replace the UIDs at each level. Only UIDs and sequences are decoded."""
    for tag in list(dataset.keys()):
        if tag in _INVENTED:
            old = str(dataset[tag].value or "")
            if old:
                dataset[tag].value = f"2.25.{_number(old, secret)}"
        elif not tag.is_private and _vr(dataset, tag) == "SQ":
            for item in dataset[tag].value:
                _replace_uids(item, secret)


def _vr(dataset: Dataset, tag: BaseTag) -> str:
    """Return a VR without decoding the value."""
    vr = dataset.get_item(tag).VR
    return vr or (dictionary_VR(tag) if dictionary_has_tag(tag) else "")


def _number(old: str, secret: bytes) -> int:
    """Return the number of a new UID (PS3.5 B.2)."""
    return int.from_bytes(hashlib.blake2b(old.encode(), key=secret, digest_size=16).digest())

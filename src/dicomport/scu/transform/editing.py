"""Instances with other values than they were found with, for test sends."""

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
from dicomport.wire import FileMeta, FileMetaError, encode_file_meta

__all__ = ["Editor"]

_CHUNK_BYTES: Final = 1 << 20
_FIRST_GROUP: Final = 0x0008
"""Below it are commands, file headers and directories."""
_FIXED: Final = frozenset((keyword_dict["SOPClassUID"], keyword_dict["SpecificCharacterSet"]))
"""The one is negotiated before, and the other would change what all text means."""
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
    """What is done to each instance of a run: some elements get a value, and UIDs new ones.

    New UIDs come of the old ones and of a secret of the editor's own. So what was one study or one series still is,
    references among what is sent still lead to it, and an instance that is edited again gets the same UIDs again.
    """

    def __init__(self, values: Mapping[str, str], *, invent_uids: bool = False) -> None:
        """Take a value for each keyword (PS3.6), several of them with backslashes between.

        Raises `ValueError` for what is no keyword, or no value for its element.
        """
        self._elements = [_element(keyword, text) for keyword, text in values.items()]
        self._secret = secrets.token_bytes(16) if invent_uids else None

    def edit(self, instance: Instance) -> Instance:
        """Give the instance as it is to be sent, in its transfer syntax. Raises `NotSendableError`.

        What is not edited stays byte for byte as it is. It takes two to three times its length in memory.
        """
        meta = FileMeta(
            media_storage_sop_class_uid=instance.sop_class_uid,
            media_storage_sop_instance_uid=instance.sop_instance_uid,
            transfer_syntax_uid=instance.transfer_syntax_uid,
        )
        try:
            data = b"".join(map(bytes, instance.chunks(_CHUNK_BYTES)))
        except (OSError, FileMetaError) as error:
            raise NotSendableError(f"can't be read: {error}") from error
        try:
            dataset = dcmread(io.BytesIO(encode_file_meta(meta) + data))
            self._edit(dataset)
        except NotSendableError:
            raise
        except Exception as error:  # pydicom raises whatever its parsing ran into
            raise NotSendableError(f"pydicom can't read the data set: {error}") from error
        edited, data = encode_dataset(dataset)
        return dataclasses.replace(
            check_instance(edited, spooled(data, instance.stamp), instance.name), converted_from=instance.converted_from
        )

    def _edit(self, dataset: Dataset) -> None:
        if self._secret is not None:
            _replace_uids(dataset, self._secret)
        codecs = convert_encodings(dataset.get("SpecificCharacterSet") or "ISO_IR 6")
        for element in self._elements:
            text = str(element.value)
            if not any(_can_encode(text, codec) for codec in codecs):
                raise NotSendableError(f"its Specific Character Set (0008,0005) has no characters for {text!r}")
            # A copy: a name remembers how it was encoded.
            dataset[element.tag] = copy.deepcopy(element)


def _element(keyword: str, text: str) -> DataElement:
    """Make an element. Raises `ValueError`."""
    tag = keyword_dict.get(keyword)
    if tag is None or not keyword:
        near = difflib.get_close_matches(keyword, keyword_dict, 1)
        raise ValueError(f"{keyword!r} is no keyword of an element" + (f": is {near[0]} meant?" if near else ""))
    vr = dictionary_VR(tag)
    if tag >> 16 < _FIRST_GROUP or tag in _FIXED or not (vr in _TEXTS or vr in _NUMBERS):
        raise ValueError(f"{keyword} can't be set")
    try:
        value: Any = [_NUMBERS[vr](one) for one in text.split("\\")] if vr in _NUMBERS and text else text
        return DataElement(tag, vr, value, validation_mode=RAISE)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is no value of {keyword} ({vr}): {error}") from None


def _can_encode(text: str, codec: str) -> bool:
    try:
        # pydicom is more liberal with the default repertoire, which is no more than this (PS3.5 6.1.2.1).
        text.encode("ascii" if codec == default_encoding else codec)
    except UnicodeEncodeError:
        return False
    return True


def _replace_uids(dataset: Dataset, secret: bytes) -> None:
    """Replace the UIDs at each level; what is neither a UID nor a sequence is not decoded."""
    for tag in list(dataset.keys()):
        if tag in _INVENTED:
            old = str(dataset[tag].value or "")
            if old:
                dataset[tag].value = f"2.25.{_number(old, secret)}"
        elif not tag.is_private and _vr(dataset, tag) == "SQ":
            for item in dataset[tag].value:
                _replace_uids(item, secret)


def _vr(dataset: Dataset, tag: BaseTag) -> str:
    """Tell a VR without decoding the value."""
    vr = dataset.get_item(tag).VR
    return vr or (dictionary_VR(tag) if dictionary_has_tag(tag) else "")


def _number(old: str, secret: bytes) -> int:
    """Make up the number of a UID (PS3.5 B.2)."""
    return int.from_bytes(hashlib.blake2b(old.encode(), key=secret, digest_size=16).digest())

"""The targets by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from fuzz.archive import character_set, name, scanner
from fuzz.association import association
from fuzz.index import index
from fuzz.receiver import ways
from fuzz.sender import conversion, labels, tar
from fuzz.wire import command_set, commitment, file_meta, item, pdu

__all__ = ["TARGETS", "Target"]

Target: TypeAlias = Callable[[bytes], object]
"""Returns for any bytes; an exception is a defect."""

TARGETS: Final[Mapping[str, Target]] = {
    target.__name__: target
    for target in (
        *(pdu, item, command_set, file_meta, commitment),
        *(scanner, character_set, name, association, index, ways),
        *(conversion, labels, tar),
    )
}

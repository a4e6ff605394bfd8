"""Presentation Contexts as option values."""

from __future__ import annotations

from typing import Any, Final

import click

from dicomport.scu import ContextLike
from dicomport.standard import SOPClass, TransferSyntax, looks_like_uid, sop_classes, transfer_syntaxes

_SYNTAXES: Final = {syntax.keyword: syntax for syntax in transfer_syntaxes}


class _Context(click.ParamType[ContextLike]):
    name = "CLASS[:SYNTAX,...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ContextLike:
        name, colon, syntaxes = value.partition(":")
        try:
            sop_class = _sop_class(name)
            return (sop_class, [_transfer_syntax(syntax) for syntax in syntaxes.split(",")]) if colon else sop_class
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _sop_class(name: str) -> SOPClass | str:
    if looks_like_uid(name):
        return name
    found = sop_classes.find(name)
    if found is None:
        raise ValueError(
            f"{name!r} is not a SOP Class: use a UID or the keyword of a storage class, such as CTImageStorage"
        )
    return found


def _transfer_syntax(name: str) -> TransferSyntax | str:
    if looks_like_uid(name):
        return name
    found = _SYNTAXES.get(name)
    if found is None:
        raise ValueError(f"{name!r} is not a transfer syntax: use a UID or a keyword, such as JPEGBaseline8Bit")
    return found


CONTEXT: Final = _Context()

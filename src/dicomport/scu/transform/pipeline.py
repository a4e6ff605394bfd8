"""Transforms instances before they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from dicomport.scu.contexts import uncompressed_default
from dicomport.scu.inputs.instance import Instance, NotSendableError
from dicomport.standard import describe

if TYPE_CHECKING:
    from dicomport.scu.transform.editing import Editor


class AcceptedSyntaxes(Protocol):
    """The transfer syntaxes that a peer has accepted on an association."""

    def context_for(self, sop_class_uid: str, transfer_syntax_uid: str) -> object | None:
        """Return the accepted presentation context for a SOP Class in a transfer syntax, if there is one."""

    def describe_accepted_syntaxes(self, instance: Instance) -> str:
        """Describe the other transfer syntaxes that the peer accepts for an instance's SOP Class; empty if none."""


class Transform:
    """Conversion and editing of each instance; by default neither.

    With `convert`, an instance whose transfer syntax the peer rejects is converted without loss to one that it accepts:
    explicit or implicit VR, big to little endian, deflated or inflated, decompressed if it was compressed without loss.
    `values` (by keyword, PS3.6) replace those of each data set. With `invent_uids`, studies, series and instances get
    new UIDs, for test sends. Raises `ValueError` for an unknown keyword or an invalid value.
    """

    def __init__(
        self, *, convert: bool = False, values: Mapping[str, str] | None = None, invent_uids: bool = False
    ) -> None:
        self._converts = convert
        self._editor: Editor | None = None
        if values or invent_uids:
            from dicomport.scu.transform.editing import Editor

            self._editor = Editor(values or {}, invent_uids=invent_uids)

    @property
    def is_empty(self) -> bool:
        """Whether each instance is sent as it is."""
        return self._editor is None and not self._converts

    def alternatives(self, transfer_syntax_uid: str) -> tuple[str, ...]:
        """Return the transfer syntaxes to propose in addition to an instance's own, in the order of preference."""
        default = uncompressed_default(transfer_syntax_uid)
        if not self._converts:
            return default
        from dicomport.scu.transform.conversion import alternatives

        return tuple(dict.fromkeys((*alternatives(transfer_syntax_uid), *default)))

    async def prepare(self, instance: Instance, association: AcceptedSyntaxes) -> Instance:
        """Return the instance to send over an association in place of this one. Raises `NotSendableError`."""
        if self._editor is not None:
            instance = await asyncio.to_thread(self._editor.edit, instance)
        if self._converts and not _is_accepted(association, instance, instance.transfer_syntax_uid):
            from dicomport.scu.transform.conversion import alternatives, convert, lacks_decoder

            if lacks_decoder(instance.transfer_syntax_uid):
                raise NotSendableError(
                    f"the peer does not accept {describe(instance.transfer_syntax_uid)}, and no decoder for it is "
                    'installed: pip install "dicomport[codecs]"'
                )
            for syntax in alternatives(instance.transfer_syntax_uid):
                if _is_accepted(association, instance, syntax):
                    return await asyncio.to_thread(convert, instance, syntax)
            accepted = association.describe_accepted_syntaxes(instance)
            if accepted:
                raise NotSendableError(f"{accepted}: it cannot be converted to these without the risk of a loss")
        return instance


def _is_accepted(association: AcceptedSyntaxes, instance: Instance, transfer_syntax_uid: str) -> bool:
    return association.context_for(instance.sop_class_uid, transfer_syntax_uid) is not None

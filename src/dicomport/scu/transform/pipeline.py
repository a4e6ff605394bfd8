"""What instances go through before they are sent, where the sender was asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dicomport.scu.association import ClientAssociation
from dicomport.scu.contexts import uncompressed_default
from dicomport.scu.inputs.instance import Instance, NotSendableError

if TYPE_CHECKING:
    from dicomport.scu.transform.editing import Editor

__all__ = ["Transform"]


class Transform:
    """Says what becomes of each instance on its way; by default nothing.

    With `convert`, one whose transfer syntax the peer refuses goes in another one that the peer takes and that loses
    nothing: explicit or implicit VR, little endian for big, deflated or not, decompressed where it was compressed
    without loss. `values` (by keyword, see PS3.6) are put into each data set. With `invent_uids` studies, series and
    instances get new UIDs, for test sends. Raises `ValueError` for a keyword or a value that is none.
    """

    def __init__(
        self, *, convert: bool = False, values: Mapping[str, str] | None = None, invent_uids: bool = False
    ) -> None:
        self._converts = convert
        self._editor: Editor | None = None
        if values or invent_uids:
            from dicomport.scu.transform.editing import Editor

            self._editor = Editor(values or {}, invent_uids=invent_uids)

    def alternatives(self, transfer_syntax_uid: str) -> tuple[str, ...]:
        """Give the transfer syntaxes that are proposed beside an instance's own, in the order of preference."""
        default = uncompressed_default(transfer_syntax_uid)
        if not self._converts:
            return default
        from dicomport.scu.transform.conversion import alternatives

        return tuple(dict.fromkeys((*alternatives(transfer_syntax_uid), *default)))

    async def prepare(self, instance: Instance, association: ClientAssociation) -> Instance:
        """Give what is to be sent in an instance's place over an association. Raises `NotSendableError`."""
        if self._editor is not None:
            instance = await asyncio.to_thread(self._editor.edit, instance)
        if self._converts and not _is_taken(association, instance, instance.transfer_syntax_uid):
            from dicomport.scu.transform.conversion import alternatives, convert

            for syntax in alternatives(instance.transfer_syntax_uid):
                if _is_taken(association, instance, syntax):
                    return await asyncio.to_thread(convert, instance, syntax)
            instead = association.describe_accepted_syntaxes(instance)
            if instead:
                raise NotSendableError(f"{instead}: it can't be converted to that here without the risk of a loss")
        return instance


def _is_taken(association: ClientAssociation, instance: Instance, transfer_syntax_uid: str) -> bool:
    return association.context_for(instance.sop_class_uid, transfer_syntax_uid) is not None
